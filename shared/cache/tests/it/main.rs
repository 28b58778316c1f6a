//! The cache as its users see it: every variant, a real Redis that is killed, frozen and flushed, and calls
//! that race. Must never rely on how fast the machine is.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, missing_docs)]

mod flights;
mod memory;
mod outages;
mod secrecy;
mod semantic;
mod suite;
mod teams;

use std::{future::Future, time::Duration};

use cache::{Cache, Cached, Key, Life, Limits};
use serde_json::{Value, json};
use store::RedisOptions;
use testkit::{RedisCluster, RedisServer};

/// How long a condition may take to come true on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// A life that no test outlives.
const LONG: Life = Life { ttl: Duration::from_hours(1), stale_for: Duration::from_hours(1) };
const SECRET: [u8; 32] = [42; 32];
const LIMITS: Limits = Limits { max_entry_bytes: 10_000, max_bytes: 10_000_000 };

fn key(arguments: &Value) -> Key {
    Key::of("team", "tool", "digest", "scope", arguments).unwrap()
}

fn number(number: usize) -> Key {
    key(&json!({ "number": number }))
}

async fn put(cache: &Cache, key: &Key, json: &str) {
    let ticket = cache.get(key).await.ticket;
    assert!(cache.put(key, Cached::success(json), LONG, ticket).await, "{json} is kept");
}

async fn get(cache: &Cache, key: &Key) -> Option<String> {
    cache.get(key).await.found.map(|found| found.value.json().to_string())
}

/// Waits until a condition holds.
async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

/// A connection of its own, as another process would have.
fn connect(server: &RedisServer) -> Cache {
    let options = RedisOptions { urls: vec![server.url()], cluster: false, timeout: Duration::from_secs(2) };
    Cache::redis(store::Redis::new(&options).unwrap(), &SECRET, LIMITS)
}

fn connect_cluster(cluster: &RedisCluster) -> Cache {
    let options = RedisOptions { urls: cluster.urls(), cluster: true, timeout: Duration::from_secs(2) };
    Cache::redis(store::Redis::new(&options).unwrap(), &SECRET, LIMITS)
}
