//! Redis is shared with others: what lies there tells nothing, and nothing put there by others is believed.

use std::time::Duration;

use cache::{Cache, Key};
use serde_json::json;
use store::RedisOptions;

use crate::{LIMITS, connect, get, number, put};

#[tokio::test]
async fn neither_results_nor_arguments_nor_scopes_lie_in_redis_in_the_clear() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    let arguments = json!({"query": "ARGUMENT-in-the-clear"});
    let key = Key::of("team", "tool", "digest", "SCOPE-in-the-clear", &arguments).unwrap();
    put(&cache, &key, "{\"iban\":\"RESULT-in-the-clear\"}").await;
    let mut seen = server.command(&["KEYS", "*"]).await;
    for name in seen.clone().lines() {
        let read = match server.command(&["TYPE", name]).await.as_str() {
            "hash" => ["HGETALL", name],
            _ => ["GET", name],
        };
        seen += &server.command(&read).await;
    }
    assert!(seen.contains("cache:{team}:entry:tool:") && seen.contains("sealed"), "{seen}");
    assert!(!seen.contains("in-the-clear"), "{seen}");
    assert_eq!(get(&cache, &key).await.as_deref(), Some("{\"iban\":\"RESULT-in-the-clear\"}"));
}

#[tokio::test]
async fn another_key_reads_nothing() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let options = RedisOptions { urls: vec![server.url()], cluster: false, timeout: Duration::from_secs(2) };
    let stranger = Cache::redis(store::Redis::new(&options).unwrap(), &[1; 32], LIMITS);
    assert_eq!(get(&stranger, &number(1)).await, None);
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("1"));
}

#[tokio::test]
async fn an_entry_moved_to_another_call_is_not_believed() {
    let server = testkit::redis().await;
    let cache = connect(&server);
    put(&cache, &number(1), "1").await;
    let names = async || server.command(&["KEYS", "cache:*:entry:*"]).await;
    let one = names().await;
    // The same arguments in another scope, so that the mark is the same, too.
    let other = Key { scope: "other".into(), ..number(1) };
    put(&cache, &other, "2").await;
    let both = names().await;
    let two = both.lines().find(|name| *name != one).unwrap();
    server.command(&["COPY", &one, two, "REPLACE"]).await;
    assert_eq!(get(&cache, &other).await, None);
    assert_eq!(get(&cache, &number(1)).await.as_deref(), Some("1"));
}
