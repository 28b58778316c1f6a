//! Calls that wait for an approval: each is looked at as soon as somebody has decided (`decided.rs`), and now and then all
//! the same, by whichever process, and asked about as if it were made now. What is allowed enters the queue; what was denied, or not decided in time, ends. Nothing runs here.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt;
use proto::{
    permissions::v1::{AccessRequest, AccessRequestState, ApprovalScope, AuthorizeRequest},
    registry::v1::Tool,
};
use tokio_util::sync::CancellationToken;

use super::deliver::{Unready, accepted_version, refused, unreadable, unready};
use crate::{
    Error, Executor,
    approvals::Unapproved,
    authorize::{Decision, question},
    cancel,
    outcome::{Status, ToolError, ToolErrorCode},
    seal::Payload,
    store::{self, Awaiting, Execution},
};

/// How often it is looked for calls whose time has come.
const POLL: Duration = Duration::from_millis(500);
/// Calls taken in one statement, and looked at together.
pub(super) const TAKEN: i64 = 100;
const AT_ONCE: usize = 8;
/// How long an approval may take to be known everywhere.
const GRACE: TimeDelta = TimeDelta::seconds(5);

/// Looks until told to stop.
pub(crate) async fn keep(executor: &Arc<Executor>, stop: CancellationToken) {
    loop {
        match look(executor).await {
            Ok(()) | Err(Error::Store(::store::Error::Unavailable(_))) => {}
            Err(error) => {
                tracing::error!(%error, "calls that wait for approvals cannot be looked at; tried again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn look(executor: &Arc<Executor>) -> Result<(), Error> {
    let taken = store::awaiting_take(executor.database.pool()?, TAKEN).await?;
    attend_all(executor, taken, 0).await;
    Ok(())
}

/// Looks at these, with every change of permissions known up to this revision of their team.
pub(super) async fn attend_all(executor: &Arc<Executor>, taken: Vec<Awaiting>, at_least_revision: i64) {
    futures_util::stream::iter(taken)
        .for_each_concurrent(AT_ONCE, |awaiting| async move {
            let id = awaiting.id;
            if let Err(error) = attend(executor, &awaiting, at_least_revision).await {
                // It is looked at again.
                tracing::debug!(execution.id = %id, %error, "a call that waits for an approval was not looked at");
            }
        })
        .await;
}

async fn attend(executor: &Arc<Executor>, awaiting: &Awaiting, at_least_revision: i64) -> Result<(), Error> {
    let (team, id) = (&awaiting.team_id, awaiting.id);
    let Some(execution) = store::execution_get(executor.database.pool()?, team, id).await? else {
        return Ok(());
    };
    if execution.status != Status::WaitingForApproval.as_str() {
        return Ok(());
    }
    let Some(payload) = executor.seal.open(team, id, &awaiting.payload) else {
        return end(executor, &execution, unreadable()).await;
    };
    let tool = match accepted_version(executor, &execution, &payload).await {
        Ok(tool) => tool,
        Err(error) => return give_up(executor, &execution, error).await,
    };
    let question = question(&tool, &payload.arguments_json, execution.arguments_digest.clone(), id)?;
    let question = AuthorizeRequest { at_least_revision, ..question };
    match executor.authorizer.authorize(&payload.caller, question).await {
        Ok(decision) => release(executor, &execution, &payload, decision).await,
        Err(Error::Unapproved { message, approver_role, .. }) => {
            let unapproved = unapproved(&execution, &tool, &payload, (message, approver_role));
            follow(executor, &execution, &payload, (awaiting, &unapproved)).await
        }
        Err(error) => give_up(executor, &execution, error).await,
    }
}

fn unapproved<'a>(
    execution: &'a Execution,
    tool: &'a Tool,
    payload: &'a Payload,
    (message, approver_role): (String, i32),
) -> Unapproved<'a> {
    Unapproved {
        tool_name: &execution.tool_name,
        tool_digest: &tool.digest,
        arguments_json: execution.arguments_json.clone(),
        arguments_digest: &execution.arguments_digest,
        justification: &payload.justification,
        message,
        approver_role,
    }
}

/// It is allowed now: into the queue, under this decision.
async fn release(
    executor: &Arc<Executor>,
    execution: &Execution,
    payload: &Payload,
    decision: Decision,
) -> Result<(), Error> {
    let (team, id) = (&execution.team_id, execution.id);
    let held = (decision.id, decision.reserved);
    if store::awaiting_release(executor.database.pool()?, team, id, held).await? {
        tracing::info!(execution.id = %id, "the call that waited for an approval is allowed");
        executor.queue.wake();
        return Ok(());
    }
    // Another process let it go under the same decision, whose run settles it; or it has ended, and then nobody else
    // will.
    let now = store::execution_get(executor.database.pool()?, team, id).await?;
    if now.is_none_or(|now| Status::is_terminal(&now.status) && now.decision_id != decision.id) {
        executor.authorizer.settle(&payload.caller, &decision, false, 0).await;
    }
    Ok(())
}

/// It is not allowed yet: what became of the access request tells whether it ever will be.
async fn follow(
    executor: &Executor,
    execution: &Execution,
    payload: &Payload,
    (awaiting, unapproved): (&Awaiting, &Unapproved<'_>),
) -> Result<(), Error> {
    let request = executor.authorizer.access_request(&payload.caller, awaiting.access_request_id).await?;
    match standing(request.as_ref(), Utc::now()) {
        Standing::Open => Ok(()),
        Standing::Closed(why) => {
            let error = refused(ToolErrorCode::Denied, &format!("APPROVAL_DENIED: {why}"));
            end(executor, execution, error).await
        }
        Standing::Gone => {
            let (authorizer, id) = (&executor.authorizer, execution.id);
            let anew = authorizer.request_access(&payload.caller, unapproved, Some(id)).await?;
            let pool = executor.database.pool()?;
            Ok(store::awaiting_renew(pool, &execution.team_id, id, anew).await?)
        }
    }
}

/// What an access request means for a call that permissions does not allow.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    /// It may still be approved.
    Open,
    /// It will not be.
    Closed(String),
    /// It served another call, or nobody knows it: somebody has to decide anew.
    Gone,
}

fn standing(request: Option<&AccessRequest>, now: DateTime<Utc>) -> Standing {
    let Some(request) = request else { return Standing::Gone };
    let AccessRequest { id, decided_by, decision_reason, .. } = request;
    let reason = if decision_reason.is_empty() { String::new() } else { format!(": {decision_reason}") };
    match request.state() {
        AccessRequestState::Unspecified | AccessRequestState::Pending => Standing::Open,
        AccessRequestState::Denied => {
            Standing::Closed(format!("{decided_by:?} denied access request {id}{reason}"))
        }
        AccessRequestState::Expired if decided_by.is_empty() => {
            Standing::Closed(format!("nobody decided access request {id} in time"))
        }
        AccessRequestState::Expired => {
            Standing::Closed(format!("the approval of access request {id} has ended"))
        }
        AccessRequestState::Used => Standing::Gone,
        AccessRequestState::Revoked => {
            let why = if request.revoke_reason.is_empty() { "" } else { ": " };
            Standing::Closed(format!(
                "{:?} revoked the approval of access request {id}{why}{}",
                request.revoked_by, request.revoke_reason
            ))
        }
        AccessRequestState::Approved => {
            let decided = request.decide_time.and_then(|at| DateTime::from_timestamp(at.seconds, 0));
            // One for a single call may be held by another, and be free again.
            if request.scope() == ApprovalScope::Once || decided.is_some_and(|at| now - at < GRACE) {
                return Standing::Open;
            }
            Standing::Closed(format!(
                "what {decided_by:?} approved with access request {id} does not cover this call{reason}"
            ))
        }
    }
}

/// What is away comes back, and what is used up is filled again; anything else ends the call.
async fn give_up(executor: &Executor, execution: &Execution, error: Error) -> Result<(), Error> {
    match unready(execution, error) {
        Unready::Later(_) | Unready::Overtaken => Ok(()),
        Unready::Refused(error) => end(executor, execution, error).await,
    }
}

async fn end(executor: &Executor, execution: &Execution, error: ToolError) -> Result<(), Error> {
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    let (team, id) = (&execution.team_id, execution.id);
    let Some(taken) = store::awaiting_end_in_txn(&mut transaction, team, id).await? else { return Ok(()) };
    cancel::close(executor, transaction, &taken, error).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(state: AccessRequestState, decided_by: &str, seconds_ago: i64) -> AccessRequest {
        let at = prost_types::Timestamp { seconds: Utc::now().timestamp() - seconds_ago, nanos: 0 };
        AccessRequest {
            id: "r".into(),
            state: state.into(),
            decided_by: decided_by.into(),
            decide_time: (!decided_by.is_empty()).then_some(at),
            decision_reason: "too much".into(),
            ..AccessRequest::default()
        }
    }

    #[test]
    fn only_what_may_still_be_approved_is_waited_for() {
        let told = |state, by, ago| standing(Some(&request(state, by, ago)), Utc::now());
        assert_eq!(told(AccessRequestState::Pending, "", 0), Standing::Open);
        assert_eq!(told(AccessRequestState::Approved, "root", 1), Standing::Open, "it is not known here yet");
        assert_eq!(told(AccessRequestState::Used, "root", 60), Standing::Gone);
        assert_eq!(standing(None, Utc::now()), Standing::Gone);
        let revoked = AccessRequest {
            revoked_by: "ann".into(),
            revoke_reason: "a mistake".into(),
            ..request(AccessRequestState::Revoked, "root", 60)
        };
        let expected = "\"ann\" revoked the approval of access request r: a mistake";
        assert_eq!(standing(Some(&revoked), Utc::now()), Standing::Closed(expected.into()));
        for (state, by, expected) in [
            (AccessRequestState::Denied, "root", "\"root\" denied access request r: too much"),
            (AccessRequestState::Expired, "", "nobody decided access request r in time"),
            (AccessRequestState::Expired, "root", "the approval of access request r has ended"),
            (
                AccessRequestState::Approved,
                "root",
                "what \"root\" approved with access request r does not cover this call: too much",
            ),
        ] {
            assert_eq!(told(state, by, 60), Standing::Closed(expected.into()));
        }
    }
}
