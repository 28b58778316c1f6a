//! Judges weights against the log before they rank: what share of the tasks would have succeeded (doubly robust
//! estimate: Dudik, Langford, Li, "Doubly robust policy evaluation and learning", ICML 2011).
//!
//! An action is the call of an offered tool. Which place an agent calls is its own affair, whatever tool stands there:
//! so other weights make a tool likelier as they move it to a place that is called more often. Pure, given the seed.
//! Must never judge by the samples that the weights were fitted to.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Evaluation, Weights,
    log::{Offer, Sample},
};

/// Most that one sample counts: an unlikely call that succeeded is no proof.
const CLIP: f64 = 20.0;
/// Bins of the suitability in the reward model.
const BINS: usize = 10;
/// Samples' worth of the average in each bin.
const BIN_PRIOR: f64 = 4.0;
/// Resamples of the interval, and what lies outside it at either end (Efron, 1979).
const RESAMPLES: usize = 1_000;
const TAIL: usize = 25;
/// How much worse the new weights may be at the lower end of the interval.
const MARGIN: f64 = 0.01;

/// Judges weights that were fitted to the older samples by the newer ones.
pub(crate) fn judge(
    (older, newer): (&[Sample], &[Sample]),
    before: &Weights,
    after: &Weights,
    seed: u64,
) -> Evaluation {
    let places = Places::of(older.iter().chain(newer));
    let model = RewardModel::of(older, *before);
    let estimate = |weights: &Weights| -> Vec<f64> {
        newer.iter().map(|sample| doubly_robust(sample, weights, &places, &model)).collect()
    };
    let (before_each, after_each) = (estimate(before), estimate(after));
    let gains: Vec<f64> = after_each.iter().zip(&before_each).map(|(after, before)| after - before).collect();
    let (gain_low, gain_high) = interval(&gains, seed);
    let same = newer.iter().filter(|sample| sample.order(before)[0] == sample.order(after)[0]).count();
    let gain = mean(&gains);
    Evaluation {
        selections: i64::try_from(older.len() + newer.len()).unwrap_or(i64::MAX),
        reward_before: mean(&before_each).clamp(0.0, 1.0),
        reward_after: mean(&after_each).clamp(0.0, 1.0),
        gain_low,
        gain_high,
        agreement: if newer.is_empty() { 1.0 } else { same as f64 / newer.len() as f64 },
        refusal: refusal(gain, gain_low),
    }
}

/// Why such weights may not rank; empty: they may.
fn refusal(gain: f64, gain_low: f64) -> String {
    let points = |share: f64| share * 100.0;
    if gain <= 0.0 {
        return format!("no gain: {:+.1} points of success by the estimate", points(gain));
    }
    if gain_low <= -MARGIN {
        return format!(
            "not sure enough: a gain of {:.1} points by the estimate, but it may be {:+.1}; the 95 % interval must stay \
             above {:.0}",
            points(gain),
            points(gain_low),
            points(-MARGIN)
        );
    }
    String::new()
}

/// What a sample says of weights: the model's reward of the tools that they put first, put right by what really became
/// of the one that was called.
fn doubly_robust(sample: &Sample, weights: &Weights, places: &Places, model: &RewardModel) -> f64 {
    let order = sample.order(weights);
    let (called, count) = (sample.followed, sample.offers.len());
    let ranked = order.iter().enumerate();
    let expected: f64 =
        ranked.map(|(place, &index)| places.share(place, count) * model.reward(&sample.offers[index])).sum();
    let new_place = order.iter().position(|&index| index == called).unwrap_or(called);
    // What explored said only how likely its first was to be there.
    let luck = if called == 0 { sample.propensity } else { 1.0 };
    let logged = places.share(called, count) * luck;
    let ratio = if logged > 0.0 { places.share(new_place, count) / logged } else { 0.0 };
    expected + ratio.min(CLIP) * (sample.reward() - model.reward(&sample.offers[called]))
}

/// How often each place of an offer is called.
struct Places(Vec<f64>);

impl Places {
    fn of<'a>(samples: impl Iterator<Item = &'a Sample>) -> Self {
        let mut counts: Vec<f64> = Vec::new();
        for sample in samples {
            counts.resize(counts.len().max(sample.followed + 1), 0.0);
            counts[sample.followed] += 1.0;
        }
        Self(counts)
    }

    /// Of the calls of an offer of so many tools.
    fn share(&self, place: usize, offers: usize) -> f64 {
        let sum: f64 = self.0.iter().take(offers).sum();
        if sum > 0.0 { self.0.get(place).copied().unwrap_or(0.0) / sum } else { 0.0 }
    }
}

/// What share of the calls of tools about as suitable succeeded.
struct RewardModel {
    shares: [f64; BINS],
    /// By which they were suitable.
    weights: Weights,
}

impl RewardModel {
    fn of(samples: &[Sample], weights: Weights) -> Self {
        let base = mean(&samples.iter().map(Sample::reward).collect::<Vec<_>>());
        let (mut rewards, mut counts) = ([base * BIN_PRIOR; BINS], [BIN_PRIOR; BINS]);
        for sample in samples {
            let bin = bin(sample.offers[sample.followed].suitability(&weights));
            rewards[bin] += sample.reward();
            counts[bin] += 1.0;
        }
        Self { shares: std::array::from_fn(|bin| rewards[bin] / counts[bin]), weights }
    }

    fn reward(&self, offer: &Offer) -> f64 {
        self.shares[bin(offer.suitability(&self.weights))]
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1, times 10")]
fn bin(suitability: f64) -> usize {
    ((suitability.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1)
}

/// The interval that holds the mean with 95 %, by resampling.
fn interval(values: &[f64], seed: u64) -> (f64, f64) {
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let mut random = StdRng::seed_from_u64(seed);
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let drawn = (0..values.len()).map(|_| values[random.random_range(0..values.len())]);
            drawn.sum::<f64>() / values.len() as f64
        })
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    (means[TAIL], means[RESAMPLES - 1 - TAIL])
}

fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
