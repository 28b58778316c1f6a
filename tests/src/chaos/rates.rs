//! Rates over three processes: exact while Redis is there, within each process's share while it is away, and never
//! a reason to fail a call.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use proto::permissions::v1::Grant;
use serde_json::json;
use testkit::RedisServer;
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{Crew, Plan, Progress, Report};
use crate::{Client, HttpTool, Upstream};

/// The tool.
const TOOL: &str = "limited";
/// Callers at once: so many calls may have passed the limit and not reached the tool when it is looked at.
const CALLERS: usize = 12;
/// Pause of a caller that was held back. Shorter than the time in which a place comes free.
const PAUSE: Duration = Duration::from_millis(20);

/// A crew of three, and callers that ask for far more than the rate.
struct Rush {
    /// Calls a minute; as many may come at once.
    rate: u32,
    crew: Crew,
    upstream: Upstream,
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stopped: AtomicBool,
    refusals: Mutex<BTreeMap<String, usize>>,
}

impl Rush {
    async fn start(rate: u32, redis: Vec<secrecy::SecretString>) -> Self {
        let crew = Crew::start(&Plan { executors: 3, redis, ..Plan::default() }).await;
        let upstream = Upstream::start().await;
        let mut tool = HttpTool::new(TOOL, upstream.url("/echo"));
        tool.definition.rate_limit_per_minute = i32::try_from(rate).unwrap();
        crew.admin.register(tool).await;
        let doors = crew.agent("caller", &[TOOL], &Grant::default()).await;
        let (mut callers, shared) = (JoinSet::new(), Arc::<Shared>::default());
        for number in 0..CALLERS {
            let (door, shared) = (doors[number % doors.len()].clone(), Arc::clone(&shared));
            callers.spawn(async move { shared.call_on(&door).await });
        }
        Self { rate, crew, upstream, callers, shared }
    }

    /// What comes free in this time.
    fn freed(&self, time: Duration) -> f64 {
        f64::from(self.rate) / 60.0 * time.as_secs_f64()
    }

    /// Counts what reaches the tool in this time, and holds it against what may: one full bucket, and what comes free.
    /// At least a part of what comes free must get through, or calls do not go on.
    async fn watch(&self, phase: &str, time: Duration, report: &mut Report) {
        let (began, before) = (Instant::now(), self.upstream.count());
        tokio::time::sleep(time).await;
        let passed = self.upstream.count() - before;
        let freed = self.freed(began.elapsed());
        let most = f64::from(self.rate) + freed + CALLERS as f64;
        report.check((passed as f64) <= most, format!("{phase}: {passed} calls passed, {most:.0} may"));
        report.check(
            passed as f64 >= freed / 2.0,
            format!("{phase}: only {passed} calls passed of {freed:.0}"),
        );
        report.note(format!("{phase}: {passed} calls passed, at most {most:.0} may"));
        report.calls += passed;
    }

    /// Stops the callers; no call may have failed for another reason than the rate.
    async fn end(mut self, report: &mut Report) {
        self.shared.stopped.store(true, Ordering::Release);
        while self.callers.join_next().await.is_some() {}
        let refusals = self.shared.refusals.lock().unwrap().clone();
        let odd: Vec<_> = refusals.iter().filter(|(code, _)| *code != "ResourceExhausted").collect();
        report.check(odd.is_empty(), format!("not only refused for their rate: {odd:?}"));
        let rows = "SELECT count(*) FROM executor.execution WHERE status = 'succeeded'";
        let succeeded = usize::try_from(self.crew.number(rows).await).unwrap();
        report.lost = self.upstream.count().abs_diff(succeeded);
        report.check(report.lost == 0, format!("{succeeded} on record, {} passed", self.upstream.count()));
    }
}

impl Shared {
    async fn call_on(&self, door: &Client) {
        while !self.stopped.load(Ordering::Acquire) {
            if let Err(status) = door.try_call(TOOL, json!({})).await {
                self.refused(&status);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn refused(&self, status: &Status) {
        let text = match status.code() {
            code @ Code::ResourceExhausted => format!("{code:?}"),
            code => format!("{code:?}: {}", status.message()),
        };
        *self.refusals.lock().unwrap().entry(text).or_default() += 1;
    }
}

/// One Redis, which is killed, started again and emptied under load; each phase takes so long.
pub async fn rates_survive_redis(rate: u32, phase: Duration, progress: Progress<'_>) -> Report {
    let mut report = Report::of("Redis dies");
    let redis: RedisServer = testkit::redis().await;
    let rush = Rush::start(rate, vec![redis.url()]).await;
    rush.watch("with Redis", phase, &mut report).await;
    progress(1, 5);
    redis.kill();
    rush.watch("without Redis", phase, &mut report).await;
    progress(2, 5);
    redis.restart().await;
    rush.watch("Redis is back, empty", phase, &mut report).await;
    progress(3, 5);
    redis.flush().await;
    rush.watch("Redis was emptied", phase, &mut report).await;
    progress(4, 5);
    redis.stop();
    rush.watch("Redis is frozen", phase, &mut report).await;
    redis.cont();
    report.kills = 2;
    rush.end(&mut report).await;
    progress(5, 5);
    report
}

/// A Redis Cluster of three nodes: the rate is exact over all processes.
pub async fn rates_of_a_cluster(rate: u32, time: Duration, progress: Progress<'_>) -> Report {
    let mut report = Report::of("Redis Cluster");
    let cluster = testkit::redis_cluster().await;
    let began = Instant::now();
    let rush = Rush::start(rate, cluster.urls()).await;
    rush.watch("one bucket", time, &mut report).await;
    progress(1, 1);
    let upstream = rush.upstream.count();
    let most = f64::from(rate) + rush.freed(began.elapsed());
    report.check(upstream as f64 <= most, format!("{upstream} calls passed, {most:.0} may"));
    // What comes free at the very end may not be taken in time.
    let least = (f64::from(rate) + rush.freed(time) * 0.8).floor();
    report.check(upstream as f64 >= least, format!("{upstream} calls passed, {least:.0} must"));
    rush.end(&mut report).await;
    report
}
