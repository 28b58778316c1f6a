//! Fits the weights of the scores to what succeeded: a logistic regression with non-negative weights, drawn towards
//! the present ones as far as the log says little. Pure and without chance.

use super::{
    SCORES, Weights,
    log::{Offer, Sample},
};

/// Samples' worth of trust in the weights that rank now.
const TRUST: f64 = 50.0;
/// Most steps of the descent, and the movement below which it has come to its end; each step costs one pass over the samples.
const STEPS: usize = 200;
const SETTLED: f64 = 1e-5;
/// Scores that differ less than this say nothing.
const CONSTANT: f64 = 1e-6;
/// How steeply success must at least be taken to rise with the score, where the log does not tell: a sure success and
/// a sure failure are then e^4 apart.
const STEEPNESS: f64 = 4.0;
/// Bounds of the match and of the capabilities: only the best tools of each task are in the log, so it cannot tell what
/// a ranking would do that hardly looks at the task.
const MATCH: (f64, f64) = (0.3, 0.9);
const CAPABILITY: (f64, f64) = (0.1, 0.7);
/// How many times success must at least count what latency and cost do together: else one more success of a slow tool
/// could lower it.
const SUCCESS: f64 = 2.0;

/// The weights under which the combined score tells success best.
pub(crate) fn fit(samples: &[Sample], present: &Weights) -> Weights {
    let called: Vec<&Offer> = samples.iter().map(|sample| &sample.offers[sample.followed]).collect();
    let rewards: Vec<f64> = samples.iter().map(Sample::reward).collect();
    let rows: Vec<[f64; SCORES]> = called.iter().map(|offer| offer.scores()).collect();
    let combined: Vec<[f64; 1]> = called.iter().map(|offer| [offer.combined(present)]).collect();
    let [steepness] = regress(&combined, &rewards, [STEEPNESS]);
    let prior = present.coefficients().map(|weight| weight * steepness.max(STEEPNESS));
    normalised(regress(&rows, &rewards, prior), present)
}

/// Non-negative weights of the columns that tell the rewards best: projected gradient descent with Nesterov's momentum
/// (Beck, Teboulle, "A fast iterative shrinkage-thresholding algorithm", SIAM J. Imaging Sci. 2009) on the mean logistic
/// loss and a square penalty for leaving the prior. Each column is centred and scaled, so that one step suits all.
fn regress<const N: usize>(rows: &[[f64; N]], rewards: &[f64], prior: [f64; N]) -> [f64; N] {
    if rows.is_empty() {
        return prior;
    }
    let count = rows.len() as f64;
    let (means, deviations) = moments(rows);
    let is_constant = deviations.map(|deviation| deviation < CONSTANT);
    let scale = deviations.map(|deviation| deviation.max(CONSTANT));
    let start: [f64; N] = std::array::from_fn(|at| prior[at] * scale[at]);
    let penalty = TRUST / count;
    // The curvature of the loss is at most a quarter of a row's squared length, on average; 1 is the intercept's.
    let step = 1.0 / (0.25 * (N as f64 + 1.0) + penalty);
    let (mut weights, mut ahead, mut momentum) = (start, start, 1.0_f64);
    let (mut intercept, mut intercept_ahead) = (0.0, 0.0);
    let centred =
        |row: &[f64; N]| -> [f64; N] { std::array::from_fn(|at| (row[at] - means[at]) / scale[at]) };
    let rows: Vec<[f64; N]> = rows.iter().map(centred).collect();
    for _ in 0..STEPS {
        let (mut slope, mut intercept_slope) = ([0.0; N], 0.0);
        for (row, reward) in rows.iter().zip(rewards) {
            let sum = intercept_ahead + row.iter().zip(&ahead).map(|(x, w)| x * w).sum::<f64>();
            let miss = (1.0 / (1.0 + (-sum).exp()) - reward) / count;
            intercept_slope += miss;
            (0..N).for_each(|at| slope[at] += miss * row[at]);
        }
        let next: [f64; N] = std::array::from_fn(|at| {
            let slope = slope[at] + penalty * (ahead[at] - start[at]);
            if is_constant[at] { start[at] } else { (ahead[at] - step * slope).max(0.0) }
        });
        let next_intercept = intercept_ahead - step * intercept_slope;
        let next_momentum = f64::midpoint(1.0, (1.0 + 4.0 * momentum * momentum).sqrt());
        let push = (momentum - 1.0) / next_momentum;
        let moved = (0..N)
            .map(|at| (next[at] - weights[at]).abs())
            .fold((next_intercept - intercept).abs(), f64::max);
        ahead = std::array::from_fn(|at| next[at] + push * (next[at] - weights[at]));
        intercept_ahead = next_intercept + push * (next_intercept - intercept);
        (weights, intercept, momentum) = (next, next_intercept, next_momentum);
        if moved < SETTLED {
            break;
        }
    }
    std::array::from_fn(|at| weights[at] / scale[at])
}

fn moments<const N: usize>(rows: &[[f64; N]]) -> ([f64; N], [f64; N]) {
    let count = rows.len() as f64;
    let means: [f64; N] = std::array::from_fn(|at| rows.iter().map(|row| row[at]).sum::<f64>() / count);
    let deviation = |at: usize| {
        let squares: f64 = rows.iter().map(|row| (row[at] - means[at]).powi(2)).sum();
        (squares / count).sqrt()
    };
    (means, std::array::from_fn(deviation))
}

/// The shares that these weights come to, within their bounds; a group without any keeps its present shares.
fn normalised(weights: [f64; SCORES], present: &Weights) -> Weights {
    let [capability, semantic, success, latency, cost, quality] = weights;
    let (matching, suitability) = (capability + semantic, success + latency + cost + quality);
    let share = |part: f64, whole: f64, otherwise: f64| if whole > 0.0 { part / whole } else { otherwise };
    let of_suitability = |part: f64, otherwise: f64| share(part, suitability, otherwise);
    success_first(Weights {
        matching: share(matching, matching + suitability, present.matching).clamp(MATCH.0, MATCH.1),
        capability: share(capability, matching, present.capability).clamp(CAPABILITY.0, CAPABILITY.1),
        success: of_suitability(success, present.success),
        latency: of_suitability(latency, present.latency),
        cost: of_suitability(cost, present.cost),
        quality: of_suitability(quality, present.quality),
    })
}

/// The same with enough for success, taken from latency and cost alike; quality keeps its share.
fn success_first(weights: Weights) -> Weights {
    let dear = weights.latency + weights.cost;
    let most = (weights.success + dear) / (1.0 + SUCCESS);
    if dear <= most {
        return weights;
    }
    let left = most / dear;
    Weights { success: SUCCESS * most, latency: weights.latency * left, cost: weights.cost * left, ..weights }
}
