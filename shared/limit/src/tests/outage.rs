//! What is Redis's own: outages, a flush, remembered denials, keys; and what is the memory's: its bound.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use super::{CLUSTER, HOUR, LONG, Replicas, bucket, connect, just_under};
use crate::{Bucket, Limiter, Memory};

/// Short enough to be waited for often.
const SHORT: Duration = Duration::from_millis(500);

fn twenty() -> [Bucket; 1] {
    [bucket("a", 1, HOUR, 20, 1)]
}

/// How many of 30 calls pass.
async fn admitted(limiter: &Limiter, scope: &str) -> u32 {
    let mut admitted = 0;
    for _ in 0..30 {
        admitted += u32::from(limiter.check(scope, &twenty()).await.admitted);
    }
    admitted
}

/// Checks new scopes until one gets a whole burst, so that Redis counts again; gives that scope.
async fn recovered(limiter: &Limiter) -> String {
    let started = Instant::now();
    for number in 0.. {
        let scope = format!("recovered {number}");
        if admitted(limiter, &scope).await == 20 {
            return scope;
        }
        assert!(started.elapsed() < LONG, "the limiter does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    unreachable!()
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn count(&self, text: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(text).count()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(text)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn without_redis_a_process_admits_its_share_says_so_once_and_comes_back() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let server = testkit::redis().await;
    let limiter = Limiter::redis(connect(vec![server.url()], false, SHORT * 20), 4);
    assert_eq!(admitted(&limiter, "before").await, 20);
    for outage in 1..=2 {
        server.kill();
        assert_eq!(admitted(&limiter, &format!("during {outage}")).await, 5, "a quarter of 20");
        assert_eq!(log.count("this process limits by its share"), outage);
        server.restart().await;
        recovered(&limiter).await;
        assert_eq!(log.count("rate limits are shared through redis again"), outage);
    }
}

#[tokio::test]
async fn a_frozen_redis_delays_one_call_and_not_each() {
    let server = testkit::redis().await;
    let limiter = Limiter::redis(connect(vec![server.url()], false, SHORT), 2);
    limiter.check("before", &twenty()).await;
    server.stop();
    let started = Instant::now();
    for number in 0..200 {
        // Of another scope each time, so that no remembered denial helps.
        assert!(limiter.check(&format!("during {number}"), &twenty()).await.admitted);
    }
    // Each by itself would wait its 500 ms.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    server.cont();
    recovered(&limiter).await;
}

#[tokio::test]
async fn a_cluster_that_was_killed_is_found_again() {
    let cluster = testkit::redis_cluster().await;
    let limiter = Limiter::redis(connect(cluster.urls(), true, SHORT * 4), 4);
    assert_eq!(admitted(&limiter, "before").await, 20);
    cluster.kill();
    assert_eq!(admitted(&limiter, "during").await, 5);
    cluster.restart().await;
    recovered(&limiter).await;
}

#[tokio::test]
async fn a_redis_that_was_away_from_the_start_is_used_once_it_is_there() {
    let server = testkit::redis().await;
    server.kill();
    let limiter = Limiter::redis(connect(vec![server.url()], false, SHORT * 20), 4);
    assert_eq!(admitted(&limiter, "during").await, 5);
    server.restart().await;
    recovered(&limiter).await;
}

#[tokio::test]
async fn a_flushed_redis_starts_afresh_without_failing_a_call() {
    let server = testkit::redis().await;
    let connected = || Limiter::redis(connect(vec![server.url()], false, LONG), 4);
    let limiter = connected();
    for _ in 0..2 {
        for _ in 0..20 {
            assert!(limiter.check("a", &twenty()).await.admitted);
        }
        assert_eq!(admitted(&connected(), "a").await, 0);
        server.flush().await;
        server.command(&["SCRIPT", "FLUSH"]).await;
    }
}

#[tokio::test]
async fn a_remembered_denial_asks_redis_nothing() {
    let server = testkit::redis().await;
    let limiter = Limiter::redis(connect(vec![server.url()], false, LONG), 1);
    let both = || [bucket("a", 1, HOUR, 20, 1), bucket("b", 1, HOUR, 90, 1)];
    assert_eq!(admitted(&limiter, "a").await, 20);
    let asked = server.calls("evalsha").await;
    for _ in 0..1_000 {
        let denied = limiter.check("a", &both()).await;
        assert_eq!((denied.admitted, denied.denied_by), (false, Some(0)));
        assert!(just_under(denied.retry_after, HOUR));
        assert_eq!((denied.standings.len(), denied.standings[0].remaining), (1, 0));
    }
    assert_eq!(server.calls("evalsha").await, asked);
    // Another rate, or another bucket, is another question.
    assert!(limiter.check("a", &[bucket("b", 1, HOUR, 90, 90)]).await.admitted);
    assert!(!limiter.check("a", &[bucket("a", 1, HOUR, 20, 1), bucket("c", 1, HOUR, 1, 1)]).await.admitted);
    limiter.check("a", &[bucket("a", 1_000, Duration::from_secs(1), 20, 1)]).await;
    assert_eq!(server.calls("evalsha").await, asked + 2);
}

#[tokio::test]
async fn keys_of_a_scope_are_in_one_slot_and_expire() {
    let server = testkit::redis().await;
    let limiter = Limiter::redis(connect(vec![server.url()], false, LONG), 1);
    let buckets = ["a", "b}", "{c}"].map(|name| bucket(name, 2, HOUR, 9, 1));
    assert!(limiter.check("team}1", &buckets).await.admitted);
    let cluster = CLUSTER.get_or_init(testkit::redis_cluster).await;
    let mut slots = std::collections::HashSet::new();
    let keys = server.command(&["KEYS", "limit:*"]).await;
    assert_eq!(keys.lines().count(), 3, "{keys}");
    for key in keys.lines() {
        slots.insert(cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await);
        let left: u64 = server.command(&["TTL", key]).await.parse().unwrap();
        assert!(left <= 1_800 && left > 1_700, "{key}: {left} s");
    }
    assert_eq!(slots.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn memory_is_exact_in_time_and_keeps_no_idle_bucket() {
    let memory = Memory::new();
    let mut admitted = 0;
    for _ in 0..10_000 {
        let buckets = [bucket("a", 100, Duration::from_secs(1), 20, 1)];
        admitted += u32::from(memory.check("a", &buckets).admitted);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(admitted, 20 + 999);
    for number in 0..100_000 {
        memory.check(&number.to_string(), &[bucket("a", 1, Duration::from_millis(1), 5, 1)]);
        tokio::time::advance(Duration::from_micros(10)).await;
        assert!(memory.len() <= 1_024, "{number}: {}", memory.len());
    }
}

#[tokio::test]
async fn replicas_share_what_one_of_them_took() {
    let replicas = Replicas::redis().await;
    for (index, limiter) in replicas.limiters.iter().enumerate() {
        let decision = limiter.check(&replicas.scope, &twenty()).await;
        assert_eq!(decision.standings[0].remaining, 19 - u32::try_from(index).unwrap());
    }
}
