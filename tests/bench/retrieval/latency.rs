//! How long one selection takes, by one caller, among 200, 1,435 and 10,000 tools: with a task never seen before, with
//! its vector still in memory, and in the modes that cost less.

use std::time::{Duration, Instant};

use serde::Serialize;
use tests::retrieval::{Stand, data::Collection, score::percentile};

use crate::{Extent, crowd, progress::Progress, quality::AGENT, start_up};

/// One line of the table, in milliseconds.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub tools: usize,
    pub what: &'static str,
    pub selections: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Mean time within the permissions service that stands in for the real one; it is in the others.
    pub permissions_ms: f64,
}

/// Rows for each size; `largest` has the largest catalog already, in full mode.
pub async fn measure(
    largest: &Stand,
    collections: &[Collection],
    extent: Extent,
    progress: &Progress,
) -> Vec<Row> {
    let mut tasks = Tasks::new(collections);
    let mut rows = Vec::new();
    let fast = [start("static", largest).await, start("lexical", largest).await];
    for size in extent.sizes {
        let team = start_up::team(size);
        let tools = crowd::tools(size);
        for stand in fast.iter().map(|(_, stand)| stand).chain([largest]) {
            stand.add(&team, &tools);
            stand.ready(&team, size).await;
        }
        let unseen = tasks.take(extent.timed);
        progress.begin(format!("latency among {size} tools"), 5 * extent.timed);
        rows.push(time(largest, &team, size, "full, task unseen", &unseen, progress).await);
        rows.push(time(largest, &team, size, "full, task's vector kept", &unseen, progress).await);
        for (mode, stand) in &fast {
            rows.push(time(stand, &team, size, mode, &unseen, progress).await);
        }
    }
    for (_, stand) in fast {
        stand.stop().await;
    }
    rows
}

async fn start(mode: &'static str, beside: &Stand) -> (&'static str, Stand) {
    (mode, Stand::start(&beside.database, mode).await)
}

async fn time(
    stand: &Stand,
    team: &str,
    tools: usize,
    what: &'static str,
    tasks: &[String],
    progress: &Progress,
) -> Row {
    // The index of a team is made by its first selection.
    stand.select(team, AGENT, "anything at all").await;
    let inside = stand.permissions_time();
    let mut times = Vec::with_capacity(tasks.len());
    for task in tasks {
        let begun = Instant::now();
        stand.select(team, AGENT, task).await;
        times.push(ms(begun.elapsed()));
        progress.step();
    }
    let permissions_ms = ms(stand.permissions_time().saturating_sub(inside)) / tasks.len() as f64;
    let (p50_ms, p99_ms) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    Row { tools, what, selections: tasks.len(), p50_ms, p99_ms, permissions_ms }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

/// Tasks, none of which is ever given out twice.
struct Tasks {
    texts: Vec<String>,
    given: usize,
}

impl Tasks {
    /// Those of all sets, in turn.
    fn new(collections: &[Collection]) -> Self {
        let sets: Vec<_> = collections.iter().flat_map(|collection| &collection.sets).collect();
        let longest = sets.iter().map(|set| set.queries.len()).max().unwrap_or_default();
        let turns = (0..longest).flat_map(|turn| sets.iter().filter_map(move |set| set.queries.get(turn)));
        Self { texts: turns.map(|query| query.text.clone()).collect(), given: 0 }
    }

    fn take(&mut self, count: usize) -> Vec<String> {
        let next = |index: usize| {
            let (round, place) = (index / self.texts.len(), index % self.texts.len());
            if round == 0 { self.texts[place].clone() } else { format!("{} ({round})", self.texts[place]) }
        };
        let taken = (self.given..self.given + count).map(next).collect();
        self.given += count;
        taken
    }
}
