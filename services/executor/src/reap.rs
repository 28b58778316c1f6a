//! Closes what no one runs any more. A process says that it lives; the executions of one that fell silent
//! end as `UNKNOWN_OUTCOME`: whether they took effect is not known, and they are never silently run again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Caller;
use uuid::Uuid;

use crate::{
    Error, Executor,
    authorize::Decision,
    outcome::{self, ToolError, ToolErrorCode},
    store::{self, Execution},
};

/// Executions closed in one transaction.
const BATCH: i64 = 100;
/// How often the partitions of the coming months are looked after.
const PARTITIONS: Duration = Duration::from_hours(1);

/// The executions that this process runs.
#[derive(Debug, Default)]
pub(crate) struct RunningSet(Arc<Mutex<HashSet<Uuid>>>);

/// One execution that runs here, until this is dropped: when its task panics too.
#[derive(Debug)]
pub(crate) struct Held {
    set: Arc<Mutex<HashSet<Uuid>>>,
    id: Uuid,
}

impl RunningSet {
    pub(crate) fn hold(&self, id: Uuid) -> Held {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Held { set: Arc::clone(&self.0), id }
    }

    fn ids(&self) -> Vec<Uuid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Since when the database has heard from this process without a gap. After a gap the others may only seem
/// to be dead: the database was away for them as well, so each is given the time of a lease to speak up.
#[derive(Debug, Default)]
struct Steady {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Steady {
    /// Takes a heartbeat that arrived; `true` when the silence of others means their death.
    fn heard(&mut self, now: Instant, lease: Duration) -> bool {
        if self.last.is_none_or(|last| now.duration_since(last) > lease / 2) {
            self.since = Some(now);
        }
        self.last = Some(now);
        self.since.is_some_and(|since| now.duration_since(since) >= lease)
    }

    fn failed(&mut self) {
        self.last = None;
    }
}

/// Heartbeat, then reap, again and again until told to stop. The heartbeat comes first, so that a process
/// back from an outage does not take itself for dead.
pub(crate) async fn keep(executor: &Executor, stop: CancellationToken) {
    let mut partitions_due = Instant::now();
    let mut steady = Steady::default();
    loop {
        if let Err(error) = beat(executor, &mut steady).await {
            steady.failed();
            if !matches!(error, Error::Store(::store::Error::Unavailable(_))) {
                tracing::error!(error = %cause(&error), "heartbeat failed");
            }
        }
        if Instant::now() >= partitions_due {
            partitions_due = Instant::now() + PARTITIONS;
            if let Ok(pool) = executor.database.pool()
                && let Err(error) = store::partitions_ensure(pool).await
            {
                tracing::warn!(error = %cause(&error), "partitions cannot be made; executions go to the default one");
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

async fn beat(executor: &Executor, steady: &mut Steady) -> Result<(), Error> {
    store::worker_touch(executor.database.pool()?, executor.owner).await?;
    if steady.heard(Instant::now(), executor.lease_timeout) {
        while reap(executor).await? == BATCH {
            store::worker_touch(executor.database.pool()?, executor.owner).await?;
        }
    }
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
        .map(|execution| outcome::outcome(execution, &ended, String::new(), 0, store::now()))
        .collect();
    store::outcomes_update_in_txn(&mut transaction, &outcomes.iter().collect::<Vec<_>>()).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    executor.audit_outbox.wake();
    executor.selector_outbox.wake();
    let count = i64::try_from(orphans.len()).unwrap_or(i64::MAX);
    settle(executor, orphans);
    Ok(count)
}

/// In a task of its own: permissions may be slow, and no heartbeat may wait for them.
fn settle(executor: &Executor, orphans: Vec<Execution>) {
    let authorizer = executor.authorizer.clone();
    executor.runs.spawn(async move {
        for execution in orphans {
            tracing::warn!(execution.id = %execution.id, tool.name = execution.tool_name, "closed with an unknown outcome");
            let caller = Caller { team: execution.team_id, agent: execution.agent_id, ..Caller::service("executor") };
            let decision = Decision { id: execution.decision_id, reserved: execution.decision_id.is_some() };
            authorizer.settle(&caller, &decision, true).await;
        }
    });
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_gap_the_others_have_the_time_of_a_lease_to_speak_up() {
        let (lease, start, mut steady) = (Duration::from_secs(15), Instant::now(), Steady::default());
        let mut heard = |seconds: u64| steady.heard(start + Duration::from_secs(seconds), lease);
        assert_eq!([0, 5, 10, 14, 15].map(&mut heard), [false, false, false, false, true]);
        assert_eq!([30, 35, 40, 44, 45].map(&mut heard), [false, false, false, false, true]);
        steady.failed();
        assert!(!steady.heard(start + Duration::from_secs(46), lease));
    }

    #[test]
    fn an_execution_is_held_until_its_task_ends_however_it_does() {
        let set = RunningSet::default();
        let held = set.hold(Uuid::nil());
        assert_eq!(set.ids(), [Uuid::nil()]);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = held;
            panic!("the task");
        }));
        assert!(set.ids().is_empty());
    }
}
