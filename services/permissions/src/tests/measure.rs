//! What a decision costs through the whole stack, in process. Not a test of behaviour:
//! `cargo test -p permissions --release -- --ignored --nocapture measure`.

use std::time::Instant;

use proto::permissions::v1::SettleReservationRequest;

use super::{
    service::{Suite, authorize_request},
    *,
};

/// One call after another by so many callers: calls a second, and the time of an `Authorize` at the
/// median and at 99 of 100.
async fn load(suite: &Suite, callers: usize, calls: usize) -> (f64, Duration, Duration) {
    let started = Instant::now();
    let tasks = (0..callers).map(|_| {
        let (mut client, outgoing) = (suite.client.clone(), suite.outgoing());
        tokio::spawn(async move {
            let (scout, patience) = (caller("scout", Role::Agent), Duration::from_secs(10));
            let mut times = Vec::with_capacity(calls);
            for _ in 0..calls {
                let asked = Instant::now();
                let request = outgoing.request(&scout, patience, authorize_request());
                let decision = client.authorize(request).await.unwrap().into_inner();
                times.push(asked.elapsed());
                assert!(decision.allowed);
                // A caller over a socket would wait for it here.
                tokio::task::yield_now().await;
                if decision.reserved {
                    let settle = SettleReservationRequest {
                        decision_id: decision.decision_id,
                        committed: true,
                        ..Default::default()
                    };
                    client.settle_reservation(outgoing.request(&scout, patience, settle)).await.unwrap();
                }
            }
            times
        })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await.unwrap());
    }
    let rate = times.len() as f64 / started.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Processor time of this process so far: what other load on the machine does not change. In hundredths of
/// a second (`man 5 proc_pid_stat`, utime and stime).
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure_authorize_and_settle() {
    for (what, limit) in [("no limit", 0), ("hourly limit", 1_000_000_000)] {
        let database = team().await;
        grant(&database, to_agent("scout"), limit).await;
        let suite = Suite::start(database);
        load(&suite, 8, 50).await;
        for (callers, calls) in [(1, 1_000), (8, 400), (64, 150)] {
            let before = processor_time();
            let (rate, median, p99) = load(&suite, callers, calls).await;
            let each = processor_time().saturating_sub(before) / u32::try_from(callers * calls).unwrap();
            println!(
                "{what}, {callers} callers: {rate:.0} pairs/s, p50 {median:?}, p99 {p99:?}, \
                 {each:?} of processor time a pair"
            );
        }
        suite.end().await;
    }
}
