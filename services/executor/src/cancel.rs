//! Cancels an execution: one that waits never begins, one that runs is told to stop, wherever it runs. Never
//! changes one that has ended, and never writes an outcome of one that runs: whoever runs it does.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::rpc::{Call, ErrorReason};
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error, Executor, events, outcome,
    outcome::{Finished, Reached, Status, ToolError, ToolErrorCode},
    query,
    store::{self, Execution},
};

/// How long a cancelled tool is waited for.
const WAIT: Duration = Duration::from_secs(2);
/// How often a run of another process is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Cancels an execution that the caller may see, and gives it as it is then: cancelled, or still running while
/// its tool is being stopped. Cancelling twice gives the same answer.
pub(crate) async fn cancel(executor: &Arc<Executor>, call: &Call, id: &str) -> Result<Execution, Error> {
    let mut execution = query::get(&executor.database, &call.caller, id).await?;
    check_allowed(&call.caller, &execution)?;
    let until = Instant::now() + WAIT.min(call.time_left());
    let mut asked = None;
    while !Status::is_terminal(&execution.status) {
        if waits(&execution) {
            end_queued(executor, &execution).await?;
        } else if asked != Some(execution.lease_epoch) {
            ask(executor, &execution).await?;
            asked = Some(execution.lease_epoch);
        } else if Instant::now() >= until {
            return Ok(execution);
        } else {
            wait(executor, execution.id).await;
        }
        execution = read(executor, &execution).await?;
    }
    if execution.status == Status::Cancelled.as_str() {
        return Ok(execution);
    }
    Err(Error::NotCancellable { id: execution.id.to_string(), status: execution.status })
}

/// An auditor sees executions of others and may not cancel them.
fn check_allowed(caller: &Caller, execution: &Execution) -> Result<(), Error> {
    if caller.role >= Role::Operator || execution.agent_id == caller.agent {
        return Ok(());
    }
    let message = "an auditor may look at executions; an operator may cancel them".to_owned();
    Err(Error::Denied { reason: ErrorReason::RoleRequired, message, quota: None })
}

/// Tells whoever runs it to stop.
async fn ask(executor: &Executor, execution: &Execution) -> Result<(), Error> {
    let (pool, team) = (executor.database.pool()?, &execution.team_id);
    if store::cancel_request(pool, team, execution.id, executor.owner).await? {
        executor.running.cancel(execution.id);
    }
    Ok(())
}

async fn wait(executor: &Executor, id: Uuid) {
    tokio::select! {
        () = executor.running.ended(id) => {}
        () = tokio::time::sleep(POLL) => {}
    }
}

async fn read(executor: &Executor, execution: &Execution) -> Result<Execution, Error> {
    let found = store::execution_get(executor.database.pool()?, &execution.team_id, execution.id).await?;
    found.ok_or_else(|| Error::NotFound(execution.id.to_string()))
}

/// Whether no process runs it yet.
fn waits(execution: &Execution) -> bool {
    [Status::Queued, Status::WaitingForApproval].iter().any(|status| status.as_str() == execution.status)
}

/// Ends an execution that waits, unless a worker has taken it up in the meantime.
async fn end_queued(executor: &Executor, execution: &Execution) -> Result<(), Error> {
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    let taken = store::queued_take_in_txn(&mut transaction, &execution.team_id, execution.id).await?;
    let Some(taken) = taken else { return Ok(()) };
    let message = "a caller cancelled it before it began";
    let error = ToolError::new(ToolErrorCode::Cancelled, message).having(Reached::No);
    close(executor, transaction, &taken, error).await
}

/// Ends a call that was taken out of the reach of the workers in this transaction, and was not made.
pub(crate) async fn close(
    executor: &Executor,
    mut transaction: store::Txn,
    taken: &Execution,
    error: ToolError,
) -> Result<(), Error> {
    let finished = Finished::without_attempt(Err(error)).following(taken);
    let mut outcome = outcome::outcome(taken, &finished, String::new(), store::now());
    // It says nothing of the tool.
    outcome.events.retain(|event| event.destination != events::SELECTOR);
    let ended = store::outcomes_update(&mut transaction, &[&outcome]).await?.pop();
    let ended = ended.ok_or_else(|| Error::Internal("a waiting execution could not be ended".into()))?;
    transaction.commit().await.map_err(::store::Error::from)?;
    executor.relays.hand_over(&outcome.events, &ended.events);
    Ok(())
}
