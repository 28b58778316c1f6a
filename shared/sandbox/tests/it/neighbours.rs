//! A measurement: how long small programs take alone, and how long beside each bomb.

use super::*;
use std::time::Instant;

const ROUNDS: usize = 8;
const SAMPLES: usize = 30;

/// Runs small programs one after the other and gives their times in milliseconds.
async fn small_programs(sandbox: &Sandbox) -> Vec<f64> {
    let mut times = Vec::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        let output = sandbox.run(Job::new("result = sum(range(1000))")).await.unwrap();
        assert_eq!(output.exit, Exit::Ok, "{output:?}");
        times.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    times
}

/// The same while a bomb runs, again and again.
async fn beside(sandbox: &Sandbox, bomb: &'static bombs::Bomb) -> Vec<f64> {
    let other = sandbox.clone();
    let bombing = tokio::spawn(async move {
        loop {
            let limits = bombs::limits_of(Duration::from_secs(5));
            other.run(Job { limits, ..Job::new(bomb.source) }).await.unwrap();
        }
    });
    let times = small_programs(sandbox).await;
    bombing.abort();
    let _ = bombing.await;
    times
}

fn quantile(times: &mut [f64], hundredths: usize) -> f64 {
    times.sort_by(f64::total_cmp);
    times[(times.len() * hundredths / 100).min(times.len() - 1)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test -p sandbox -- --ignored neighbours --nocapture"]
async fn neighbours_are_hardly_slowed_by_any_bomb() {
    let Some(fixture) = Fixture::start().await else { return };
    small_programs(&fixture.sandbox).await;
    println!("{:32} {:>17} {:>17} {:>6} {:>6}", "ms", "alone p50 p99", "beside p50 p99", "p50", "p99");
    let mut slowed = Vec::new();
    for bomb in bombs::BOMBS {
        let (mut alone, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            alone.extend(small_programs(&fixture.sandbox).await);
            with.extend(beside(&fixture.sandbox, bomb).await);
        }
        let [a50, a99] = [50, 99].map(|q| quantile(&mut alone, q));
        let [b50, b99] = [50, 99].map(|q| quantile(&mut with, q));
        let (r50, r99) = (b50 / a50, b99 / a99);
        println!("{:32} {a50:8.1} {a99:8.1} {b50:8.1} {b99:8.1} {r50:6.2} {r99:6.2}", bomb.name);
        if r99 >= 2.0 {
            slowed.push((bomb.name, r99));
        }
    }
    assert!(slowed.is_empty(), "p99 doubled: {slowed:?}");
}
