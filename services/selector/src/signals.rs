//! Gathers the raw signals of tools for one task: what `fuse.rs` makes one score of. Reads, and decides nothing.

use crate::{
    entry::Entry,
    fuse::Signals,
    index::Index,
    learn::TeamLearned,
    reading::{Reading, TaskVectors},
    vectors::{Table, ToolVectors},
};

/// Where the signals are read.
pub(crate) struct Source<'a> {
    pub index: &'a Index,
    pub table: &'a Table,
    pub learned: &'a TeamLearned,
    pub reading: &'a Reading,
    pub agent: &'a str,
    pub model_id: &'a str,
}

/// The signals of these slots' tools, in their order.
pub(crate) fn signals(source: &Source, slots: &[usize]) -> Vec<Signals> {
    let among = source.index.among(slots);
    let whole = source.index.score(&source.reading.query, &among);
    let named = source.index.name_coverage(&source.reading.query, &among);
    let of = |slot: &usize| {
        let mut signals = Signals::default();
        let Some(entry) = source.index.entry(*slot) else { return signals };
        signals.lexical = whole[*slot];
        signals.name_coverage = named[*slot];
        signals.breadth = entry.breadth;
        match (&source.reading.vectors, source.table.of(*slot)) {
            (Some(task), Some(tool)) => {
                embeddings(&mut signals, task, tool);
                (signals.history, signals.successes) = history(source, task, entry);
            }
            (Some(_), None) => signals.pending = true,
            (None, _) => {}
        }
        signals
    };
    slots.iter().map(of).collect()
}

fn embeddings(signals: &mut Signals, task: &TaskVectors, tool: &ToolVectors) {
    signals.embedding = task.whole.dot(&tool.full);
    signals.description = task.whole.dot(&tool.short);
    signals.segment =
        task.clauses.iter().map(|clause| clause.dot(&tool.full)).fold(signals.embedding, f32::max);
}

/// Nearness to the tasks that the tool succeeded with, and how many they are.
fn history(source: &Source, task: &TaskVectors, entry: &Entry) -> (f32, f32) {
    let learned = source.learned.get(&entry.name);
    let Some(mean) = learned.and_then(|learned| learned.mean(source.agent, source.model_id)) else {
        return (0.0, 0.0);
    };
    #[allow(clippy::cast_possible_truncation, reason = "at most 20")]
    let successes = mean.successes as f32;
    (mean.vector.dot(&task.whole), successes)
}
