//! Closes what no one runs any more. A process says that it lives; the executions of one that fell silent
//! end as `UNKNOWN_OUTCOME`: whether they took effect is not known, and they are never silently run again.

use std::{collections::HashSet, sync::Mutex, time::Duration};

use chrono::Utc;
use tokio_util::sync::CancellationToken;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Executor,
    authorize::Decision,
    outcome::{self, ToolError, ToolErrorCode},
    store,
};

/// Executions closed in one transaction.
const BATCH: i64 = 100;
/// How often the partitions of the coming months are looked after.
const PARTITIONS: Duration = Duration::from_hours(1);

/// The executions that this process runs.
#[derive(Debug, Default)]
pub(crate) struct RunningSet(Mutex<HashSet<Uuid>>);

impl RunningSet {
    pub(crate) fn insert(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(id);
    }

    pub(crate) fn remove(&self, id: Uuid) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&id);
    }

    fn ids(&self) -> Vec<Uuid> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().copied().collect()
    }
}

/// Heartbeat, then reap, again and again until told to stop. The heartbeat comes first, so that a process
/// back from an outage does not take itself for dead.
pub(crate) async fn keep(executor: &Executor, stop: CancellationToken) {
    let mut partitions_due = tokio::time::Instant::now();
    loop {
        if let Err(error) = beat(executor).await
            && !matches!(error, Error::Store(::store::Error::Unavailable(_)))
        {
            tracing::error!(%error, "heartbeat failed");
        }
        if tokio::time::Instant::now() >= partitions_due {
            partitions_due = tokio::time::Instant::now() + PARTITIONS;
            if let Ok(pool) = executor.database.pool()
                && let Err(error) = store::partitions_ensure(pool).await
            {
                tracing::warn!(%error, "partitions cannot be made; executions go to the default one");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(executor.heartbeat_interval) => {}
            () = stop.cancelled() => break,
        }
    }
    if let Ok(pool) = executor.database.pool() {
        // A row left behind is removed by a later process.
        let _ = store::worker_delete(pool, executor.owner).await;
    }
}

async fn beat(executor: &Executor) -> Result<(), Error> {
    store::worker_touch(executor.database.pool()?, executor.owner).await?;
    while reap(executor).await? == BATCH {}
    Ok(())
}

async fn reap(executor: &Executor) -> Result<i64, Error> {
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    let this = (executor.owner, &executor.running.ids()[..]);
    let orphans = store::orphans_take_in_txn(&mut transaction, executor.lease_timeout, this, BATCH).await?;
    if orphans.is_empty() {
        return Ok(0);
    }
    let message =
        "the process that ran it died before the outcome was recorded; whether it took effect is not known";
    let ended = Err(ToolError::new(ToolErrorCode::OwnerDied, message));
    let outcomes: Vec<_> = orphans
        .iter()
        .map(|execution| outcome::outcome(execution, &ended, String::new(), 0, Utc::now()))
        .collect();
    store::outcomes_update_in_txn(&mut transaction, &outcomes).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    executor.audit_outbox.wake();
    executor.selector_outbox.wake();
    for execution in &orphans {
        tracing::warn!(execution.id = %execution.id, tool.name = execution.tool_name, "closed with an unknown outcome");
        let caller = Caller {
            team: execution.team_id.clone(),
            agent: execution.agent_id.clone(),
            ..Caller::service("executor")
        };
        let decision = Decision { id: execution.decision_id, reserved: execution.decision_id.is_some() };
        executor.authorizer.settle(&caller, &decision, true).await;
    }
    Ok(i64::try_from(orphans.len()).unwrap_or(i64::MAX))
}
