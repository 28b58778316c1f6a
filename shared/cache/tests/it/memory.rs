//! What only the cache in memory can show: exact times, and its bound.

use std::time::Duration;

use cache::{Cache, Cached, Life, Limits};

use crate::{LIMITS, LONG, get, number, put};

#[tokio::test(start_paused = true)]
async fn an_entry_is_fresh_then_stale_then_gone_to_the_millisecond() {
    let cache = Cache::memory(LIMITS);
    let ticket = cache.get(&number(1)).await.ticket;
    let life = Life { ttl: Duration::from_secs(10), stale_for: Duration::from_secs(5) };
    assert!(cache.put(&number(1), Cached::success("1"), life, ticket).await);
    let (almost, step) = (Duration::from_millis(9_999), Duration::from_millis(1));

    tokio::time::advance(almost).await;
    let found = cache.get(&number(1)).await.found.unwrap();
    assert_eq!((found.age, found.fresh), (almost, true));

    tokio::time::advance(step).await;
    assert!(cache.get(&number(1)).await.found.is_none());
    let stale = cache.get_stale(&number(1)).await.unwrap();
    assert_eq!((stale.age, stale.fresh), (life.ttl, false));

    tokio::time::advance(life.stale_for).await;
    assert!(cache.get_stale(&number(1)).await.is_none());
}

#[tokio::test]
async fn the_bound_on_bytes_holds_and_is_counted() {
    let max_bytes = 200_000;
    let cache = Cache::memory(Limits { max_entry_bytes: 10_000, max_bytes });
    let text = "x".repeat(1_000);
    for n in 0..2_000 {
        put(&cache, &number(n), &text).await;
    }
    let stats = &cache.stats("team", None).await[0];
    let (entries, bytes) = (stats.entries.unwrap(), stats.bytes.unwrap());
    assert!(bytes <= max_bytes, "{bytes}");
    assert!((100..200).contains(&entries), "nearly full, and not with more than fits: {entries}");
    let mut found = 0;
    for n in 0..2_000 {
        found += u64::from(get(&cache, &number(n)).await.is_some());
    }
    assert_eq!(found, entries);
}

#[tokio::test]
async fn entries_and_bytes_are_those_that_count_now() {
    let cache = Cache::memory(LIMITS);
    let taken = async || {
        let stats = &cache.stats("team", Some("tool")).await[0];
        (stats.entries.unwrap(), stats.bytes.unwrap())
    };
    put(&cache, &number(1), &"x".repeat(500)).await;
    let (_, bytes_of_one) = taken().await;
    put(&cache, &number(2), &"x".repeat(500)).await;
    assert_eq!(taken().await, (2, 2 * bytes_of_one));
    put(&cache, &number(2), &"x".repeat(600)).await;
    assert_eq!(taken().await, (2, 2 * bytes_of_one + 100), "the replaced entry no longer counts");
    cache.invalidate("team", "tool", None).await;
    assert_eq!(taken().await, (0, 0));
    assert_eq!(get(&cache, &number(1)).await, None);
    let ticket = cache.get(&number(1)).await.ticket;
    assert!(cache.put(&number(1), Cached::success("x".repeat(500)), LONG, ticket).await);
    assert_eq!(taken().await, (1, bytes_of_one));
}
