//! `make bench-retrieval`: how often the selector finds the right tool, how well it knows that, and how long it takes.
//! The only place that speaks of its quality in numbers; must never rank, tune or train anything.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    missing_docs,
    reason = "a program for whoever works on toolcrib, that ends where it cannot measure"
)]

mod baseline;
mod calibration;
mod crowd;
mod history;
mod latency;
#[path = "../machine.rs"]
mod machine;
mod progress;
mod quality;
mod report;
mod start_up;

use std::{fs, path::Path, time::Instant};

use clap::{Parser, ValueEnum};
use tests::retrieval::{
    Stand,
    data::{self, Collection},
};

use crate::{machine::Machine, progress::Progress, report::Report};

#[derive(Debug, Parser)]
#[command(name = "bench-retrieval", about = "Measures how well and how fast the selector finds tools")]
struct Arguments {
    /// A sample of the queries and a smaller crowd, to see that it works.
    #[arg(long)]
    quick: bool,
    /// JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Only one part.
    #[arg(long, value_name = "PART")]
    only: Option<Part>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// How often the right tool is found, cold; by mode and set.
    Quality,
    /// The same after 1, 5, 10 and 20 successes a tool.
    History,
    /// Whether confidence is what it says, and whether no tool is offered where none is right.
    Calibration,
    /// How long a selection takes among 200, 1,435 and 10,000 tools.
    Latency,
    /// How long until 10,000 tools are ready, and what they weigh.
    StartUp,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// Most queries of one set.
    queries: usize,
    /// Most past successes of one tool.
    successes: usize,
    /// Sizes of the catalogs whose selections are timed; the last is also started with.
    sizes: [usize; 3],
    /// Selections timed in each.
    timed: usize,
}

const WHOLE: Extent = Extent { queries: usize::MAX, successes: 20, sizes: [200, 1_435, 10_000], timed: 500 };
const QUICK: Extent = Extent { queries: 100, successes: 5, sizes: [200, 500, 1_000], timed: 50 };

fn main() {
    let arguments = Arguments::parse();
    tests::block_on(bench(&arguments));
}

async fn bench(arguments: &Arguments) {
    let begun = Instant::now();
    let extent = if arguments.quick { QUICK } else { WHOLE };
    let wants = |part| arguments.only.is_none_or(|only| only == part);
    let collections: Vec<Collection> =
        [data::public(), vec![data::own()]].concat().iter().map(|set| set.sample(extent.queries)).collect();
    let progress = Progress::new();
    let database = testkit::database(&[selector::schema()]).await;
    let mut report = Report::new(Machine::look(&std::env::temp_dir(), &database).await);
    // First, while this process weighs little.
    if wants(Part::StartUp) || wants(Part::Latency) {
        let (start_up, stand) = start_up::measure(extent.sizes[2], &progress).await;
        report.start_up = Some(start_up);
        if wants(Part::Latency) {
            report.latency = latency::measure(&stand, &collections, extent, &progress).await;
        }
        stand.stop().await;
    }
    if wants(Part::Quality) {
        let merged = data::merged(&collections);
        let all: Vec<&Collection> = collections.iter().chain([&merged]).collect();
        for mode in ["lexical", "static"] {
            let stand = Stand::start(&database, mode).await;
            report.note(mode, &quality::ready(&stand, &all, &progress).await);
            report.quality.extend(quality::measure(&stand, mode, &all, &progress).await);
            stand.stop().await;
        }
        report.quality.extend(baseline::measure(&all, &progress));
    }
    if wants(Part::Quality) || wants(Part::Calibration) || wants(Part::History) {
        let stand = Stand::start(&database, "full").await;
        full(&stand, &collections, (extent, &wants), &mut report, &progress).await;
        stand.stop().await;
    }
    progress.finish();
    report.seconds = begun.elapsed().as_secs_f64();
    write(&report);
    println!("{}", if arguments.json { report.json() } else { report.markdown() });
}

/// What is measured in full mode, in one selector: a task's vector that one part has made serves the others.
async fn full(
    stand: &Stand,
    collections: &[Collection],
    (extent, wants): (Extent, &impl Fn(Part) -> bool),
    report: &mut Report,
    progress: &Progress,
) {
    let each: Vec<&Collection> = collections.iter().collect();
    report.note("full", &quality::ready(stand, &each, progress).await);
    if wants(Part::Quality) {
        let merged = data::merged(collections);
        let all: Vec<&Collection> = collections.iter().chain([&merged]).collect();
        quality::ready(stand, &[&merged], progress).await;
        report.quality.extend(quality::measure(stand, "full", &all, progress).await);
    }
    if wants(Part::Calibration) {
        report.calibration = Some(calibration::measure(stand, &each, progress).await);
    }
    if wants(Part::History) {
        for collection in collections.iter().filter(|collection| !collection.history.is_empty()) {
            report.history.extend(history::measure(stand, collection, extent.successes, progress).await);
        }
    }
}

/// Both forms, into the folder `bench` beside the build.
fn write(report: &Report) {
    let program = std::env::current_exe().unwrap();
    let folder = program.ancestors().nth(2).unwrap_or(Path::new("target")).join("bench");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("retrieval.md"), report.markdown()).unwrap();
    fs::write(folder.join("retrieval.json"), report.json()).unwrap();
}
