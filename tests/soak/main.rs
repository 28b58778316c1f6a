//! `make soak`: the scenarios of `tests::chaos` at full length. Prints how each one went, writes a report, and fails
//! when a rule was broken. Must never go on quietly where a scenario could not run.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal, and a test")]

mod summary;

use std::{panic::AssertUnwindSafe, process::ExitCode, time::Duration};

use clap::Parser;
use futures_util::FutureExt;
use indicatif::{ProgressBar, ProgressStyle};
use tests::{
    block_on,
    chaos::{self, Outages, Progress, Report, Size},
};

/// Scenarios by name, in the order in which they run.
const SCENARIOS: [&str; 7] = ["executors", "points", "frozen", "database", "request", "redis", "cluster"];

/// Kills processes under load, and looks whether anything was lost or done twice.
#[derive(Debug, Parser)]
struct Args {
    /// Runs only these scenarios: executors, points, frozen, database, request, redis, cluster.
    #[arg(long, value_delimiter = ',', value_parser = SCENARIOS)]
    only: Vec<String>,
    /// Calls of the scenario `executors`.
    #[arg(long, default_value_t = 10_000)]
    calls: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let chosen = |name: &&str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut reports = Vec::new();
    for name in SCENARIOS.into_iter().filter(chosen) {
        let bar = ProgressBar::new(1).with_message(name);
        let style = ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len}  {elapsed_precise}");
        bar.set_style(style.unwrap().progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(500));
        let progress = |done: usize, total: usize| {
            bar.set_length(total as u64);
            bar.set_position(done as u64);
        };
        let ended = block_on(AssertUnwindSafe(run(name, args.calls, &progress)).catch_unwind());
        let took = bar.elapsed();
        bar.finish_and_clear();
        let report = ended.unwrap_or_else(|panic| failed(name, panic.as_ref()));
        println!("{}", summary::line(&report, took));
        reports.push((report, took));
        // After each, so that a soak that is cut short has told what it found.
        summary::write(&reports).unwrap();
    }
    println!("\n{}", summary::table(&reports));
    println!("report: {}", summary::folder().unwrap().join("report.md").display());
    if reports.iter().all(|(report, _)| summary::is_sound(report)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn run(name: &'static str, calls: usize, progress: Progress<'_>) -> Report {
    let outages = Outages { kills: 5, away: Duration::from_secs(3), between: Duration::from_secs(8) };
    match name {
        "executors" => {
            let size = Size { calls, callers: 48, pause: Duration::from_millis(500), durable: true };
            chaos::executors_die(size, progress).await
        }
        "points" => chaos::killed_at_points(1, progress).await,
        "frozen" => chaos::frozen_executor_is_fenced().await,
        "database" => chaos::database_dies(outages, progress).await,
        "request" => chaos::one_request_id(20, progress).await,
        "redis" => chaos::rates_survive_redis(300, Duration::from_secs(15), progress).await,
        _ => chaos::rates_of_a_cluster(600, Duration::from_mins(1), progress).await,
    }
}

/// A scenario that did not come to its end.
fn failed(name: &'static str, panic: &(dyn std::any::Any + Send)) -> Report {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
    let mut report = Report::of(name);
    report.check(false, format!("it did not come to its end: {text}"));
    report
}
