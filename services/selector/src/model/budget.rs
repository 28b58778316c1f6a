//! How many questions a team may have asked on a day, in this process: what a model costs must not be without bound.
//! Kept in memory; another process has its own.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, NaiveDate, Utc};

/// Questions of today.
#[derive(Debug)]
pub(super) struct Budget {
    most: u64,
    today: Mutex<(NaiveDate, HashMap<String, u64>)>,
}

impl Budget {
    /// At most this many a day for each team.
    pub(super) fn new(most: u64) -> Self {
        Self { most, today: Mutex::default() }
    }

    /// Takes one question, if there is one left.
    pub(super) fn take(&self, team: &str, now: DateTime<Utc>) -> bool {
        let mut today = self.today(now);
        let asked = today.1.entry(team.to_owned()).or_default();
        let is_left = *asked < self.most;
        *asked += u64::from(is_left);
        is_left
    }

    /// Whether a team has none left.
    pub(super) fn is_spent(&self, team: &str, now: DateTime<Utc>) -> bool {
        self.today(now).1.get(team).is_some_and(|asked| *asked >= self.most)
    }

    fn today(&self, now: DateTime<Utc>) -> MutexGuard<'_, (NaiveDate, HashMap<String, u64>)> {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.0 != now.date_naive() {
            *today = (now.date_naive(), HashMap::new());
        }
        today
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_team_has_its_own_questions_and_new_ones_each_day() {
        let budget = Budget::new(2);
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let late = at("2026-11-23T23:59:59Z");
        assert!(budget.take("one", late) && budget.take("one", late));
        assert!(!budget.take("one", late) && budget.is_spent("one", late));
        assert!(!budget.is_spent("two", late) && budget.take("two", late));
        let next = at("2026-11-24T00:00:00Z");
        assert!(!budget.is_spent("one", next) && budget.take("one", next));
    }
}
