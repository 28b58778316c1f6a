//! What becomes of a call that was taken from the queue: checked once more, run, and recorded; or put back when it
//! cannot run now. Every write carries the lease epoch of the taking, and nothing is settled that is not recorded.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::rpc::{ErrorReason, ServiceError};
use chrono::{DateTime, TimeDelta, Utc};
use proto::registry::v1::Tool;
use serde_json::Value;
use tracing::Instrument;

use super::Place;
use crate::{
    Error, Executor,
    authorize::{Decision, question},
    events,
    lease::Moment,
    outcome::{self, Finished, Reached, ToolError, ToolErrorCode},
    perform::perform,
    run::Run,
    seal::Payload,
    settings,
    store::{self, Claimed, Decided, Execution, PutBack},
};

/// Shortest wait for something that is away or used up.
const SOON: Duration = Duration::from_secs(1);
/// Longest wait for something that is away: a call that has waited long waits longer.
const LATE: Duration = Duration::from_mins(1);
/// Longest wait of a call that is held back; then it is asked again.
const LONGEST: Duration = Duration::from_hours(1);
/// How often a write is tried again while the database is away.
const AGAIN: Duration = Duration::from_millis(250);

/// Why a taken call does not run.
pub(super) enum Unready {
    /// It waits again, for so long.
    Later(Duration),
    /// It never will.
    Refused(ToolError),
    /// It is another process's by now.
    Overtaken,
}

/// Runs one call that was taken after this time, or says why not. Its place is free again when this ends.
pub(super) async fn deliver(executor: Arc<Executor>, call: Claimed, place: Place, before: Moment) {
    let execution = &call.execution;
    let span = tracing::info_span!("queued", execution.id = %execution.id, tool.name = execution.tool_name);
    let delivered = async {
        match executor.seal.open(&execution.team_id, execution.id, &call.payload) {
            Some(payload) => {
                ::rpc::link_span(&tracing::Span::current(), &payload.traceparent);
                Box::pin(begin(&executor, execution, payload, before)).await;
            }
            None => end(&executor, execution, unreadable()).await,
        }
    };
    Box::pin(delivered.instrument(span)).await;
    drop(place);
}

async fn begin(executor: &Executor, execution: &Execution, payload: Payload, before: Moment) {
    match prepare(executor, execution, payload).await {
        // The process stops: another one begins it.
        Ok(run) if executor.runs.is_closed() => put_back(executor, &run.execution, None).await,
        Ok(run) => conduct(executor, Run { taken_up: before, ..run }).await,
        Err(Unready::Later(wait)) => put_back(executor, execution, Some(wait)).await,
        Err(Unready::Refused(error)) => end(executor, execution, error).await,
        Err(Unready::Overtaken) => executor.fenced.add(1, &[]),
    }
}

/// The version that was accepted, the permission as it is now, and whether a caller still wants it.
async fn prepare(executor: &Executor, execution: &Execution, payload: Payload) -> Result<Run, Unready> {
    let unready = |error| unready(execution, error);
    let tool = accepted_version(executor, execution, &payload).await.map_err(unready)?;
    let decision = authorize(executor, execution, &payload, &tool).await?;
    let (decision_id, reserved) = (decision.id, decision.reserved);
    let execution = Execution { decision_id, reserved, ..execution.clone() };
    let arguments: Value = serde_json::from_str(&payload.arguments_json)
        .map_err(|error| unready(Error::Internal(error.to_string())))?;
    let parts = (
        payload.options,
        settings::timeout(&tool, payload.timeout_ms),
        Instant::now() + executor.config.execution_timeout(),
    );
    let run =
        Run::of(executor, payload.caller, (tool, arguments), decision, execution, parts).map_err(unready)?;
    // Asked now that it can be told: whoever cancels later finds it running here.
    if is_cancelled(executor, &run).await? {
        executor.running.cancel(run.execution.id);
    }
    Ok(run)
}

/// Whether a caller wants the call to end. Where the tool must not be asked twice, this step records that the call
/// begins: when a process dies before, another takes the call again, and when it dies later, none does.
async fn is_cancelled(executor: &Executor, run: &Run) -> Result<bool, Unready> {
    let unready = |error: ::store::Error| unready(&run.execution, error.into());
    let pool = executor.database.pool().map_err(unready)?;
    let Execution { team_id, id, lease_epoch, .. } = &run.execution;
    if run.durable {
        let begun = store::job_begin(pool, team_id, *id, *lease_epoch).await.map_err(unready)?;
        return begun.ok_or(Unready::Overtaken);
    }
    store::job_is_cancelled(pool, team_id, *id).await.map_err(unready)
}

/// The definition of a version never changes, so the newest one will do when its digest is the same.
pub(super) async fn accepted_version(
    executor: &Executor,
    execution: &Execution,
    payload: &Payload,
) -> Result<Arc<Tool>, Error> {
    let resolver = &executor.resolver;
    if let Ok(tool) = resolver.resolve(&payload.caller, &execution.tool_name).await
        && tool.digest == execution.tool_digest
    {
        return Ok(tool);
    }
    let tool = resolver.resolve(&payload.caller, &payload.tool_id).await?;
    let changed = || Error::Internal("the version that was accepted has changed".into());
    if tool.digest == execution.tool_digest { Ok(tool) } else { Err(changed()) }
}

/// Asks again for the same execution: what was allowed then may not be allowed now.
async fn authorize(
    executor: &Executor,
    execution: &Execution,
    payload: &Payload,
    tool: &Tool,
) -> Result<Decision, Unready> {
    let unready = |error| unready(execution, error);
    let question = question(tool, &payload.arguments_json, execution.arguments_digest.clone(), execution.id)
        .map_err(unready)?;
    let decision = executor.authorizer.authorize(&payload.caller, question).await.map_err(unready)?;
    if decision.id == execution.decision_id {
        return Ok(decision);
    }
    // Its first place has expired, and it has another.
    let (team, id, epoch) = (&execution.team_id, execution.id, execution.lease_epoch);
    let pool = executor.database.pool().map_err(|error| unready(error.into()))?;
    match store::job_decide(pool, team, id, epoch, (decision.id, decision.reserved)).await {
        Ok(Decided::Taken) => Ok(decision),
        Ok(Decided::Overtaken) => Err(Unready::Overtaken),
        Ok(Decided::Ended) => {
            // Nothing that runs or waits will settle it.
            let (authorizer, caller) = (executor.authorizer.clone(), payload.caller.clone());
            executor.runs.spawn(async move { authorizer.settle(&caller, &decision, false, 0).await });
            Err(Unready::Overtaken)
        }
        Err(error) => Err(unready(error.into())),
    }
}

/// Whether a call that met this error waits or ends. What is away comes back, and what is used up is filled again.
pub(super) fn unready(execution: &Execution, error: Error) -> Unready {
    match error {
        Error::Denied {
            reason: ErrorReason::QuotaExhausted | ErrorReason::BudgetExhausted,
            quota: Some((_, reset)),
            ..
        } => Unready::Later(reset.max(SOON)),
        Error::Peer { .. } | Error::Store(::store::Error::Unavailable(_)) => {
            Unready::Later(patience(execution, Utc::now()))
        }
        Error::Denied { reason, message, .. } => {
            let reason = reason.as_str_name().trim_start_matches("ERROR_REASON_");
            Unready::Refused(refused(ToolErrorCode::Denied, &format!("{reason}: {message}")))
        }
        Error::Unapproved { message, .. } => {
            Unready::Refused(refused(ToolErrorCode::Denied, &format!("APPROVAL_REQUIRED: {message}")))
        }
        error @ (Error::ToolUnavailable { .. } | Error::ToolNotFound { .. }) => {
            Unready::Refused(refused(ToolErrorCode::Denied, &error.public_message()))
        }
        error => {
            tracing::error!(execution.id = %execution.id, %error, "queued call cannot be run");
            Unready::Refused(refused(ToolErrorCode::ToolFailed, "it could not be run as it was accepted"))
        }
    }
}

/// An eighth of the time it has waited already, so that a long outage is not asked after in vain too often.
fn patience(execution: &Execution, now: DateTime<Utc>) -> Duration {
    let since = execution.not_before.map_or(execution.create_time, |at| at.max(execution.create_time));
    let waited = (now - since).max(TimeDelta::zero()).to_std().unwrap_or_default();
    (waited / 8).clamp(SOON, LATE)
}

pub(super) fn refused(code: ToolErrorCode, message: &str) -> ToolError {
    ToolError::new(code, redact::text(&format!("the tool was not called: {message}"))).having(Reached::No)
}

pub(super) fn unreadable() -> ToolError {
    let message = "the accepted call cannot be read; it was sealed under another security.caller_token_key";
    refused(ToolErrorCode::NotConfigured, message)
}

/// Runs it, and records how it ended.
async fn conduct(executor: &Executor, run: Run) {
    let finished = perform(executor, &run).await;
    let (held_back, lost_lease) = (finished.held_back().cloned(), lost_lease(&finished));
    let finished = finished.following(&run.execution);
    let waiting = || Execution { attempts_json: finished.attempts_json(), ..run.execution.clone() };
    if let Some(error) = held_back {
        let wait = error.retry_after().unwrap_or(SOON).min(LONGEST);
        executor.queue.rest(&run.execution, tokio::time::Instant::now() + wait);
        return put_back(executor, &waiting(), Some(wait)).await;
    }
    if let Some(untouched) = lost_lease {
        tracing::warn!(execution.id = %run.execution.id, "lost touch with the database in the midst of a run");
        // What may have reached the tool is left to the reaper, which knows who owns it now.
        if untouched {
            put_back(executor, &waiting(), None).await;
        }
        return;
    }
    if let Err(error) = run.record(executor, finished).await {
        tracing::warn!(execution.id = %run.execution.id, %error, "whoever closes it settles it");
    }
}

/// Whether the run stopped because others may take this process for dead, and whether no attempt reached a tool.
fn lost_lease(finished: &Finished) -> Option<bool> {
    finished.ended.as_ref().err().filter(|error| error.code == ToolErrorCode::OwnerDied)?;
    let untouched = |error: &ToolError| error.reached == Reached::No;
    Some(finished.attempts.iter().all(|attempt| attempt.error.as_ref().is_some_and(untouched)))
}

/// Puts a call back whose tool was not asked, with the attempts it has, through any outage of the database; it waits
/// so long, or until someone is free.
async fn put_back(executor: &Executor, execution: &Execution, wait: Option<Duration>) {
    let wait = wait.and_then(|wait| TimeDelta::from_std(wait).ok());
    let until = wait.and_then(|wait| Utc::now().checked_add_signed(wait));
    let (team, id, epoch) = (&execution.team_id, execution.id, execution.lease_epoch);
    loop {
        let waiting = (until, execution.attempts_json.as_str());
        let put = async { store::job_put_back(executor.database.pool()?, team, id, epoch, waiting).await };
        match put.await {
            Ok(PutBack::Queued) => return,
            Ok(PutBack::Cancelled) => return end(executor, execution, cancelled()).await,
            Ok(PutBack::Overtaken) => return executor.fenced.add(1, &[]),
            Err(::store::Error::Unavailable(_)) => tokio::time::sleep(AGAIN).await,
            Err(error) => {
                tracing::error!(execution.id = %id, %error, "queued call cannot be put back; the reaper finds it");
                return;
            }
        }
    }
}

fn cancelled() -> ToolError {
    ToolError::new(ToolErrorCode::Cancelled, "a caller cancelled it before the tool was called")
        .having(Reached::No)
}

/// Ends a call that was not made, and gives back what its acceptance reserved.
async fn end(executor: &Executor, execution: &Execution, error: ToolError) {
    let finished = Finished::without_attempt(Err(error)).following(execution);
    let mut outcome = outcome::outcome(execution, &finished, String::new(), store::now());
    // It says nothing of the tool.
    outcome.events.retain(|event| event.destination != events::SELECTOR);
    match executor.ledger.outcome(outcome, true).await {
        Ok(true) => {}
        Ok(false) => executor.fenced.add(1, &[]),
        Err(error) => {
            tracing::error!(execution.id = %execution.id, %error, "the end of a call cannot be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(seconds_ago: i64) -> Execution {
        Execution { create_time: Utc::now() - TimeDelta::seconds(seconds_ago), ..Execution::default() }
    }

    #[test]
    fn who_has_waited_long_waits_longer_and_never_too_long() {
        let (now, seconds) = (Utc::now(), |ago| patience(&accepted(ago), Utc::now()).as_secs());
        assert_eq!([0, 8, 80, 400, 100_000].map(seconds), [1, 1, 10, 50, 60]);
        let due_now = Execution { not_before: Some(now), ..accepted(100_000) };
        assert_eq!(patience(&due_now, now), SOON);
    }

    #[test]
    fn what_is_away_or_used_up_is_waited_for_and_what_is_forbidden_is_not() {
        let execution = accepted(0);
        let denied = |reason, reset| Error::Denied {
            reason,
            message: "no".into(),
            quota: Some(("limit".into(), Duration::from_secs(reset))),
        };
        let waits = |error| match unready(&execution, error) {
            Unready::Later(wait) => Some(wait),
            Unready::Refused(_) | Unready::Overtaken => None,
        };
        assert_eq!(waits(denied(ErrorReason::QuotaExhausted, 40)), Some(Duration::from_secs(40)));
        assert_eq!(waits(denied(ErrorReason::BudgetExhausted, 0)), Some(SOON));
        assert_eq!(waits(Error::Peer { service: "permissions", status: String::new() }), Some(SOON));
        assert_eq!(waits(Error::Store(::store::Error::Unavailable(None))), Some(SOON));
        let refused = |error| match unready(&execution, error) {
            Unready::Refused(error) => (error.code, error.message.contains("not called: NO_GRANT: no")),
            Unready::Later(_) | Unready::Overtaken => panic!("it waits"),
        };
        assert_eq!(refused(denied(ErrorReason::NoGrant, 0)), (ToolErrorCode::Denied, true));
        let disabled = Error::ToolUnavailable { tool: "t".into(), status: "disabled" };
        assert_eq!(refused(disabled), (ToolErrorCode::Denied, false));
    }

    #[test]
    fn a_run_without_lease_is_untouched_only_if_no_attempt_reached_the_tool() {
        let lost = ToolError::new(ToolErrorCode::OwnerDied, "").having(Reached::No);
        let attempt = |error: &ToolError| outcome::Attempt {
            number: 1,
            kind: outcome::AttemptKind::First,
            tool_name: String::new(),
            tool_version: String::new(),
            start_time: Utc::now(),
            duration_ms: 0.0,
            backoff_ms: 0.0,
            error: Some(error.clone()),
        };
        let ended = |attempts| Finished { attempts, ..Finished::without_attempt(Err(lost.clone())) };
        let timeout = ToolError::new(ToolErrorCode::Timeout, "");
        assert_eq!(lost_lease(&ended(vec![attempt(&lost)])), Some(true));
        assert_eq!(lost_lease(&ended(vec![attempt(&timeout), attempt(&lost)])), Some(false));
        assert_eq!(lost_lease(&Finished::without_attempt(Err(timeout))), None);
    }
}
