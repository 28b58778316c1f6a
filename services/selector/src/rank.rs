//! Scores and orders the permitted candidates: those that fit far less than the best come last. Pure: what it is given
//! decides, and equal scores are ordered by name, so that the same question has the same answer.

use std::cmp::Ordering;

use crate::{
    entry::Entry,
    explore::Arm,
    fuse::Fused,
    index::{Among, Index, Query},
    learn::Standing,
    model::blend,
    policy::Weights,
};

/// What a score is when nothing speaks for or against.
const NEUTRAL: f64 = 0.5;
/// A deprecated tool keeps this share of its suitability.
const DEPRECATED: f64 = 0.5;
/// A tool whose semantic score is less than this share of the best one's comes after all others, however well it did in
/// other tasks: a tool that always works would else be the answer to everything.
const CONTENDS: f64 = 0.3;

/// Whether a tool contends for the first place, by its semantic score and the best one's.
pub(crate) fn contends(semantic: f64, best: f64) -> bool {
    semantic >= CONTENDS * best
}

/// The scores of one tool, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Scores {
    pub capability: f64,
    /// Of the words alone.
    pub text: f64,
    pub semantic: f64,
    pub matching: f64,
    /// As the record says, or as it was drawn.
    pub success: f64,
    /// As the record says.
    pub expected: f64,
    pub latency: f64,
    pub cost: f64,
    pub quality: f64,
    pub suitability: f64,
    pub combined: f64,
}

/// One permitted tool.
#[derive(Debug, Clone)]
pub(crate) struct Candidate<'a> {
    pub slot: usize,
    pub entry: &'a Entry,
    pub fused: Fused,
    /// How well it fits by the model's judgement; `None` without one.
    pub fit: Option<f64>,
    pub standing: Standing,
    /// Whether it fits well enough, against the best, to come before others for how it did.
    pub contends: bool,
}

/// One ranked tool.
#[derive(Debug, Clone)]
pub(crate) struct Ranked<'a> {
    pub candidate: Candidate<'a>,
    pub scores: Scores,
}

impl<'a> Ranked<'a> {
    pub(crate) fn entry(&self) -> &'a Entry {
        self.candidate.entry
    }
}

/// What the ranking rests on.
pub(crate) struct Basis<'a> {
    pub index: &'a Index,
    /// The tools that how rare a word is counts among.
    pub among: &'a Among,
    pub query: &'a Query,
    /// The capabilities that count: those asked for, or those the task implies.
    pub capabilities: &'a [String],
    /// Whether they were asked for.
    pub asked: bool,
    pub weights: Weights,
}

impl Basis<'_> {
    /// The scores of a candidate; `success` stands in the place of what its record says, where it was drawn.
    pub(crate) fn scores(&self, candidate: &Candidate, success: Option<f64>) -> Scores {
        let weights = &self.weights;
        let capability = self.capability_score(candidate.entry);
        let semantic = blend(candidate.fused.semantic, candidate.fit);
        let matching = weights.capability * capability + weights.semantic() * semantic;
        let parts = &candidate.standing.parts;
        let share = kept(candidate.entry);
        let mut scores = Scores {
            capability,
            text: f64::from(candidate.fused.parts[0]),
            semantic,
            matching,
            success: share * success.unwrap_or(parts.success),
            expected: share * parts.success,
            latency: share * parts.latency,
            cost: share * parts.cost,
            quality: share * parts.quality,
            ..Scores::default()
        };
        scores.suitability = weights.success * scores.success
            + weights.latency * scores.latency
            + weights.cost * scores.cost
            + weights.quality * scores.quality;
        scores.combined = weights.matching * matching + weights.suitability() * scores.suitability;
        scores
    }

    /// The share of the asked capabilities that a tool has. Implied ones rest on single words of the task, so
    /// having them only helps, from neutral up. Neutral when none count.
    fn capability_score(&self, entry: &Entry) -> f64 {
        if self.capabilities.is_empty() {
            return NEUTRAL;
        }
        let having = self.capabilities.iter().filter(|capability| entry.has(capability)).count();
        let share = having as f64 / self.capabilities.len() as f64;
        if self.asked { share } else { NEUTRAL + (1.0 - NEUTRAL) * share }
    }

    /// A candidate as the draws of an exploration see it.
    pub(crate) fn arm(&self, candidate: &Candidate) -> Arm {
        let gain = self.weights.suitability() * self.weights.success * kept(candidate.entry);
        let expected = candidate.standing.parts.success;
        let base = self.scores(candidate, Some(0.0)).combined;
        Arm { base, gain, expected, weight: candidate.standing.weight }
    }
}

fn kept(entry: &Entry) -> f64 {
    if entry.is_deprecated() { DEPRECATED } else { 1.0 }
}

/// The best of the candidates, best first, at most `most`. `drawn` holds the success rates of an exploration, in the
/// candidates' order.
pub(crate) fn rank<'a>(
    basis: &Basis,
    candidates: Vec<Candidate<'a>>,
    drawn: Option<&[f64]>,
    most: usize,
) -> Vec<Ranked<'a>> {
    let score = |(place, candidate): (usize, Candidate<'a>)| {
        let success = drawn.and_then(|drawn| drawn.get(place).copied());
        Ranked { scores: basis.scores(&candidate, success), candidate }
    };
    let mut ranked: Vec<Ranked> = candidates.into_iter().enumerate().map(score).collect();
    if most < ranked.len() {
        ranked.select_nth_unstable_by(most, order);
        ranked.truncate(most);
    }
    ranked.sort_unstable_by(order);
    ranked
}

/// Scores again, after the model judged the first of them; the success that was drawn stays.
pub(crate) fn rank_again(basis: &Basis, ranked: &mut [Ranked], fits: &[Option<f64>]) {
    for (tool, fit) in ranked.iter_mut().zip(fits) {
        tool.candidate.fit = *fit;
        let success = tool.scores.success / kept(tool.candidate.entry);
        tool.scores = basis.scores(&tool.candidate, Some(success));
    }
    let best = ranked.iter().map(|tool| tool.scores.semantic).fold(0.0, f64::max);
    for tool in ranked.iter_mut() {
        tool.candidate.contends = contends(tool.scores.semantic, best);
    }
    ranked.sort_unstable_by(order);
}

fn order(left: &Ranked, right: &Ranked) -> Ordering {
    let by_fit = right.candidate.contends.cmp(&left.candidate.contends);
    let by_score = by_fit.then(right.scores.combined.total_cmp(&left.scores.combined));
    by_score.then_with(|| left.entry().name.cmp(&right.entry().name))
}
