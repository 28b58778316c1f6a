//! A Redis that is killed, frozen, flushed or short of memory: misses, never an error, never an old answer.

use std::time::Duration;

use cache::{Cache, Cached};

use crate::{LONG, connect, get, number, put, until};

async fn until_kept(cache: &Cache, json: &str) {
    until("Redis takes entries again", async || {
        let ticket = cache.get(&number(1)).await.ticket;
        cache.put(&number(1), Cached::success(json), LONG, ticket).await
    })
    .await;
}

#[tokio::test]
async fn what_one_process_invalidates_no_other_finds() {
    let server = testkit::redis().await;
    let (one, other) = (connect(&server), connect(&server));
    let digest = number(1).arguments_digest;
    for invalidated in [None, Some(digest.as_str())] {
        put(&one, &number(1), "1").await;
        assert_eq!(get(&other, &number(1)).await.as_deref(), Some("1"), "entries are shared");
        let ticket = other.get(&number(1)).await.ticket;
        assert!(one.invalidate("team", "tool", invalidated).await);
        assert_eq!(get(&other, &number(1)).await, None);
        assert!(!other.put(&number(1), Cached::success("old"), LONG, ticket).await);
    }
}

#[tokio::test]
async fn a_killed_redis_is_a_miss_and_comes_back_empty() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let ticket = cache.get(&number(1)).await.ticket;
    server.kill();
    let many = async {
        for n in 0..1_000 {
            assert_eq!(get(&cache, &number(n)).await, None);
            assert!(!cache.put(&number(n), Cached::success("1"), LONG, ticket).await);
            assert!(cache.get_stale(&number(n)).await.is_none());
        }
    };
    // 3,000 calls: one timeout each would take 100 minutes.
    assert!(
        tokio::time::timeout(Duration::from_secs(30), many).await.is_ok(),
        "an outage costs calls no time"
    );
    server.restart().await;
    until_kept(&cache, "2").await;
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("2"));
    assert!(!cache.put(&number(1), Cached::success("old"), LONG, ticket).await, "made before the restart");
}

#[tokio::test]
async fn a_flush_makes_misses_and_old_tickets_worthless() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let ticket = cache.get(&number(1)).await.ticket;
    server.flush().await;
    assert!(!cache.put(&number(1), Cached::success("old"), LONG, ticket).await);
    assert_eq!(get(&cache, &number(1)).await, None);
    put(&cache, &number(1), "2").await;
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("2"));
}

#[tokio::test]
async fn an_invalidation_that_redis_missed_is_made_up_for_before_the_next_look() {
    let server = testkit::redis().await;
    let (cache, watcher) = (connect(&server), connect(&server));
    put(&cache, &number(1), "old").await;
    server.stop();
    assert!(
        !cache.invalidate("team", "tool", Some(&number(1).arguments_digest)).await,
        "Redis cannot be told"
    );
    assert_eq!(get(&cache, &number(1)).await, None);
    server.cont();
    until("the watcher reaches Redis", async || {
        !watcher.get(&number(2)).await.ticket.eq(&cache::Ticket::NONE)
    })
    .await;
    until("the cache reaches Redis", async || {
        let looked = cache.get(&number(1)).await;
        assert!(looked.found.is_none(), "the old answer came back");
        looked.ticket != cache::Ticket::NONE
    })
    .await;
    assert_eq!(get(&watcher, &number(1)).await, None, "and then no process finds it");
    put(&cache, &number(1), "new").await;
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("new"), "it is made up for once only");
}

#[tokio::test]
async fn a_key_that_redis_evicts_brings_nothing_back() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    for part in ["tool", "mark", "entry"] {
        put(&cache, &number(1), "old").await;
        let name = server.command(&["KEYS", &format!("cache:{{team}}:{part}:*")]).await;
        server.command(&["DEL", &name]).await;
        assert_eq!(get(&cache, &number(1)).await, None, "without its {part}");
        put(&cache, &number(2), "1").await;
        assert_eq!(get(&cache, &number(1)).await, None, "nor with a new {part}");
        server.flush().await;
    }
}

#[tokio::test]
async fn a_redis_without_memory_is_a_miss() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let ticket = cache.get(&number(1)).await.ticket;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    assert!(!cache.put(&number(2), Cached::success("2"), LONG, ticket).await);
    assert_eq!(get(&cache, &number(2)).await, None);
    assert!(cache.invalidate("team", "tool", None).await, "what frees memory works");
    assert_eq!(get(&cache, &number(1)).await, None);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until_kept(&cache, "3").await;
}

#[tokio::test]
async fn every_key_expires() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let names = server.command(&["KEYS", "cache:*"]).await;
    assert_eq!(names.lines().count(), 3, "{names}");
    for name in names.lines() {
        let left: i64 = server.command(&["PTTL", name]).await.parse().unwrap();
        assert!(left > 3_600_000, "{name}: {left} ms");
    }
}
