//! Measures of a ranking, as the data's `score.py` computes them, and of what is said of it. Pure; must never know where
//! a ranking comes from.

use std::{
    collections::{BTreeSet, HashSet},
    ops::AddAssign,
};

use serde::Serialize;

/// Bins of the expected calibration error.
pub const BINS: usize = 10;

/// Means over the queries of a set, each 0 to 1.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Quality {
    /// Share of queries whose first tool is right.
    pub ndcg_1: f64,
    /// Normalised discounted cumulative gain of the first five.
    pub ndcg_5: f64,
    /// Share of the right tools among the first five.
    pub recall_5: f64,
    /// Queries.
    pub queries: usize,
}

impl Quality {
    /// Of one ranking, best first. `relevant` must not be empty.
    pub fn of(relevant: &BTreeSet<String>, ranked: &[String]) -> Self {
        Self {
            ndcg_1: ndcg(relevant, ranked, 1),
            ndcg_5: ndcg(relevant, ranked, 5),
            recall_5: recall(relevant, ranked, 5),
            queries: 1,
        }
    }

    /// The mean over such of single queries.
    pub fn mean(each: impl IntoIterator<Item = Self>) -> Self {
        let mut sum = Self::default();
        each.into_iter().for_each(|one| sum += one);
        let queries = sum.queries.max(1) as f64;
        Self {
            ndcg_1: sum.ndcg_1 / queries,
            ndcg_5: sum.ndcg_5 / queries,
            recall_5: sum.recall_5 / queries,
            ..sum
        }
    }
}

impl AddAssign for Quality {
    fn add_assign(&mut self, other: Self) {
        self.ndcg_1 += other.ndcg_1;
        self.ndcg_5 += other.ndcg_5;
        self.recall_5 += other.recall_5;
        self.queries += other.queries;
    }
}

/// Whether each place holds a right tool; a tool named again counts at its first place only.
fn hits<'a>(relevant: &'a BTreeSet<String>, ranked: &'a [String]) -> impl Iterator<Item = bool> {
    let mut seen = HashSet::new();
    ranked.iter().filter(move |name| seen.insert(*name)).map(|name| relevant.contains(name))
}

fn discount(place: usize) -> f64 {
    1.0 / (place as f64 + 2.0).log2()
}

/// NDCG at `k` with binary gain; ideal are the smaller of `k` and the number of right tools at the top
/// (Järvelin, Kekäläinen: "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002).
pub fn ndcg(relevant: &BTreeSet<String>, ranked: &[String], k: usize) -> f64 {
    let gains = hits(relevant, ranked).take(k).enumerate().filter(|(_, hit)| *hit);
    let gain: f64 = gains.map(|(place, _)| discount(place)).sum();
    let ideal: f64 = (0..k.min(relevant.len())).map(discount).sum();
    gain / ideal
}

/// Share of the right tools that are among the first `k`.
pub fn recall(relevant: &BTreeSet<String>, ranked: &[String], k: usize) -> f64 {
    let found = hits(relevant, ranked).take(k).filter(|hit| *hit).count();
    found as f64 / relevant.len() as f64
}

/// One bin of the calibration.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Bin {
    /// Answers whose confidence fell into it.
    pub answers: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// Share of them that were right.
    pub right: f64,
}

/// Confidences against what was right: bins of equal width, and the expected calibration error over them
/// (Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015).
pub fn calibration(answers: &[(f64, bool)]) -> ([Bin; BINS], f64) {
    let mut bins = [Bin::default(); BINS];
    for &(confidence, right) in answers {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
        let bin = &mut bins[((confidence.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1)];
        bin.answers += 1;
        bin.confidence += confidence;
        bin.right += f64::from(u8::from(right));
    }
    let mut error = 0.0;
    for bin in bins.iter_mut().filter(|bin| bin.answers > 0) {
        bin.confidence /= bin.answers as f64;
        bin.right /= bin.answers as f64;
        error += (bin.confidence - bin.right).abs() * bin.answers as f64 / answers.len() as f64;
    }
    (bins, error)
}

/// The chance that a score of the first kind is above one of the second, a tie counting half: the area under the
/// ROC curve (Hanley, McNeil 1982). 0.5 where one kind is empty.
pub fn separation(above: &[f64], below: &[f64]) -> f64 {
    if above.is_empty() || below.is_empty() {
        return 0.5;
    }
    let mut below = below.to_vec();
    below.sort_by(f64::total_cmp);
    let under = |score: &f64| {
        let less = below.partition_point(|other| other < score);
        let ties = below.partition_point(|other| other <= score) - less;
        less as f64 + ties as f64 / 2.0
    };
    above.iter().map(under).sum::<f64>() / (above.len() * below.len()) as f64
}

/// The value below which this share of them lies; 0 of none. Sorts them.
pub fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let place = (share * values.len() as f64).ceil() as usize;
    values.get(place.clamp(1, values.len().max(1)) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &str) -> BTreeSet<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn list(names: &str) -> Vec<String> {
        names.split_whitespace().map(str::to_owned).collect()
    }

    fn near(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-9, "{left} is not {right}");
    }

    #[test]
    fn a_ranking_is_scored_as_by_hand() {
        let first = Quality::of(&set("a"), &list("a b c"));
        near(first.ndcg_1, 1.0);
        near(first.ndcg_5, 1.0);
        let third = Quality::of(&set("a"), &list("b c a"));
        near(third.ndcg_1, 0.0);
        near(third.ndcg_5, 0.5);
        near(third.recall_5, 1.0);
        let sixth = Quality::of(&set("a"), &list("b c d e f a"));
        near(sixth.ndcg_5, 0.0);
        near(sixth.recall_5, 0.0);
        // Right at the first and the fourth place, of three: (1 + 1 / log2 5) / (1 + 1 / log2 3 + 1 / 2).
        let three = Quality::of(&set("a b z"), &list("a x y b"));
        near(three.ndcg_1, 1.0);
        near(three.ndcg_5, (1.0 + 1.0 / 5_f64.log2()) / (1.5 + 1.0 / 3_f64.log2()));
        near(three.recall_5, 2.0 / 3.0);
        near(Quality::of(&set("a"), &[]).ndcg_5, 0.0);
    }

    #[test]
    fn a_tool_named_twice_counts_once() {
        let twice = Quality::of(&set("a b"), &list("a a b"));
        near(twice.ndcg_5, 1.0);
        near(twice.recall_5, 1.0);
    }

    #[test]
    fn a_mean_is_over_queries() {
        let mean =
            Quality::mean([Quality::of(&set("a"), &list("a")), Quality::of(&set("a"), &list("b c a"))]);
        near(mean.ndcg_1, 0.5);
        near(mean.ndcg_5, 0.75);
        assert_eq!(mean.queries, 2);
        near(Quality::mean([]).ndcg_1, 0.0);
    }

    #[test]
    fn confidence_that_is_half_wrong_is_told() {
        let honest = [(0.75, true), (0.75, true), (0.75, true), (0.75, false)];
        near(calibration(&honest).1, 0.0);
        let boastful = [(1.0, true), (1.0, false)];
        let (bins, error) = calibration(&boastful);
        near(error, 0.5);
        assert_eq!(bins[9].answers, 2);
        near(bins[9].right, 0.5);
        near(calibration(&[(0.15, false), (1.0, true)]).1, 0.075);
    }

    #[test]
    fn scores_that_tell_nothing_separate_nothing() {
        near(separation(&[0.9, 0.8], &[0.1, 0.2]), 1.0);
        near(separation(&[0.5, 0.5], &[0.5]), 0.5);
        near(separation(&[0.1], &[0.2, 0.3]), 0.0);
        near(separation(&[], &[0.2]), 0.5);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        near(percentile(&mut values, 0.5), 50.0);
        near(percentile(&mut values, 0.99), 99.0);
        near(percentile(&mut [7.0], 0.99), 7.0);
        near(percentile(&mut [], 0.99), 0.0);
    }
}
