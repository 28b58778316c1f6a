//! What every variant does alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cache::{Cache, Cached, Key, Life, Ticket};
use serde_json::json;

use crate::{LIMITS, LONG, connect, connect_cluster, get, key, number, put, until};

/// Runs each test over memory, one Redis, and a Redis Cluster.
macro_rules! suite {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                super::$test(super::Cache::memory(super::LIMITS)).await;
            })*
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                let server = testkit::redis().await;
                super::$test(super::connect(&server)).await;
            })*
        }
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn redis_cluster() {
            let cluster = testkit::redis_cluster().await;
            $($test(connect_cluster(&cluster)).await;
            cluster.flush().await;)*
        }
    };
}

suite! {
    what_was_put_is_found_and_counted
    every_part_of_the_key_counts
    an_entry_becomes_stale_and_then_goes
    an_invalidated_tool_is_gone_and_others_stay
    invalidated_arguments_are_gone_in_every_scope
    what_began_before_an_invalidation_is_not_kept
    an_invalidation_is_final_for_calls_that_race
    what_is_too_long_or_has_no_ticket_is_not_kept
    a_newer_answer_takes_the_place_of_an_older
}

async fn what_was_put_is_found_and_counted(cache: Cache) {
    assert_eq!(get(&cache, &number(1)).await, None);
    put(&cache, &number(1), "{\"a\":1}").await;
    let looked = cache.get(&number(2)).await;
    assert!(cache.put(&number(2), Cached::refusal("{\"error\":1}"), LONG, looked.ticket).await);
    let found = cache.get(&number(1)).await.found.unwrap();
    assert_eq!((found.value, found.fresh), (Cached::success("{\"a\":1}"), true));
    let refused = cache.get(&number(2)).await.found.unwrap();
    assert_eq!(refused.value, Cached::refusal("{\"error\":1}"));
    assert!(cache.get_stale(&number(1)).await.is_some_and(|found| found.fresh));

    let stats = &cache.stats("team", Some("tool")).await[0];
    let reads = (stats.hits, stats.negative_hits, stats.stale_hits, stats.misses, stats.puts);
    assert_eq!(reads, (1, 1, 1, 3, 2));
    assert!(cache.stats("another team", None).await.is_empty());
}

async fn every_part_of_the_key_counts(cache: Cache) {
    let arguments = json!({"q": 1});
    let of = |team, tool, digest, scope| Key::of(team, tool, digest, scope, &arguments).unwrap();
    put(&cache, &of("team", "tool", "digest", "scope"), "1").await;
    for other in [
        of("other", "tool", "digest", "scope"),
        of("team", "other", "digest", "scope"),
        of("team", "tool", "other", "scope"),
        of("team", "tool", "digest", "other"),
        of("team", "tool", "digest", ""),
        Key::of("team", "tool", "digest", "scope", &json!({"q": 2})).unwrap(),
    ] {
        assert_eq!(get(&cache, &other).await, None, "{other:?}");
    }
    let same = Key::of("team", "tool", "digest", "scope", &json!({"q": 1})).unwrap();
    assert_eq!(get(&cache, &same).await.as_deref(), Some("1"));
}

async fn an_entry_becomes_stale_and_then_goes(cache: Cache) {
    let short = Duration::from_millis(300);
    let ticket = cache.get(&number(1)).await.ticket;
    assert!(
        cache.put(&number(1), Cached::success("1"), Life { ttl: short, stale_for: LONG.ttl }, ticket).await
    );
    assert!(cache.put(&number(2), Cached::success("2"), Life { ttl: short, stale_for: short }, ticket).await);
    until("the entry becomes stale", async || get(&cache, &number(1)).await.is_none()).await;
    let stale = cache.get_stale(&number(1)).await.unwrap();
    assert!(!stale.fresh && stale.age >= short, "{stale:?}");
    until("the entry goes", async || cache.get_stale(&number(2)).await.is_none()).await;
    let none = Life { ttl: Duration::ZERO, stale_for: LONG.ttl };
    assert!(!cache.put(&number(3), Cached::success("3"), none, ticket).await, "a ttl of zero keeps nothing");
}

async fn an_invalidated_tool_is_gone_and_others_stay(cache: Cache) {
    let other = Key { tool: "other".into(), ..number(1) };
    let other_team = Key { team: "other".into(), ..number(1) };
    for key in [&number(1), &number(2), &other, &other_team] {
        put(&cache, key, "1").await;
    }
    assert!(cache.invalidate("team", "tool", None).await);
    for key in [&number(1), &number(2)] {
        assert_eq!(get(&cache, key).await, None);
        assert!(cache.get_stale(key).await.is_none(), "not even stale");
    }
    assert!(get(&cache, &other).await.is_some() && get(&cache, &other_team).await.is_some());
    put(&cache, &number(1), "2").await;
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("2"));
    assert_eq!(get(&cache, &number(2)).await, None, "the new generation does not bring the old one back");
    assert_eq!(cache.stats("team", Some("tool")).await[0].invalidations, 1);
}

async fn invalidated_arguments_are_gone_in_every_scope(cache: Cache) {
    let scoped = |scope: &str| Key { scope: scope.into(), ..number(1) };
    let newer = Key { tool_digest: "newer".into(), ..number(1) };
    for key in [&scoped(""), &scoped("alice"), &newer, &number(2)] {
        put(&cache, key, "1").await;
    }
    assert!(cache.invalidate("team", "tool", Some(&number(1).arguments_digest)).await);
    for key in [&scoped(""), &scoped("alice"), &newer] {
        assert_eq!(get(&cache, key).await, None);
    }
    assert_eq!(get(&cache, &number(2)).await.as_deref(), Some("1"), "other arguments stay");
    put(&cache, &scoped("alice"), "2").await;
    assert_eq!(get(&cache, &scoped("")).await, None, "the new mark does not bring old entries back");
}

async fn what_began_before_an_invalidation_is_not_kept(cache: Cache) {
    let digest = number(1).arguments_digest;
    for invalidated in [None, Some(digest.as_str())] {
        // Once with nothing kept yet, and once with an entry there.
        for _ in 0..2 {
            let ticket = cache.get(&number(1)).await.ticket;
            cache.invalidate("team", "tool", invalidated).await;
            assert!(!cache.put(&number(1), Cached::success("old"), LONG, ticket).await);
            assert_eq!(get(&cache, &number(1)).await, None);
            put(&cache, &number(1), "new").await;
        }
    }
}

/// Writers keep what they read from a source before; after an invalidation nobody may find what is older than
/// the source was then.
async fn an_invalidation_is_final_for_calls_that_race(cache: Cache) {
    let source = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (cache, source) = (cache.clone(), source.clone());
            tokio::spawn(async move {
                loop {
                    let ticket = cache.get(&number(1)).await.ticket;
                    let answer = source.load(Ordering::SeqCst).to_string();
                    tokio::task::yield_now().await;
                    cache.put(&number(1), Cached::success(answer), LONG, ticket).await;
                }
            })
        })
        .collect();
    let digest = number(1).arguments_digest;
    let mut found = 0;
    for round in 1..=300 {
        source.store(round, Ordering::SeqCst);
        cache.invalidate("team", "tool", (round % 2 == 0).then_some(digest.as_str())).await;
        for _ in 0..5 {
            if let Some(answer) = get(&cache, &number(1)).await {
                found += 1;
                assert_eq!(answer.parse::<usize>().unwrap(), round, "an answer older than the invalidation");
            }
        }
    }
    writers.iter().for_each(tokio::task::JoinHandle::abort);
    for writer in writers {
        let _ = writer.await;
    }
    assert!(found > 0, "the writers did keep answers in between");
}

async fn what_is_too_long_or_has_no_ticket_is_not_kept(cache: Cache) {
    let ticket = cache.get(&number(1)).await.ticket;
    let long = "x".repeat(LIMITS.max_entry_bytes + 1);
    assert!(!cache.put(&number(1), Cached::success(long.clone()), LONG, ticket).await);
    assert!(!cache.put(&number(1), Cached::success("1"), LONG, Ticket::NONE).await);
    assert_eq!(get(&cache, &number(1)).await, None);
    assert!(
        cache.put(&number(1), Cached::success(&long[1..]), LONG, ticket).await,
        "the longest that may be"
    );
}

async fn a_newer_answer_takes_the_place_of_an_older(cache: Cache) {
    for round in 0..3 {
        let answer = round.to_string();
        put(&cache, &key(&json!({"same": true})), &answer).await;
        assert_eq!(get(&cache, &key(&json!({"same": true}))).await, Some(answer));
    }
}

#[tokio::test]
async fn off_keeps_nothing() {
    let looked = Cache::Off.get(&number(1)).await;
    assert!(!Cache::Off.put(&number(1), Cached::success("1"), LONG, looked.ticket).await);
    assert!(Cache::Off.get(&number(1)).await.found.is_none());
    assert!(Cache::Off.invalidate("team", "tool", None).await);
    assert!(Cache::Off.stats("team", None).await.is_empty());
}
