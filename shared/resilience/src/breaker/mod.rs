//! A circuit breaker: a tool that keeps failing is left alone for a while, then tried with a few calls. Must
//! never let more than the probes through while half open, nor count a result that belongs to an earlier
//! state.
//!
//! The states are those of Nygard, "Release It!". The caller gives the time, and says of each admitted call
//! how it ended; a [`Permit`] that is dropped says nothing about the tool and gives its place back.

mod machine;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use machine::{Machine, Ticket};

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerSettings {
    /// Share of failed calls in the window at which it opens.
    pub failure_ratio: f64,
    /// Calls that must be in the window before it may open.
    pub min_calls: u32,
    /// How far back calls count, in ten steps.
    pub window: Duration,
    /// How long it first stays open.
    pub open_for: Duration,
    /// How much longer each time that the probes fail; below 1 counts as 1.
    pub open_multiplier: f64,
    /// The longest it stays open.
    pub max_open_for: Duration,
    /// Calls let through while half open, and successes that close it; 0 counts as 1.
    pub probes: u32,
    /// A call that took at least this long counts as failed even when it succeeded.
    pub slow_call: Option<Duration>,
}

impl Default for BreakerSettings {
    /// Half of at least 10 calls in 30 s; open for 30 s, doubled up to 5 min; 3 probes; slow calls are no
    /// failures.
    fn default() -> Self {
        Self {
            failure_ratio: 0.5,
            min_calls: 10,
            window: Duration::from_secs(30),
            open_for: Duration::from_secs(30),
            open_multiplier: 2.0,
            max_open_for: Duration::from_mins(5),
            probes: 3,
            slow_call: None,
        }
    }
}

/// What a breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Lets every call through and counts failures.
    Closed,
    /// Refuses every call.
    Open,
    /// Lets a few calls through to see whether the tool is back.
    HalfOpen,
}

impl State {
    /// The word for it in metrics and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The call was refused because the tool keeps failing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit breaker is open for another {} ms", retry_after.as_millis())]
pub struct Open {
    /// Until the first probe may be made; one second where all probes are under way and nobody knows.
    pub retry_after: Duration,
}

/// The breaker of one tool. Clones share it.
#[derive(Debug, Clone)]
pub struct Breaker {
    machine: Arc<Mutex<Machine>>,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings, now: Instant) -> Self {
        Self { machine: Arc::new(Mutex::new(Machine::new(settings, now))) }
    }

    /// Lets a call through, or says when to ask again.
    pub fn admit(&self, now: Instant) -> Result<Permit, Open> {
        let ticket = self.lock().admit(now)?;
        Ok(Permit { machine: Arc::clone(&self.machine), ticket: Some(ticket), begun: now })
    }

    /// What it does at `now`. Once the open time is over it is half open, whether or not a probe was made.
    pub fn state(&self, now: Instant) -> State {
        self.lock().state(now)
    }

    /// Takes over other settings. Its state and counts stay; how long it is open follows the new settings at
    /// once.
    pub fn apply(&self, settings: BreakerSettings, now: Instant) {
        self.lock().apply(settings, now);
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }
}

/// The leave to make one call. Say how it ended; dropped, it is [`Permit::ignored`].
#[derive(Debug)]
#[must_use = "a permit that is dropped says nothing about the tool"]
pub struct Permit {
    machine: Arc<Mutex<Machine>>,
    ticket: Option<Ticket>,
    begun: Instant,
}

impl Permit {
    /// The tool did what it was asked. Gives the state of the breaker if that changed it.
    pub fn succeeded(mut self, now: Instant) -> Option<State> {
        let took = now.saturating_duration_since(self.begun);
        self.ticket.take().and_then(|ticket| lock(&self.machine).succeeded(ticket, took, now))
    }

    /// The tool failed. Gives the state of the breaker if that changed it.
    pub fn failed(mut self, now: Instant) -> Option<State> {
        self.ticket.take().and_then(|ticket| lock(&self.machine).failed(ticket, now))
    }

    /// The call says nothing about the tool: it was cancelled, or its arguments were wrong. A probe's place
    /// is free again.
    pub fn ignored(self) {}
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            lock(&self.machine).ignored(ticket);
        }
    }
}

fn lock(machine: &Mutex<Machine>) -> MutexGuard<'_, Machine> {
    machine.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
