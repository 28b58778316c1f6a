//! Gathers the raw signals of tools for one task: what `fuse.rs` makes one score of. Reads, and decides nothing.

use crate::{
    entry::Entry,
    fuse::Signals,
    index::{Among, Index},
    learn::{Mean, TeamLearned},
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

/// The signals of these slots' tools, in their order; how rare a word is counts among `among`.
pub(crate) fn signals(source: &Source, slots: &[usize], among: &Among) -> Vec<Signals> {
    let words = Words::of(source, among);
    let of = |slot: &usize| {
        let Some(entry) = source.index.entry(*slot) else { return Signals::default() };
        let mut signals = words.signals(*slot, entry);
        match (&source.reading.vectors, source.table.of(*slot)) {
            (Some(task), Some(tool)) => {
                embeddings(&mut signals, task, tool);
                if let Some(mean) = source.mean(&entry.name) {
                    history(&mut signals, task, mean);
                }
            }
            (Some(_), None) => signals.pending = true,
            (None, _) => {}
        }
        signals
    };
    slots.iter().map(of).collect()
}

/// About the same of many tools, their slots in order, in much less time: what is said of a tool is read where it lies side by side with that
/// of the others, and its description is taken to mean what all of that means.
pub(crate) fn glance(source: &Source, slots: &[usize], among: &Among) -> Vec<Signals> {
    let words = Words::of(source, among);
    let of =
        |slot: &usize| source.index.entry(*slot).map(|entry| words.signals(*slot, entry)).unwrap_or_default();
    let mut glanced: Vec<Signals> = slots.iter().map(of).collect();
    let Some(task) = &source.reading.vectors else { return glanced };
    let whole = source.table.full.cosines(&task.whole);
    let mut best = whole.clone();
    for clause in &task.clauses {
        let cosines = source.table.full.cosines(clause);
        best.iter_mut().zip(cosines).for_each(|(best, cosine)| *best = best.max(cosine));
    }
    for (slot, signals) in slots.iter().zip(&mut glanced) {
        if source.table.of(*slot).is_none() {
            signals.pending = true;
            continue;
        }
        (signals.embedding, signals.description) = (whole[*slot], whole[*slot]);
        signals.segment = best[*slot];
    }
    // Few tools have a history: looking for those costs less than asking each of the others.
    for name in source.learned.keys() {
        let place = source.index.find(name).and_then(|slot| slots.binary_search(&slot).ok());
        if let (Some(place), Some(mean)) = (place, source.mean(name)) {
            history(&mut glanced[place], task, mean);
        }
    }
    glanced
}

impl Source<'_> {
    /// The tasks that a tool succeeded with.
    fn mean(&self, tool: &str) -> Option<&Mean> {
        self.learned.get(tool)?.mean(self.agent, self.model_id)
    }
}

/// What the words of a task say of every slot.
struct Words {
    whole: Vec<f32>,
    named: Vec<f32>,
}

impl Words {
    fn of(source: &Source, among: &Among) -> Self {
        let query = &source.reading.query;
        Self { whole: source.index.score(query, among), named: source.index.name_coverage(query, among) }
    }

    fn signals(&self, slot: usize, entry: &Entry) -> Signals {
        Signals {
            lexical: self.whole[slot],
            name_coverage: self.named[slot],
            breadth: entry.breadth,
            ..Signals::default()
        }
    }
}

fn embeddings(signals: &mut Signals, task: &TaskVectors, tool: &ToolVectors) {
    signals.embedding = task.whole.dot(&tool.full);
    signals.description = task.whole.dot(&tool.short);
    signals.segment =
        task.clauses.iter().map(|clause| clause.dot(&tool.full)).fold(signals.embedding, f32::max);
}

/// Nearness to the tasks that the tool succeeded with, and how many they are.
fn history(signals: &mut Signals, task: &TaskVectors, mean: &Mean) {
    #[allow(clippy::cast_possible_truncation, reason = "at most 20")]
    let successes = mean.successes as f32;
    (signals.history, signals.successes) = (mean.vector.dot(&task.whole), successes);
}
