//! `make bench`: what a call costs, guarantee by guarantee, in one table. The only place where speed is talked about;
//! must never test whether anything is right.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for whoever works on toolcrib, that ends where it cannot measure"
)]

mod caller;
mod catalog;
mod decisions;
mod echo;
mod everything;
mod execute;
mod house;
mod load;
mod machine;
mod process;
mod redaction;
mod report;
mod run;
mod stage;
mod table;
mod targets;
mod trail_events;
mod trail_queries;
mod trail_verify;
mod usage;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use testkit::installed;

use crate::{
    everything::Everything,
    load::Loop,
    machine::Machine,
    run::Stage,
    stage::{Ground, Suite},
    table::{Place, Row, Step},
};

/// Parts of the split toolcrib, in the order of their start.
const SPLIT: [&str; 3] = ["registry,selector,permissions,audit", "executor", "edge"];

#[derive(Debug, Parser)]
#[command(about = "Measures what a call costs; writes a table to standard output and to target/bench")]
struct Arguments {
    /// One short round with 8 callers, to see that it works.
    #[arg(long)]
    quick: bool,
    /// Only rows whose name contains this.
    #[arg(long, value_name = "PATTERN")]
    only: Option<String>,
    /// Rounds over all rows.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Nothing else: queries of the trail among so many records, such as 10000000, which take 7 GB until it ends.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(i64).range(1_000..=100_000_000))]
    trail_queries: Option<i64>,
    /// Nothing else: events into the trail at this rate a second, such as 4000, for --seconds, until they are signed.
    #[arg(long, value_name = "RATE", value_parser = clap::value_parser!(u64).range(100..=100_000))]
    trail_events: Option<u64>,
    /// Nothing else: how fast an export of so many records is checked, such as 1000000, which takes 1.5 GB until it ends.
    #[arg(long, value_name = "RECORDS", value_parser = clap::value_parser!(u64).range(1_000..=100_000_000))]
    trail_verify: Option<u64>,
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    #[arg(long, hide = true)]
    part: Option<String>,
    #[arg(long, hide = true, default_value = "crew")]
    team: String,
}

fn main() {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(records) = arguments.trail_verify {
        return println!("{}", trail_verify::measure(records));
    }
    if let Some(rate) = arguments.trail_events {
        return println!("{}", runtime.block_on(trail_events::measure(rate, arguments.seconds)));
    }
    match (&arguments.part, arguments.trail_queries) {
        (Some(part), _) => runtime.block_on(process::be(part, &arguments.team)),
        (None, Some(records)) => println!("{}", runtime.block_on(trail_queries::measure(records))),
        (None, None) => runtime.block_on(bench(&arguments)),
    }
}

async fn bench(arguments: &Arguments) {
    if arguments.only.as_deref() == Some("redaction") {
        println!("{}", redaction::report());
        return;
    }
    let wanted: Vec<Row> = table::rows().into_iter().filter(|row| is_wanted(arguments, *row)).collect();
    let mut stage = set(arguments, &wanted).await;
    let machine = Machine::look(stage.ground.folder.path(), &stage.all.database).await;
    let callers: &[usize] = if arguments.quick { &[8] } else { &[1, 8, 32, 64] };
    let cells: Vec<(Row, usize)> = wanted
        .into_iter()
        .filter(|row| run::is_there(&stage, *row))
        .flat_map(|row| callers.iter().map(move |callers| (row, *callers)))
        .filter(|(row, callers)| row.step != Step::Mcp || *callers <= 32)
        .collect();
    let plan = Loop {
        callers: 0,
        warm_ms: if arguments.quick { 50 } else { 100 },
        run_ms: if arguments.quick { 200 } else { 500 },
    };
    let rounds = if arguments.quick { 1 } else { arguments.rounds };
    run::settle(&mut stage, plan.run_ms * 2).await;
    let bar = progress(cells.len() * rounds);
    let samples = run::rounds(&mut stage, &cells, (rounds, plan), &bar).await;
    let decisions = if !arguments.quick
        && arguments.only.as_ref().is_none_or(|only| "decisions".contains(only.as_str()))
    {
        bar.set_message("decisions among 100,000 grants");
        Some(decisions::among_many(&mut stage.all, plan).await)
    } else {
        None
    };
    let catalog = if arguments.only.as_ref().is_none_or(|pattern| "catalog".contains(pattern.as_str())) {
        bar.set_message("a catalog of 10,000 tools");
        Some(catalog::measure(&stage.ground, plan).await)
    } else {
        None
    };
    bar.finish_and_clear();
    let report = report::Report::new(machine, &samples, &stage, (decisions, catalog));
    if let Some(decisions) = decisions {
        println!("{decisions}");
    }
    println!("{}", report.markdown());
    if arguments.only.is_none() {
        println!("{}", redaction::report());
    }
    let folder = report.write();
    println!("written to {}", folder.display());
}

fn is_wanted(arguments: &Arguments, row: Row) -> bool {
    let is_named = arguments.only.as_ref().is_none_or(|pattern| row.name().contains(pattern));
    is_named && !(arguments.quick && (row.step == Step::Mcp || row.place == Place::Redis))
}

/// Starts what the rows need.
async fn set(arguments: &Arguments, rows: &[Row]) -> Stage {
    let needs = |place: Place| rows.iter().any(|row| row.place == place);
    let ground = Ground::new().await;
    let echo = ground.echo().await;
    let all = Suite::start(&ground, "all", &["all"], None).await;
    if !arguments.quick && arguments.only.is_none() {
        stage::fill(&all).await;
    }
    let split =
        if needs(Place::Split) { Some(Suite::start(&ground, "split", &SPLIT, None).await) } else { None };
    let redis = if needs(Place::Redis) {
        Some(Suite::start(&ground, "redis", &["all"], Some(testkit::redis().await)).await)
    } else {
        None
    };
    let has_node = installed("mcp/node", "scripts/install-mcp-servers").is_some();
    let everything = if has_node && rows.iter().any(|row| row.step == Step::Mcp) {
        Everything::start().await
    } else {
        None
    };
    if let Some(everything) = &everything {
        everything.register(&all).await;
    }
    Stage { ground, echo, all, split, redis, everything }
}

fn progress(steps: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} of {duration}  {msg}").unwrap();
    ProgressBar::new(steps as u64).with_style(style)
}
