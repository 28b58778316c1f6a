//! Every answer of a team goes at once, for good, and no other team's.

use super::*;

async fn goes_whole(cache: &Cache, other: &Cache) {
    let of_others = Key::of("others", "tool", "digest", "", &json!({})).unwrap();
    put(cache, &of_others, "theirs").await;
    for n in 0..2_500 {
        put(cache, &number(n), "ours").await;
    }
    let second = Key::of("team", "second", "digest", "", &json!({})).unwrap();
    put(cache, &second, "ours").await;
    let ticket = cache.get(&number(0)).await.ticket;
    assert_eq!(cache.invalidate_team("team").await, Some(2_501));
    for key in [&number(0), &number(2_499), &second] {
        assert_eq!(get(cache, key).await, None);
        assert!(cache.get_stale(key).await.is_none(), "not even as a stale one");
    }
    // What began before brings nothing back.
    assert!(!cache.put(&number(0), Cached::success("old"), LONG, ticket).await);
    assert_eq!(get(other, &of_others).await.as_deref(), Some("theirs"));
    assert_eq!(cache.invalidate_team("team").await, Some(0));
    put(cache, &number(0), "new").await;
    assert_eq!(get(other, &number(0)).await.as_deref(), Some("new"));
}

#[tokio::test]
async fn a_team_goes_whole_from_memory() {
    let cache = Cache::memory(Limits { max_entry_bytes: 1_000, max_bytes: 100_000_000 });
    goes_whole(&cache, &cache).await;
}

#[tokio::test]
async fn a_team_goes_whole_from_redis_for_every_process() {
    let server = testkit::redis().await;
    goes_whole(&connect(&server), &connect(&server)).await;
    let away = connect(&server);
    put(&away, &number(1), "1").await;
    server.kill();
    assert_eq!(away.invalidate_team("team").await, None, "Redis could not be told");
}

#[tokio::test]
async fn a_team_goes_whole_from_a_cluster() {
    let cluster = testkit::redis_cluster().await;
    goes_whole(&connect_cluster(&cluster), &connect_cluster(&cluster)).await;
}
