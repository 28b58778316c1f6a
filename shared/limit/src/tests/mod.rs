//! What holds for every limiter, run over each: memory, one Redis, a Redis Cluster. And what is Redis's own.

mod outage;
mod suite;

use std::time::Duration;

use secrecy::SecretString;
use store::{Redis, RedisOptions};
use testkit::{RedisCluster, RedisServer};
use tokio::sync::OnceCell;

use crate::{Bucket, Limiter, Rate};

/// The servers of tests that leave them as they are.
static SERVER: OnceCell<RedisServer> = OnceCell::const_new();
static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();

const HOUR: Duration = Duration::from_hours(1);
/// Longer than a busy machine ever takes.
const LONG: Duration = Duration::from_secs(30);

/// Limiters that share their buckets and nothing else, and a scope that no other test has.
struct Replicas {
    limiters: Vec<Limiter>,
    scope: String,
}

impl Replicas {
    fn new(limiters: impl Iterator<Item = Limiter>) -> Self {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        Self { limiters: limiters.collect(), scope: format!("{name} {:?}", std::time::Instant::now()) }
    }

    #[allow(clippy::unused_async, reason = "made like the others")]
    async fn memory() -> Self {
        let limiter = Limiter::memory();
        Self::new(std::iter::repeat_n(limiter, 4))
    }

    async fn redis() -> Self {
        let url = SERVER.get_or_init(testkit::redis).await.url();
        Self::new((0..4).map(|_| Limiter::redis(connect(vec![url.clone()], false, LONG), 4)))
    }

    async fn cluster() -> Self {
        let urls = CLUSTER.get_or_init(testkit::redis_cluster).await.urls();
        Self::new((0..4).map(|_| Limiter::redis(connect(urls.clone(), true, LONG), 4)))
    }

    /// One check by the first limiter.
    async fn check(&self, buckets: &[Bucket]) -> crate::Decision {
        self.limiters[0].check(&self.scope, buckets).await
    }
}

fn connect(urls: Vec<SecretString>, cluster: bool, timeout: Duration) -> Redis {
    Redis::new(&RedisOptions { urls, cluster, timeout }).unwrap()
}

fn bucket(name: &str, limit: u32, period: Duration, burst: u32, cost: u32) -> Bucket {
    Bucket { name: name.into(), rate: Rate { limit, period, burst }, cost }
}

/// Whether a time is what was expected, less what a test takes.
fn just_under(time: Duration, expected: Duration) -> bool {
    time <= expected && time + LONG > expected
}
