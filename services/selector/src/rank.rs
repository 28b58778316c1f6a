//! Scores and orders the permitted candidates. Pure: what it is given decides, and equal scores are
//! ordered by name, so that the same question has the same answer.

use std::cmp::Ordering;

use chrono::{DateTime, Utc};

use crate::{
    entry::Entry,
    history::{Counts, TeamHistory},
    index::{Index, Query},
    suit::{DEPRECATED, Record, suitabilities},
};

/// What a score is when nothing speaks for or against.
const NEUTRAL: f64 = 0.5;

/// The shares of the scores; each pair sums to 1.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights {
    pub matching: f64,
    pub suitability: f64,
    pub capability: f64,
    pub text: f64,
}

/// The scores of one tool, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scores {
    pub capability: f64,
    pub text: f64,
    pub matching: f64,
    pub suitability: f64,
    pub combined: f64,
}

/// One ranked tool.
#[derive(Debug, Clone)]
pub(crate) struct Ranked<'a> {
    pub entry: &'a Entry,
    pub scores: Scores,
    /// The team's history of it; `None` without any.
    pub history: Option<Counts>,
}

/// What the ranking rests on.
pub(crate) struct Basis<'a> {
    pub index: &'a Index,
    pub query: &'a Query,
    /// Lexical score of each slot.
    pub lexical: &'a [f32],
    /// The capabilities that count: those asked for, or those the task implies.
    pub capabilities: &'a [String],
    /// Whether they were asked for.
    pub asked: bool,
    pub history: &'a TeamHistory,
    pub agent: &'a str,
    pub weights: Weights,
    pub now: DateTime<Utc>,
}

/// The best of these slots' tools, best first, at most `most`.
pub(crate) fn rank<'a>(basis: &Basis<'a>, slots: &[usize], most: usize) -> Vec<Ranked<'a>> {
    let entries: Vec<&Entry> = slots.iter().filter_map(|slot| basis.index.entry(*slot)).collect();
    let record = |entry: &&Entry| {
        basis.history.get(&entry.name).map(|history| Record::new(history, basis.agent, basis.now))
    };
    let records: Vec<_> = entries.iter().map(record).collect();
    let suitabilities = suitabilities(&records);
    let fullest = slots.iter().map(|slot| basis.lexical[*slot]).fold(basis.index.unit(), f32::max);
    let mut ranked: Vec<Ranked> = entries
        .into_iter()
        .zip(slots)
        .zip(records.into_iter().zip(suitabilities))
        .map(|((entry, slot), (record, suitability))| {
            let text = text_score(basis.query, basis.lexical[*slot], fullest);
            let scores = combine(basis.weights, capability_score(basis, entry), text, entry, suitability);
            Ranked { entry, scores, history: record.map(|record| record.team) }
        })
        .collect();
    if most < ranked.len() {
        ranked.select_nth_unstable_by(most, order);
        ranked.truncate(most);
    }
    ranked.sort_unstable_by(order);
    ranked
}

/// Lexical fit against the best candidate's, or against one word that only one tool has where no
/// candidate fits as well as that. Neutral when the task has no words.
fn text_score(query: &Query, lexical: f32, fullest: f32) -> f64 {
    if query.0.is_empty() || fullest <= 0.0 {
        return NEUTRAL;
    }
    f64::from(lexical / fullest)
}

/// The share of the asked capabilities that a tool has. Implied ones rest on single words of the task, so
/// having them only helps, from neutral up. Neutral when none count.
fn capability_score(basis: &Basis, entry: &Entry) -> f64 {
    if basis.capabilities.is_empty() {
        return NEUTRAL;
    }
    let having = basis.capabilities.iter().filter(|capability| entry.has(capability)).count();
    #[allow(clippy::cast_precision_loss, reason = "a few dozen at most")]
    let share = having as f64 / basis.capabilities.len() as f64;
    if basis.asked { share } else { NEUTRAL + (1.0 - NEUTRAL) * share }
}

fn combine(weights: Weights, capability: f64, text: f64, entry: &Entry, suitability: f64) -> Scores {
    let matching = weights.capability * capability + weights.text * text;
    let suitability = if entry.is_deprecated() { suitability * DEPRECATED } else { suitability };
    let combined = weights.matching * matching + weights.suitability * suitability;
    Scores { capability, text, matching, suitability, combined }
}

fn order(left: &Ranked, right: &Ranked) -> Ordering {
    let by_score = right.scores.combined.total_cmp(&left.scores.combined);
    by_score.then_with(|| left.entry.name.cmp(&right.entry.name))
}
