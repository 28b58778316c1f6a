//! Sees that a rate has changed, outcome by outcome: the Page-Hinkley test, on either side (E. S. Page, "Continuous
//! inspection schemes", Biometrika 41, 1954). Pure.

use serde::{Deserialize, Serialize};

/// How far an outcome may be from what is expected and yet say nothing.
const TOLERANCE: f64 = 0.2;
/// Sum of what is beyond it that is a change: 4 to 6 outcomes of a tool that was good and now fails. At a steady rate of
/// 0.9 it is reached less than once in 10,000 outcomes, at 0.5 about seven times.
const THRESHOLD: f64 = 3.0;

/// A change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    Worse,
    Better,
}

/// How far the outcomes have run off, downwards and upwards, since each last ran back.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Drift {
    pub fall: f64,
    pub rise: f64,
}

impl Drift {
    /// Takes one outcome against the rate that was expected of it. A turn begins anew.
    pub(crate) fn step(&mut self, expected: f64, succeeded: bool) -> Option<Turn> {
        let seen = f64::from(u8::from(succeeded));
        self.fall = (self.fall + (expected - seen) - TOLERANCE).max(0.0);
        self.rise = (self.rise + (seen - expected) - TOLERANCE).max(0.0);
        let turn = match () {
            () if self.fall > THRESHOLD => Turn::Worse,
            () if self.rise > THRESHOLD => Turn::Better,
            () => return None,
        };
        *self = Self::default();
        Some(turn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_failures_is_a_turn_and_a_steady_rate_is_none() {
        let mut drift = Drift::default();
        let turns: Vec<_> = (0..5).map(|_| drift.step(0.95, false)).collect();
        assert_eq!(turns, [None, None, None, None, Some(Turn::Worse)]);
        assert_eq!(drift, Drift::default());
        let turns: Vec<_> = (0..5).filter_map(|_| drift.step(0.1, true)).collect();
        assert_eq!(turns, [Turn::Better]);
        let mut drift = Drift::default();
        assert!((0..10_000).all(|number| drift.step(0.9, number % 10 != 0).is_none()));
    }
}
