//! The states of a breaker and what moves it from one to the next. Must never wait, lock or read a clock.

use std::time::Duration;

use tokio::time::Instant;

use super::{BreakerSettings, Open, State};
use crate::window::{Counts, Window};

/// When to ask again while all probes are under way.
const PROBES_TAKEN: Duration = Duration::from_secs(1);

/// An admitted call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket {
    /// The phase it was admitted in: a result counts in that one only.
    phase: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        since: Instant,
    },
    /// `running + succeeded` never exceeds the probes, which bounds them at once and in all.
    HalfOpen {
        running: u32,
        succeeded: u32,
    },
}

#[derive(Debug)]
pub(super) struct Machine {
    settings: BreakerSettings,
    phase: Phase,
    /// Counts the changes of phase.
    number: u64,
    window: Window,
    /// How often it opened since it was last closed.
    streak: u32,
}

impl Machine {
    pub(super) fn new(settings: BreakerSettings, now: Instant) -> Self {
        let window = Window::new(settings.window, now);
        Self { settings, phase: Phase::Closed, number: 0, window, streak: 0 }
    }

    pub(super) fn admit(&mut self, now: Instant) -> Result<Ticket, Open> {
        if let Phase::Open { since } = self.phase {
            let left = self.open_left(since, now);
            if !left.is_zero() {
                return Err(Open { retry_after: left });
            }
            self.enter(Phase::HalfOpen { running: 0, succeeded: 0 });
        }
        let probes = self.probes();
        match &mut self.phase {
            Phase::HalfOpen { running, succeeded } if *running + *succeeded < probes => *running += 1,
            Phase::HalfOpen { .. } => return Err(Open { retry_after: PROBES_TAKEN }),
            Phase::Closed | Phase::Open { .. } => {}
        }
        Ok(Ticket { phase: self.number })
    }

    pub(super) fn succeeded(&mut self, ticket: Ticket, took: Duration, now: Instant) -> Option<State> {
        if self.settings.slow_call.is_some_and(|slow| took >= slow) {
            return self.failed(ticket, now);
        }
        if ticket.phase != self.number {
            return None;
        }
        match &mut self.phase {
            Phase::Closed => {
                self.window.add(Counts { total: 1, marked: 0 }, now);
                self.open_if_failing(now)
            }
            Phase::HalfOpen { running, succeeded } => {
                *running -= 1;
                *succeeded += 1;
                self.close_if_proven(now)
            }
            Phase::Open { .. } => None,
        }
    }

    pub(super) fn failed(&mut self, ticket: Ticket, now: Instant) -> Option<State> {
        if ticket.phase != self.number {
            return None;
        }
        match self.phase {
            Phase::Closed => {
                self.window.add(Counts { total: 1, marked: 1 }, now);
                self.open_if_failing(now)
            }
            Phase::HalfOpen { .. } => Some(self.open(now)),
            Phase::Open { .. } => None,
        }
    }

    pub(super) fn ignored(&mut self, ticket: Ticket) {
        if let Phase::HalfOpen { running, .. } = &mut self.phase
            && ticket.phase == self.number
        {
            *running -= 1;
        }
    }

    pub(super) fn state(&self, now: Instant) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { since } if !self.open_left(since, now).is_zero() => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn apply(&mut self, settings: BreakerSettings, now: Instant) {
        if settings.window != self.settings.window {
            self.window = self.window.resized(settings.window, now);
        }
        self.settings = settings;
        // With fewer probes, those that succeeded may be enough already: no further one would be admitted to
        // say so.
        self.close_if_proven(now);
    }

    fn open_if_failing(&mut self, now: Instant) -> Option<State> {
        let counts = self.window.sum(now);
        let failing = counts.marked as f64 >= self.settings.failure_ratio * counts.total as f64;
        let known = counts.marked > 0 && counts.total >= u64::from(self.settings.min_calls);
        (known && failing).then(|| self.open(now))
    }

    fn open(&mut self, now: Instant) -> State {
        self.streak = self.streak.saturating_add(1);
        self.window = Window::new(self.settings.window, now);
        self.enter(Phase::Open { since: now });
        State::Open
    }

    fn close_if_proven(&mut self, now: Instant) -> Option<State> {
        match self.phase {
            Phase::HalfOpen { succeeded, .. } if succeeded >= self.probes() => {
                self.streak = 0;
                self.window = Window::new(self.settings.window, now);
                self.enter(Phase::Closed);
                Some(State::Closed)
            }
            Phase::HalfOpen { .. } | Phase::Closed | Phase::Open { .. } => None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.number += 1;
    }

    fn probes(&self) -> u32 {
        self.settings.probes.max(1)
    }

    /// What is left of the open time, which grows with each opening in a row.
    fn open_left(&self, since: Instant, now: Instant) -> Duration {
        let again = i32::try_from(self.streak.saturating_sub(1)).unwrap_or(i32::MAX);
        let growth = self.settings.open_multiplier.max(1.0).powi(again);
        let cap = self.settings.max_open_for.max(self.settings.open_for);
        let length = Duration::try_from_secs_f64(self.settings.open_for.as_secs_f64() * growth);
        length.unwrap_or(cap).min(cap).saturating_sub(now.saturating_duration_since(since))
    }
}
