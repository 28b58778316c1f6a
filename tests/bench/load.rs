//! The closed loop: so many callers, each with one call under way, and every latency kept. Must never count a call
//! that failed: the first one ends the measurement.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// How long, and by how many.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Loop {
    /// Calls under way at once.
    pub callers: usize,
    /// Time before anything is counted.
    pub warm_ms: u64,
    /// Time that is counted.
    pub run_ms: u64,
}

/// What came of one measurement.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Measured {
    /// Calls that ended in the counted time.
    pub calls: u64,
    /// Calls a second.
    pub per_second: f64,
    /// Median latency in milliseconds.
    pub p50_ms: f64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

/// Runs callers, each made by `caller`, in turn and again; `begin` and `end` are called around the counted time.
pub async fn run<C, F>(
    plan: Loop,
    caller: impl Fn(usize) -> C,
    begin: impl FnOnce(),
    end: impl FnOnce(),
) -> Measured
where
    C: Fn() -> F + Send + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let start = Instant::now() + Duration::from_millis(plan.warm_ms);
    let stop = start + Duration::from_millis(plan.run_ms);
    let mut callers = JoinSet::new();
    for index in 0..plan.callers {
        callers.spawn(one(caller(index), start, stop));
    }
    tokio::time::sleep_until(start.into()).await;
    begin();
    tokio::time::sleep_until(stop.into()).await;
    end();
    let mut latencies = Vec::new();
    while let Some(ended) = callers.join_next().await {
        let ended = ended.expect("a caller does not panic");
        latencies.extend(ended.unwrap_or_else(|failure| panic!("a call failed: {failure}")));
    }
    measured(latencies, Duration::from_millis(plan.run_ms))
}

/// Latencies of the calls that ended between the two times.
async fn one<C, F>(call: C, start: Instant, stop: Instant) -> Result<Vec<Duration>, String>
where
    C: Fn() -> F,
    F: Future<Output = Result<(), String>>,
{
    let mut latencies = Vec::new();
    loop {
        let begun = Instant::now();
        if begun >= stop {
            return Ok(latencies);
        }
        call().await?;
        let ended = Instant::now();
        if ended > start && ended <= stop {
            latencies.push(ended - begun);
        }
    }
}

fn measured(mut latencies: Vec<Duration>, time: Duration) -> Measured {
    latencies.sort_unstable();
    Measured {
        calls: latencies.len() as u64,
        per_second: latencies.len() as f64 / time.as_secs_f64(),
        p50_ms: percentile(&latencies, 0.5),
        p99_ms: percentile(&latencies, 0.99),
    }
}

/// The smallest latency that this share of all does not exceed (nearest rank), in milliseconds; 0 when there is none.
fn percentile(sorted: &[Duration], share: f64) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank within the list")]
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map_or(0.0, |latency| latency.as_secs_f64() * 1_000.0)
}
