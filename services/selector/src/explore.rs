//! Thompson sampling (Thompson, "On the likelihood that one unknown probability exceeds another", Biometrika 1933;
//! Chapelle, Li, "An empirical evaluation of Thompson sampling", NIPS 2011): what is known of each candidate's success
//! is drawn at random, as uncertain as it is, so that a tool with little history gets its chance. Pure, given the
//! random numbers; must never make a candidate of what is none.

use rand::{Rng, RngExt};

/// Executions' worth of doubt about every success rate: without history any rate is as likely as any other.
const DOUBT: f64 = 2.0;
/// Rankings that are drawn to tell how likely the first place was.
const DRAWS: u32 = 200;
/// Candidates that are drawn: those that could come first soonest. The others keep what is expected of them.
const DRAWN: usize = 64;
/// Smallest parameter of a beta distribution: none at all would be no distribution.
const SMALLEST: f64 = 1e-3;

/// What is known of one candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Arm {
    /// Its combined score if it never succeeded.
    pub base: f64,
    /// What a success rate of 1 adds to that.
    pub gain: f64,
    /// The success rate that is expected of it, 0 to 1.
    pub expected: f64,
    /// Executions that this rests on, faded.
    pub weight: f64,
}

/// A draw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Explored {
    /// A success rate for each candidate, in their order.
    pub success: Vec<f64>,
    /// How likely the one that came first was to, above 0 to 1.
    pub propensity: f64,
}

impl Arm {
    fn score(&self, success: f64) -> f64 {
        self.base + self.gain * success
    }

    /// The highest score that a draw may well give.
    fn reach(&self) -> f64 {
        let deviation = (self.expected * (1.0 - self.expected) / (self.weight + DOUBT + 1.0)).sqrt();
        self.score((self.expected + 4.0 * deviation).min(1.0))
    }

    fn draw<R: Rng>(&self, random: &mut R) -> f64 {
        let evidence = self.weight.max(0.0) + DOUBT;
        let expected = self.expected.clamp(0.0, 1.0);
        beta(expected * evidence, (1.0 - expected) * evidence, random)
    }
}

/// Draws a success rate for each candidate. Of equal scores the earlier candidate comes first.
pub(crate) fn explore<R: Rng>(arms: &[Arm], random: &mut R) -> Explored {
    let drawn = soonest(arms);
    let mut success: Vec<f64> = arms.iter().map(|arm| arm.expected).collect();
    for &index in &drawn {
        success[index] = arms[index].draw(random);
    }
    let Some(first) = best(arms.iter().zip(&success).map(|(arm, success)| arm.score(*success)).enumerate())
    else {
        return Explored { success, propensity: 1.0 };
    };
    // The ranking itself is one more draw: so what happened is never told to be impossible.
    let mut wins = 1;
    for _ in 0..DRAWS {
        let draws = drawn.iter().map(|&index| (index, arms[index].draw(random)));
        let scores = draws.map(|(index, success)| (index, arms[index].score(success)));
        wins += u32::from(best(scores) == Some(first));
    }
    Explored { success, propensity: f64::from(wins) / f64::from(DRAWS + 1) }
}

/// The candidates that are drawn, in their order.
fn soonest(arms: &[Arm]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..arms.len()).collect();
    if order.len() > DRAWN {
        let reach: Vec<f64> = arms.iter().map(Arm::reach).collect();
        order.sort_by(|left, right| reach[*right].total_cmp(&reach[*left]).then(left.cmp(right)));
        order.truncate(DRAWN);
        order.sort_unstable();
    }
    order
}

fn best(scores: impl Iterator<Item = (usize, f64)>) -> Option<usize> {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    scores.reduce(better).map(|(index, _)| index)
}

/// A number of the beta distribution, from two of the gamma distribution.
fn beta<R: Rng>(successes: f64, failures: f64, random: &mut R) -> f64 {
    let (one, other) = (gamma(successes.max(SMALLEST), random), gamma(failures.max(SMALLEST), random));
    // Where both are too small to be told from 0, the likelier side has it.
    if one + other > 0.0 { one / (one + other) } else { f64::from(u8::from(successes > failures)) }
}

/// A number of the gamma distribution of scale 1 (Marsaglia, Tsang, "A simple method for generating gamma variables",
/// ACM TOMS 2000); below a shape of 1 by their boost.
fn gamma<R: Rng>(shape: f64, random: &mut R) -> f64 {
    if shape < 1.0 {
        let power: f64 = 1.0 - random.random::<f64>();
        return gamma(shape + 1.0, random) * power.powf(1.0 / shape);
    }
    let mode = shape - 1.0 / 3.0;
    loop {
        let deviate = normal(random);
        let cube = (1.0 + deviate / (9.0 * mode).sqrt()).powi(3);
        let uniform: f64 = 1.0 - random.random::<f64>();
        if cube > 0.0 && uniform.ln() < 0.5 * deviate * deviate + mode - mode * cube + mode * cube.ln() {
            return mode * cube;
        }
    }
}

/// A number of the standard normal distribution (Box, Muller, 1958).
fn normal<R: Rng>(random: &mut R) -> f64 {
    let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn arm(expected: f64, weight: f64) -> Arm {
        Arm { base: 0.3, gain: 0.24, expected, weight }
    }

    fn first(arms: &[Arm], explored: &Explored) -> usize {
        best(arms.iter().zip(&explored.success).map(|(arm, success)| arm.score(*success)).enumerate())
            .unwrap()
    }

    #[test]
    fn draws_have_the_mean_and_the_variance_of_the_beta_distribution() {
        let mut random = StdRng::seed_from_u64(1);
        for (a, b) in [(1.0, 1.0), (0.5, 0.5), (3.0, 1.0), (40.0, 10.0), (0.02, 1.98)] {
            let draws: Vec<f64> = (0..40_000).map(|_| beta(a, b, &mut random)).collect();
            let mean = draws.iter().sum::<f64>() / 40_000.0;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 40_000.0;
            let exact = (a / (a + b), a * b / ((a + b).powi(2) * (a + b + 1.0)));
            assert!((mean - exact.0).abs() < 0.006, "Beta({a}, {b}): mean {mean}, not {}", exact.0);
            assert!(
                (variance - exact.1).abs() < 0.004,
                "Beta({a}, {b}): variance {variance}, not {}",
                exact.1
            );
        }
    }

    #[test]
    fn each_comes_first_as_often_as_it_is_likely_to_be_the_best_and_says_so() {
        // Of X of Beta(3, 1) and Y of Beta(1, 1): P(X > Y) = E(X) = 3/4.
        let arms = [arm(0.75, 2.0), arm(0.5, 0.0)];
        let (mut random, mut wins, mut told) = (StdRng::seed_from_u64(2), 0, [0.0, 0.0]);
        for _ in 0..2_000 {
            let explored = explore(&arms, &mut random);
            let first = first(&arms, &explored);
            wins += usize::from(first == 0);
            told[first] += explored.propensity;
        }
        let share = wins as f64 / 2_000.0;
        assert!((share - 0.75).abs() < 0.03, "{share}");
        let (told_first, told_second) = (told[0] / wins as f64, told[1] / (2_000 - wins) as f64);
        assert!((told_first - 0.75).abs() < 0.02 && (told_second - 0.25).abs() < 0.02, "{told:?}");
    }

    #[test]
    fn the_same_random_numbers_give_the_same_draw_and_much_history_leaves_little_to_chance() {
        let arms = [arm(0.9, 400.0), arm(0.5, 400.0), arm(0.5, 0.0)];
        let draw = |seed| explore(&arms, &mut StdRng::seed_from_u64(seed));
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
        for seed in 0..200 {
            let explored = draw(seed);
            assert!((explored.success[0] - 0.9).abs() < 0.1, "{explored:?}");
            assert_ne!(first(&arms, &explored), 1, "known to be worse");
            assert!(explored.success.iter().all(|success| (0.0..=1.0).contains(success)));
        }
    }

    #[test]
    fn one_candidate_is_certain_none_is_no_fault_and_of_very_many_the_hopeless_are_not_drawn() {
        let mut random = StdRng::seed_from_u64(5);
        assert!((explore(&[arm(0.2, 3.0)], &mut random).propensity - 1.0).abs() < f64::EPSILON);
        assert!(explore(&[], &mut random).success.is_empty());
        let mut arms = vec![Arm { base: 0.0, ..arm(0.5, 0.0) }; 10_000];
        arms[9_999] = arm(0.5, 0.0);
        let explored = explore(&arms, &mut random);
        assert!((explored.success[9_999] - 0.5).abs() > 1e-9, "the one that may win is drawn");
        assert!((explored.success[5_000] - 0.5).abs() < f64::EPSILON, "it keeps what is expected");
    }

    #[test]
    fn nothing_in_a_record_breaks_a_draw() {
        let mut random = StdRng::seed_from_u64(6);
        for (expected, weight) in [(0.0, 0.0), (1.0, 0.0), (1.0, 1e12), (0.5, -3.0), (0.0, 1e9)] {
            let explored = explore(&[arm(expected, weight), arm(0.5, 1.0)], &mut random);
            assert!(explored.success.iter().all(|success| (0.0..=1.0).contains(success)), "{explored:?}");
            assert!(explored.propensity > 0.0 && explored.propensity <= 1.0, "{explored:?}");
        }
    }
}
