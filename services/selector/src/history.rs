//! What calls came to, in memory: written by this process as it records, and read again for what other
//! replicas recorded. A selection asks nothing but this copy.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{self, HistoryRow},
};

/// How often the other replicas' records are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Seconds after which an execution counts half as much; `selector.decay` has the same.
const HALF_LIFE_S: f64 = 604_800.0;

/// Executions, all of them and faded.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Counts {
    pub executions: i64,
    pub successes: i64,
    /// Executions, faded as of `decay_time`.
    pub weight: f64,
    /// Successes, faded.
    pub success_weight: f64,
    /// Their durations in milliseconds, faded and summed.
    pub duration_ms: f64,
    /// Their costs in millionths of a US dollar, faded and summed.
    pub cost_micro_usd: f64,
    pub decay_time: DateTime<Utc>,
}

impl Counts {
    /// The same, faded up to a later time.
    pub(crate) fn as_of(&self, time: DateTime<Utc>) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "milliseconds of a few years fit a double")]
        let age_s = (time - self.decay_time).num_milliseconds().max(0) as f64 / 1_000.0;
        let factor = 0.5_f64.powf(age_s / HALF_LIFE_S);
        Self {
            weight: self.weight * factor,
            success_weight: self.success_weight * factor,
            duration_ms: self.duration_ms * factor,
            cost_micro_usd: self.cost_micro_usd * factor,
            decay_time: self.decay_time.max(time),
            ..self.clone()
        }
    }

    fn add(&mut self, other: &Self) {
        self.executions += other.executions;
        self.successes += other.successes;
        self.weight += other.weight;
        self.success_weight += other.success_weight;
        self.duration_ms += other.duration_ms;
        self.cost_micro_usd += other.cost_micro_usd;
    }

    /// Average duration in milliseconds; an average does not fade, its parts fade alike.
    pub(crate) fn average_ms(&self) -> f64 {
        self.average(self.duration_ms)
    }

    /// Average cost in millionths of a US dollar.
    pub(crate) fn average_cost(&self) -> f64 {
        self.average(self.cost_micro_usd)
    }

    /// Share of successes, recent ones counting more.
    pub(crate) fn success_rate(&self) -> f64 {
        self.average(self.success_weight)
    }

    fn average(&self, sum: f64) -> f64 {
        if self.weight > 0.0 { sum / self.weight } else { 0.0 }
    }
}

/// One tool's history in a team.
#[derive(Debug, Clone, Default)]
pub(crate) struct ToolHistory {
    /// By agent.
    pub agents: HashMap<String, Counts>,
    /// Of all agents.
    pub team: Counts,
}

impl ToolHistory {
    fn put(&mut self, agent: String, counts: Counts) {
        // Counts only grow: a copy read before this process's own write must not undo it.
        if self.agents.get(&agent).is_some_and(|known| known.executions > counts.executions) {
            return;
        }
        self.agents.insert(agent, counts);
        let newest = self.agents.values().map(|counts| counts.decay_time).max().unwrap_or_default();
        let mut team = Counts { decay_time: newest, ..Counts::default() };
        self.agents.values().for_each(|counts| team.add(&counts.as_of(newest)));
        self.team = team;
    }
}

/// One team's history, by tool.
pub(crate) type TeamHistory = HashMap<String, Arc<ToolHistory>>;

/// Every team's history. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    teams: Arc<RwLock<HashMap<String, Arc<TeamHistory>>>>,
}

impl History {
    pub(crate) fn team(&self, team: &str) -> Arc<TeamHistory> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
    }

    pub(crate) fn put(&self, rows: Vec<HistoryRow>) {
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        for row in rows {
            let team = Arc::make_mut(teams.entry(row.team_id).or_default());
            Arc::make_mut(team.entry(row.tool_name).or_default()).put(row.agent_id, row.counts);
        }
    }

    /// Reads what was written since a horizon and gives the next one; 0 reads all.
    pub(crate) async fn read(&self, database: &Database, horizon: i64) -> Result<i64, Error> {
        let (next, rows) = store::history_changed(database.pool()?, horizon).await?;
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
                    tracing::warn!(%error, "history cannot be read; selections use the copy in memory");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn row(agent: &str, executions: i64, time: DateTime<Utc>) -> HistoryRow {
        #[allow(clippy::cast_precision_loss)]
        let weight = executions as f64;
        let counts = Counts { executions, weight, decay_time: time, ..Counts::default() };
        HistoryRow { team_id: "t".into(), tool_name: "x".into(), agent_id: agent.into(), counts }
    }

    #[test]
    fn an_execution_counts_half_after_a_week_and_the_total_stays() {
        let counts = row("a", 8, DateTime::UNIX_EPOCH).counts;
        let later = counts.as_of(DateTime::UNIX_EPOCH + TimeDelta::days(14));
        assert!((later.weight - 2.0).abs() < 1e-9);
        assert_eq!(later.executions, 8);
        assert_eq!(counts.as_of(DateTime::UNIX_EPOCH - TimeDelta::days(1)), counts);
    }

    #[test]
    fn the_team_sums_its_agents_and_an_old_copy_undoes_nothing() {
        let history = History::default();
        let week = DateTime::UNIX_EPOCH + TimeDelta::days(7);
        history.put(vec![row("a", 4, DateTime::UNIX_EPOCH), row("b", 1, week)]);
        history.put(vec![row("a", 3, week)]);
        let tool = history.team("t")["x"].clone();
        assert_eq!(tool.team.executions, 5);
        assert!((tool.team.weight - 3.0).abs() < 1e-9, "4 halved, and 1");
        assert!(history.team("other").is_empty());
    }
}
