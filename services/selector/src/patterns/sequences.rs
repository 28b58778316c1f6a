//! Which tools follow which, in memory: written by this process as it records, and read again for what other replicas
//! recorded.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::patterns::{self as table, TransitionRow},
};

/// How often the other replicas' records are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds after which a step counts half as much; `selector.decay` has the same.
const HALF_LIFE_S: f64 = 604_800.0;

/// How often a step was made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Made {
    /// Ever.
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
            // Counts only grow: a copy read before this process's own write must not undo it.
            if steps.get(&row.to_tool).is_none_or(|known| known.count <= row.made.count) {
                steps.insert(row.to_tool, row.made);
            }
        }
    }

    /// Reads what was written since a horizon and gives the next one; 0 reads all.
    pub(crate) async fn read(&self, database: &Database, horizon: i64) -> Result<i64, Error> {
        let (next, rows) = table::transitions_changed(database.pool()?, horizon).await?;
        self.put(rows);
        Ok(next)
    }

    /// Reads what other replicas write, until told to stop.
    pub(crate) async fn follow(self, database: Database, mut horizon: i64, stop: CancellationToken) {
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
        }
    }
}
