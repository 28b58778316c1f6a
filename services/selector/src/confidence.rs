//! How likely the first tool is the right one. Pure; a measured chance and never a constant.

use crate::fuse::Mode;

/// Slope and intercept of a logistic regression to whether the first tool was right: half the tasks of two public sets, alone and
/// merged, without history and with 5 and 20 successes a tool, and in catalogs of 1 to 100 tools, some without the
/// right one. `make bench-retrieval` prints how far it is off on other tasks.
const VECTORS: (f64, f64) = (0.78, 0.60);
/// The same where words speak alone.
const WORDS: (f64, f64) = (0.72, 1.2);
/// Shares nearer than this to 0 or 1 say no more.
const LEAST: f64 = 1e-3;

/// The chance that the first tool is right, 0 to 1, given its chance against the other candidates and none at all
/// (`Fused::share`).
pub(crate) fn confidence(share: f64, mode: Mode) -> f64 {
    let share = share.clamp(LEAST, 1.0 - LEAST);
    let (slope, intercept) = if mode == Mode::Lexical { WORDS } else { VECTORS };
    let odds = slope * (share / (1.0 - share)).ln() + intercept;
    1.0 / (1.0 + (-odds).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::{FusionWeights, Signals, fuse};

    #[test]
    fn a_larger_share_is_surer_and_every_answer_is_a_chance() {
        let chances: Vec<f64> = (0..=20).map(|step| confidence(f64::from(step) / 20.0, Mode::Full)).collect();
        assert!(chances.is_sorted_by(|less, more| less < more), "{chances:?}");
        assert!(chances.iter().all(|chance| (0.0..=1.0).contains(chance)), "{chances:?}");
        assert!((confidence(0.5, Mode::Full) - 0.65).abs() < 0.01, "of two alike: {chances:?}");
    }

    #[test]
    fn the_only_tool_is_not_right_for_being_the_only_one() {
        let first = |embedding: f32, lexical: f32, others: usize| {
            let tool = Signals {
                lexical,
                embedding,
                description: embedding,
                segment: embedding,
                ..Signals::default()
            };
            confidence(
                fuse(&vec![tool; others + 1], Mode::Full, &FusionWeights::default())[0].share,
                Mode::Full,
            )
        };
        assert!(first(0.1, 0.0, 0) < 0.4, "{}", first(0.1, 0.0, 0));
        assert!(first(0.6, 10.0, 0) > 0.9, "{}", first(0.6, 10.0, 0));
        assert!(first(0.6, 10.0, 9) < 0.3, "one of ten alike: {}", first(0.6, 10.0, 9));
    }
}
