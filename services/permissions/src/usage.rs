//! Counts what allowed calls were made under, for the report of `report_usage.rs`. In memory, added to the database
//! every few seconds: a decision never waits for it, and a process that is killed loses the last seconds. Must never
//! decide anything, and never grow without bound.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    authorize::window_start,
    policies::ToolFacts,
    store::{self, UseKey, UseRow},
};

/// How often what was counted is added to the database.
const INTERVAL: Duration = Duration::from_secs(5);
/// Most different kinds of calls that are held while the database is away; some 20 MB.
const MAX_KINDS: usize = 50_000;
/// Rows of one statement.
const BATCH: usize = 1_000;
/// Most executions of each of two generations that are known not to be counted again.
const MAX_EXECUTIONS: usize = 50_000;
/// How long calls are kept: longer than the longest report looks back.
const KEPT: TimeDelta = TimeDelta::days(92);
/// How often what is older is deleted.
const PURGE_INTERVAL: Duration = Duration::from_hours(1);
/// Rows deleted in one statement.
const PURGE_BATCH: i64 = 10_000;

/// What allowed a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Basis<'a> {
    /// A grant, with an approval or without.
    Grant(Uuid),
    /// An approved access request where no grant allows the call.
    Approval(Uuid),
    /// A policy of the team where no grant allows the call, by its name.
    Policy(&'a str),
}

/// The calls that are not in the database yet.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    calls: HashMap<UseKey, i64>,
    /// Executions counted lately: one is authorized again when it comes out of the queue, or is asked for twice.
    counted: HashSet<Uuid>,
    counted_before: HashSet<Uuid>,
    /// Calls that found no room.
    lost: u64,
}

impl Usage {
    /// Counts one allowed call, and the same execution once as long as it is remembered.
    pub(crate) fn count(
        &self,
        (team, agent, tool): (&str, &str, &ToolFacts),
        basis: Basis<'_>,
        execution: Uuid,
        now: DateTime<Utc>,
    ) {
        let (basis_kind, basis) = match basis {
            Basis::Grant(id) => ("grant", id.to_string()),
            Basis::Approval(id) => ("approval", id.to_string()),
            Basis::Policy(name) => ("policy", name.to_owned()),
        };
        let key = UseKey {
            team_id: team.to_owned(),
            hour: window_start(now),
            agent_id: agent.to_owned(),
            tool_name: tool.name.clone(),
            basis_kind,
            basis,
            effect: tool.effect.as_str(),
            sensitivity: tool.sensitivity as i16,
        };
        let mut held = self.held();
        if held.is_new(execution) {
            held.add(key, 1);
        }
    }

    /// Adds what was counted to the database. What it does not take is held on to.
    pub(crate) async fn flush(&self, database: &Database) -> Result<(), Error> {
        let (calls, lost) = {
            let mut held = self.held();
            (std::mem::take(&mut held.calls), std::mem::take(&mut held.lost))
        };
        if lost > 0 {
            tracing::warn!(
                lost,
                "calls are missing in the report on the use of grants: too many kinds to hold"
            );
        }
        let mut rows: Vec<UseRow> = calls.into_iter().map(|(key, calls)| UseRow { key, calls }).collect();
        rows.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        let mut done = 0;
        let mut result = Ok(());
        for batch in rows.chunks(BATCH) {
            result = add(database, batch).await;
            if result.is_err() {
                break;
            }
            done += batch.len();
        }
        let mut held = self.held();
        for row in rows.split_off(done) {
            held.add(row.key, row.calls);
        }
        result
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether an execution was not counted yet, as far as is remembered.
    fn is_new(&mut self, execution: Uuid) -> bool {
        if self.counted_before.contains(&execution) || !self.counted.insert(execution) {
            return false;
        }
        if self.counted.len() >= MAX_EXECUTIONS {
            self.counted_before = std::mem::take(&mut self.counted);
        }
        true
    }

    fn add(&mut self, key: UseKey, calls: i64) {
        let is_full = self.calls.len() >= MAX_KINDS;
        match self.calls.get_mut(&key) {
            Some(counted) => *counted = counted.saturating_add(calls),
            None if is_full => self.lost = self.lost.saturating_add(calls.unsigned_abs()),
            None => drop(self.calls.insert(key, calls)),
        }
    }
}

async fn add(database: &Database, rows: &[UseRow]) -> Result<(), Error> {
    Ok(store::use_add(database.pool()?, rows).await?)
}

/// Deletes calls that no report reaches any more.
pub(crate) async fn purge(database: &Database, now: DateTime<Utc>) -> Result<(), Error> {
    while store::use_delete(database.pool()?, now - KEPT, PURGE_BATCH).await? >= PURGE_BATCH.unsigned_abs() {}
    Ok(())
}

/// Flushes and purges until told to stop, and flushes once more then.
pub(crate) async fn keep_flushed(usage: std::sync::Arc<Usage>, database: Database, stop: CancellationToken) {
    let mut purged: Option<Instant> = None;
    let mut was_lost = false;
    loop {
        let is_last = tokio::select! {
            () = tokio::time::sleep(INTERVAL) => false,
            () = stop.cancelled() => true,
        };
        let flushed = usage.flush(&database).await;
        if let Err(error) = &flushed
            && !was_lost
        {
            tracing::warn!(%error, "the use of grants cannot be written; it is held and tried again");
        }
        was_lost = flushed.is_err();
        if is_last {
            return;
        }
        if !was_lost && purged.is_none_or(|last| last.elapsed() >= PURGE_INTERVAL) {
            match purge(&database, Utc::now()).await {
                Ok(()) => purged = Some(Instant::now()),
                Err(error) => {
                    tracing::warn!(%error, "old use of grants cannot be deleted; tried again later");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Effect, Sensitivity};

    use super::*;

    fn tool(name: &str) -> ToolFacts {
        ToolFacts { name: name.into(), effect: Effect::ReadOnly, sensitivity: Sensitivity::Internal }
    }

    #[test]
    fn an_execution_counts_once_and_what_finds_no_room_is_known() {
        let usage = Usage::default();
        let now = "2026-11-22T12:30:00Z".parse().unwrap();
        let (grant, execution) = (Uuid::now_v7(), Uuid::now_v7());
        for execution in [execution, execution, Uuid::now_v7()] {
            usage.count(("t", "a", &tool("x")), Basis::Grant(grant), execution, now);
        }
        assert_eq!(usage.held().calls.values().copied().collect::<Vec<_>>(), [2]);
        for number in 1..MAX_KINDS + 3 {
            usage.count(("t", "a", &tool(&number.to_string())), Basis::Policy("p"), Uuid::now_v7(), now);
        }
        let held = usage.held();
        assert_eq!((held.calls.len(), held.lost), (MAX_KINDS, 3));
        assert!(held.counted.len() <= MAX_EXECUTIONS && held.counted_before.len() <= MAX_EXECUTIONS);
    }
}
