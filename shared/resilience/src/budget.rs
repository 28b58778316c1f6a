//! How many calls of a tool may be made again: a share of its calls, so that retries cannot multiply the load
//! on a tool that is already failing. Must never refuse a first attempt.
//!
//! The same idea as Finagle's `RetryBudget` and tower's `TpsBudget`; that one may go over under concurrency,
//! knows only shares of 1/n and cannot change its settings.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::window::{Counts, Window};

/// How far back calls count towards the budget.
const SPAN: Duration = Duration::from_secs(10);

/// How many retries a tool may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BudgetSettings {
    /// Retries for each call of the last ten seconds.
    pub ratio: f64,
    /// Retries a second besides, so that a tool with few calls has some too. Unused ones add up over ten
    /// seconds.
    pub min_per_second: f64,
}

impl Default for BudgetSettings {
    /// 20 % of the calls and 3 a second.
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 3.0 }
    }
}

/// The retry budget of one tool. Exact over threads.
#[derive(Debug)]
pub struct RetryBudget {
    inner: Mutex<(BudgetSettings, Window)>,
}

impl RetryBudget {
    /// A budget into which nothing was paid yet.
    pub fn new(settings: BudgetSettings, now: Instant) -> Self {
        Self { inner: Mutex::new((settings, Window::new(SPAN, now))) }
    }

    /// Counts a call: its first attempt, not its retries.
    pub fn deposit(&self, now: Instant) {
        self.lock().1.add(Counts { total: 1, marked: 0 }, now);
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        let (settings, window) = &mut *inner;
        let spent = window.sum(now);
        let allowed = settings.ratio * spent.total as f64 + settings.min_per_second * SPAN.as_secs_f64();
        let granted = (spent.marked + 1) as f64 <= allowed;
        if granted {
            window.add(Counts { total: 0, marked: 1 }, now);
        }
        granted
    }

    /// Takes over other settings; what was counted stays.
    pub fn apply(&self, settings: BudgetSettings) {
        self.lock().0 = settings;
    }

    fn lock(&self) -> MutexGuard<'_, (BudgetSettings, Window)> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withdrawals(budget: &RetryBudget, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn a_fifth_of_the_calls_and_a_few_a_second() {
        let start = Instant::now();
        let budget = RetryBudget::new(BudgetSettings::default(), start);
        assert_eq!(withdrawals(&budget, 1_000, start), 30, "three a second for ten seconds");
        (0..1_000).for_each(|_| budget.deposit(start));
        assert_eq!(withdrawals(&budget, 1_000, start), 200);
        let later = start + SPAN;
        assert_eq!(withdrawals(&budget, 1_000, later), 30, "old calls pay for no new retries");
    }

    #[test]
    fn load_at_most_grows_by_the_share_over_minutes_of_an_outage() {
        let (start, calls, ticks) = (Instant::now(), 100, 600);
        let budget = RetryBudget::new(BudgetSettings { ratio: 0.2, min_per_second: 0.0 }, start);
        let retries: usize = (0..ticks)
            .map(|tick| {
                let now = start + Duration::from_millis(100) * tick;
                (0..calls).for_each(|_| budget.deposit(now));
                withdrawals(&budget, 300, now)
            })
            .sum();
        let share = retries as f64 / f64::from(calls * ticks);
        assert!((0.15..=0.2).contains(&share), "{share}");
    }

    #[test]
    fn threads_take_no_more_than_there_is() {
        let now = Instant::now();
        let budget = RetryBudget::new(BudgetSettings { ratio: 0.5, min_per_second: 0.0 }, now);
        (0..1_000).for_each(|_| budget.deposit(now));
        let taken: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..8).map(|_| scope.spawn(|| withdrawals(&budget, 500, now))).collect();
            takers.into_iter().map(|taker| taker.join().expect("taker")).sum()
        });
        assert_eq!(taken, 500);
    }

    #[test]
    fn other_settings_keep_what_was_spent() {
        let now = Instant::now();
        let budget = RetryBudget::new(BudgetSettings { ratio: 0.0, min_per_second: 1.0 }, now);
        assert_eq!(withdrawals(&budget, 100, now), 10);
        budget.apply(BudgetSettings { ratio: 0.0, min_per_second: 1.5 });
        assert_eq!(withdrawals(&budget, 100, now), 5);
    }
}
