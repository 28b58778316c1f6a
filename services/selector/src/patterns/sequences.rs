//! Which tools follow which, in memory: written by this process as it records, and read again for what other replicas
//! recorded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::patterns::{self as table, TRANSITION_DAYS, TransitionRow},
};

/// How often the other replicas' records are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// How often what is forgotten in the table is forgotten here.
const FORGET_INTERVAL: Duration = Duration::from_hours(1);
/// Seconds after which a step counts half as much; `selector.decay` has the same.
const HALF_LIFE_S: f64 = 604_800.0;

/// How often a step was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Made {
    /// Since it was last forgotten.
    pub count: i64,
    /// Faded, as of `decay_time`.
    pub weight: f64,
    pub decay_time: DateTime<Utc>,
}

impl Made {
    /// Its weight, faded up to a time.
    pub(crate) fn weight_as_of(&self, now: DateTime<Utc>) -> f64 {
        let age_s = (now - self.decay_time).num_milliseconds().max(0) as f64 / 1_000.0;
        self.weight * 0.5_f64.powf(age_s / HALF_LIFE_S)
    }
}

/// One agent's steps from one tool, by the tool that followed.
pub(crate) type Steps = BTreeMap<String, Made>;

/// One team's steps: by the tool they begin at, and by agent.
pub(crate) type TeamSequences = HashMap<String, BTreeMap<String, Steps>>;

/// Every team's steps. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sequences {
    teams: Arc<RwLock<HashMap<String, Arc<TeamSequences>>>>,
}

impl Sequences {
    pub(crate) fn team(&self, team: &str) -> Arc<TeamSequences> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
    }

    pub(crate) fn put(&self, rows: Vec<TransitionRow>) {
        if rows.is_empty() {
            return;
        }
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let team = Arc::make_mut(teams.entry(row.team_id).or_default());
            let steps = team.entry(row.from_tool).or_default().entry(row.agent_id).or_default();
            // A copy read before this process's own write must not undo it. The count alone does not tell: it begins
            // anew when a step that was forgotten is made again.
            let version = |made: &Made| (made.decay_time, made.count);
            if steps.get(&row.to_tool).is_none_or(|known| version(known) <= version(&row.made)) {
                steps.insert(row.to_tool, row.made);
            }
        }
    }

    /// Forgets the steps that were not made since a time.
    fn forget(&self, before: DateTime<Utc>) {
        let is_old = |made: &Made| made.decay_time < before;
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        teams.retain(|_, team| {
            let mut steps = team.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values);
            if steps.any(is_old) {
                Arc::make_mut(team).retain(|_, agents| {
                    agents.retain(|_, steps| {
                        steps.retain(|_, made| !is_old(made));
                        !steps.is_empty()
                    });
                    !agents.is_empty()
                });
            }
            !team.is_empty()
        });
    }

    /// Reads what was written since a horizon and gives the next one; 0 reads all.
    pub(crate) async fn read(&self, database: &Database, horizon: i64) -> Result<i64, Error> {
        let (next, rows) = table::transitions_changed(database.pool()?, horizon).await?;
        self.put(rows);
        Ok(next)
    }

    /// Reads what other replicas write, and forgets what they forget, until told to stop.
    pub(crate) async fn follow(self, database: Database, mut horizon: i64, stop: CancellationToken) {
        let mut forgot = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            match self.read(&database, horizon).await {
                Ok(next) => horizon = next,
                Err(error) => {
                    tracing::warn!(%error, "sequences cannot be read; selections use the copy in memory");
                }
            }
            if forgot.elapsed() >= FORGET_INTERVAL {
                self.forget(Utc::now() - TimeDelta::days(i64::from(TRANSITION_DAYS)));
                forgot = Instant::now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(to: &str, count: i64, day: i64) -> TransitionRow {
        TransitionRow::new("team", ("a", to), "me", count, at(day))
    }

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn count(sequences: &Sequences, to: &str) -> Option<i64> {
        Some(sequences.team("team").get("a")?.get("me")?.get(to)?.count)
    }

    #[test]
    fn an_old_copy_undoes_nothing_and_a_step_that_was_forgotten_begins_anew() {
        let sequences = Sequences::default();
        for (made, known) in [((5, 1), 5), ((6, 1), 6), ((5, 1), 6), ((5, 0), 6), ((1, 64), 1)] {
            sequences.put(vec![row("b", made.0, made.1)]);
            assert_eq!(count(&sequences, "b"), Some(known), "{made:?}");
        }
    }

    #[test]
    fn what_was_not_done_for_long_is_forgotten_here_too() {
        let sequences = Sequences::default();
        sequences.put(vec![row("old", 5, 0), row("new", 5, 9)]);
        sequences.forget(at(1));
        assert_eq!((count(&sequences, "old"), count(&sequences, "new")), (None, Some(5)));
        sequences.forget(at(10));
        assert!(sequences.team("team").is_empty());
    }
}
