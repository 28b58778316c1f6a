//! Breaker, bulkhead and retry budget for each tool of each team, made on first use. Must never let one key's
//! calls touch another's, nor forget a tool that is in use.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{Breaker, BreakerSettings, BudgetSettings, Bulkhead, BulkheadSettings, RetryBudget, State};

/// After how long without a call a shield is forgotten.
const IDLE: Duration = Duration::from_hours(1);
/// How often idle ones are looked for; they go at the next call of any tool after it.
const SWEEP: Duration = Duration::from_mins(1);

/// The settings of one shield.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ShieldSettings {
    /// When it opens, and for how long.
    pub breaker: BreakerSettings,
    /// How many calls run and wait.
    pub bulkhead: BulkheadSettings,
    /// How many retries there are.
    pub budget: BudgetSettings,
}

/// What stands between the callers and one tool.
#[derive(Debug)]
pub struct Shield {
    /// Whether the tool is called.
    pub breaker: Breaker,
    /// How many calls of it run at once.
    pub bulkhead: Bulkhead,
    /// How many calls of it may be made again.
    pub budget: RetryBudget,
}

impl Shield {
    /// A shield with a closed breaker and nothing in it.
    pub fn new(settings: &ShieldSettings, now: Instant) -> Self {
        Self {
            breaker: Breaker::new(settings.breaker, now),
            bulkhead: Bulkhead::new(settings.bulkhead),
            budget: RetryBudget::new(settings.budget, now),
        }
    }

    /// Takes over other settings and keeps its state.
    pub fn apply(&self, settings: &ShieldSettings, now: Instant) {
        self.breaker.apply(settings.breaker, now);
        self.bulkhead.apply(settings.bulkhead);
        self.budget.apply(settings.budget);
    }
}

/// The shields of all tools; the key is team and tool.
#[derive(Debug)]
pub struct Shields<K> {
    inner: Mutex<Inner<K>>,
}

#[derive(Debug)]
struct Inner<K> {
    entries: HashMap<K, Entry>,
    swept: Instant,
}

#[derive(Debug)]
struct Entry {
    shield: Arc<Shield>,
    settings: ShieldSettings,
    used: Instant,
}

impl<K: Eq + Hash + Clone> Shields<K> {
    /// No shields yet.
    pub fn new(now: Instant) -> Self {
        Self { inner: Mutex::new(Inner { entries: HashMap::new(), swept: now }) }
    }

    /// The shield of `key` with these settings: made if there is none, changed if they are others than last
    /// time.
    pub fn get(&self, key: &K, settings: &ShieldSettings, now: Instant) -> Arc<Shield> {
        let mut inner = self.lock();
        inner.sweep(now);
        if let Some(entry) = inner.entries.get_mut(key) {
            entry.used = now;
            if entry.settings != *settings {
                entry.shield.apply(settings, now);
                entry.settings = *settings;
            }
            return Arc::clone(&entry.shield);
        }
        let shield = Arc::new(Shield::new(settings, now));
        let entry = Entry { shield: Arc::clone(&shield), settings: *settings, used: now };
        inner.entries.insert(key.clone(), entry);
        shield
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Inner<K> {
    /// Forgets the idle. One that a call still holds stays: a second beside it would let twice as many calls
    /// run. So does an open one.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        self.entries.retain(|_, entry| {
            let held = Arc::strong_count(&entry.shield) > 1 || entry.shield.bulkhead.in_use() > 0;
            let open = entry.shield.breaker.state(now) == State::Open;
            held || open || now.saturating_duration_since(entry.used) < IDLE
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ShieldSettings {
        ShieldSettings::default()
    }

    fn fail(shield: &Shield, times: usize, now: Instant) {
        for _ in 0..times {
            shield.breaker.admit(now).expect("closed").failed(now);
        }
    }

    #[test]
    fn tools_and_teams_have_their_own() {
        let now = Instant::now();
        let shields = Shields::new(now);
        let shield = |team, tool| shields.get(&(team, tool), &settings(), now);
        fail(&shield("a", "search"), 10, now);
        assert_eq!(shield("a", "search").breaker.state(now), State::Open, "the same as before");
        assert_eq!(shield("a", "fetch").breaker.state(now), State::Closed);
        assert_eq!(shield("b", "search").breaker.state(now), State::Closed);
        assert_eq!(shields.lock().entries.len(), 3);
    }

    #[tokio::test]
    async fn other_settings_apply_and_the_state_stays() {
        let now = Instant::now();
        let shields = Shields::new(now);
        let shield = shields.get(&1, &settings(), now);
        fail(&shield, 9, now);
        let guard = shield.bulkhead.enter().await.expect("free");
        let mut settings = settings();
        settings.bulkhead.max_concurrent = 1;
        settings.breaker.min_calls = 5;
        let changed = shields.get(&1, &settings, now);
        assert!(changed.bulkhead.is_full(), "the call that runs has the one place");
        // Too few for both settings, but for the nine before.
        fail(&changed, 1, now);
        assert_eq!(changed.breaker.state(now), State::Open);
        drop(guard);
    }

    #[tokio::test]
    async fn idle_ones_are_forgotten_and_held_ones_are_not() {
        let start = Instant::now();
        let shields = Shields::new(start);
        let held = shields.get(&"held", &settings(), start);
        let running = shields.get(&"running", &settings(), start).bulkhead.enter().await.expect("free");
        let mut days = settings();
        days.breaker.open_for = 24 * IDLE;
        fail(&shields.get(&"open", &days, start), 10, start);
        for tool in ["idle", "used"] {
            fail(&shields.get(&tool, &settings(), start), 10, start);
        }
        let half = start + IDLE / 2;
        shields.get(&"used", &settings(), half);
        let hour = start + IDLE;
        let used = shields.get(&"used", &settings(), hour);
        assert_eq!(used.breaker.state(hour), State::HalfOpen, "the same as an hour ago");
        drop(used);
        let mut names: Vec<_> = shields.lock().entries.keys().copied().collect();
        names.sort_unstable();
        assert_eq!(names, ["held", "open", "running", "used"]);
        drop((held, running));
        shields.get(&"used", &settings(), hour + SWEEP);
        assert_eq!(shields.lock().entries.len(), 2, "the open one and the used one");
    }
}
