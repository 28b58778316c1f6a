//! What a scenario found: figures for the table, and every rule that was broken.

use std::{fmt::Display, time::Duration};

/// How one scenario ended.
#[derive(Debug, Default)]
pub struct Report {
    /// The scenario.
    pub scenario: &'static str,
    /// Calls that were accepted.
    pub calls: usize,
    /// Processes that were killed or frozen.
    pub kills: usize,
    /// Accepted calls without a record.
    pub lost: usize,
    /// Calls that took effect, or ended, more often than they may.
    pub twice: usize,
    /// Longest time from the acceptance of a call to its end.
    pub slowest: Duration,
    /// Rules that were broken; none when all is well.
    pub breaches: Vec<String>,
    /// Figures that are no rule.
    pub notes: Vec<String>,
}

impl Report {
    /// Of this scenario; nothing is known yet.
    pub fn of(scenario: &'static str) -> Self {
        Self { scenario, ..Self::default() }
    }

    /// Keeps a rule as broken unless it holds.
    pub fn check(&mut self, holds: bool, breach: impl Display) {
        if !holds {
            self.breaches.push(breach.to_string());
        }
    }

    /// Keeps a figure.
    pub fn note(&mut self, figure: impl Display) {
        self.notes.push(figure.to_string());
    }

    /// Fails where a rule is broken.
    pub fn assert_sound(&self) {
        assert!(self.breaches.is_empty(), "{}", self.breaches.join("\n"));
        assert_eq!((self.lost, self.twice), (0, 0), "{self:?}");
    }
}

/// How far a scenario has come: so many of so many.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);
