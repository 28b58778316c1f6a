//! What the trail and the selector are told of a call. Pure: nothing here reads or writes anything, and nothing
//! that is not sanitised may come in.

use ::rpc::ErrorReason;
use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use proto::{
    audit::v1::{Action, Event, Result as AuditResult},
    selector::v1 as selector,
    types::v1::{Effect, Sensitivity},
};
use serde::{Deserialize, Serialize};
use types::Caller;
use uuid::Uuid;

use crate::{
    outcome::{Attempt, AttemptKind, Finished, Reached, Source, Status, ToolError, ToolErrorCode},
    store::{Execution, OutboxEvent, Outcome},
};

/// Destinations of the outbox.
pub(crate) const AUDIT: &str = "audit";
pub(crate) const SELECTOR: &str = "selector";
pub(crate) const PERMISSIONS: &str = "permissions";

/// The reason of a tool that was not done in the time that its call asked for, where it may take longer.
const CUT_SHORT: &str = "CUT_SHORT";
/// Most of a result that is told of it, in bytes.
const MAX_SUMMARY: usize = 1_000;

/// The end of a reservation: it stands with the outcome that it follows from, so that no death of a process can
/// part them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settlement {
    pub team_id: String,
    pub agent_id: String,
    pub decision_id: Uuid,
    /// Whether the call counts.
    pub committed: bool,
    pub cost_micro_usd: i64,
}

/// The events of an ended execution: one for each retry and fallback, one for the call, and one for history.
pub(crate) fn of(
    execution: &Execution,
    outcome: &Outcome,
    status: Status,
    finished: &Finished,
) -> Vec<OutboxEvent> {
    let tried = finished.attempts.windows(2).filter_map(|pair| tried_again(execution, &pair[0], &pair[1]));
    let told = missed(execution, finished).into_iter().chain(tried);
    let mut events: Vec<OutboxEvent> = told.map(|event| outbox(AUDIT, &event)).collect();
    events.push(outbox(AUDIT, &invoked(execution, outcome, status, finished)));
    if tells_of_tool(finished) {
        events.push(outbox(SELECTOR, &learned(execution, outcome, finished)));
    }
    events.extend(settled(execution, finished));
    events
}

/// The ends of the reservations that an execution holds: its own, and one for each fallback that was allowed.
fn settled(execution: &Execution, finished: &Finished) -> Vec<OutboxEvent> {
    let of_fallbacks = finished.charges.iter().filter_map(|charge| charge.settlement());
    let all = own_settlement(execution, finished).into_iter().chain(of_fallbacks);
    // A struct of texts and numbers has a JSON form.
    let payloads = all.filter_map(|settlement| serde_json::to_vec(&settlement).ok());
    payloads.map(|payload| OutboxEvent { destination: PERMISSIONS, payload }).collect()
}

/// What may have been done counts as done.
fn own_settlement(execution: &Execution, finished: &Finished) -> Option<Settlement> {
    let decision_id = execution.decision_id.filter(|_| execution.reserved)?;
    let may_be_done = finished.ended.as_ref().is_err_and(|error| error.reached != Reached::No);
    Some(Settlement {
        team_id: execution.team_id.clone(),
        agent_id: execution.agent_id.clone(),
        decision_id,
        committed: finished.was_made() || may_be_done,
        cost_micro_usd: finished.own_cost_micro_usd,
    })
}

/// A call that never came to the tool, and one that its caller gave up, say nothing of the tool; that its circuit
/// breaker is open says that it fails. A cached answer says what a call without a cache would have asked.
fn tells_of_tool(finished: &Finished) -> bool {
    let code = finished.ended.as_ref().err().map(|error| error.code);
    match code {
        Some(ToolErrorCode::Cancelled) => false,
        Some(ToolErrorCode::CircuitOpen) => !finished.is_hit(),
        _ => !never_ran(finished),
    }
}

/// Whether the call failed before any tool was asked.
fn never_ran(finished: &Finished) -> bool {
    finished.ended.as_ref().is_err_and(|error| error.reached == Reached::No) && !finished.was_made()
}

/// That the cache had no answer.
fn missed(execution: &Execution, finished: &Finished) -> Option<Event> {
    finished.is_miss.then(|| Event {
        time: Some(timestamp(execution.start_time.unwrap_or(execution.create_time))),
        action: Action::CacheMiss.into(),
        result: AuditResult::Success.into(),
        ..about(execution)
    })
}

/// That an attempt followed another, and why.
fn tried_again(execution: &Execution, failed: &Attempt, next: &Attempt) -> Option<Event> {
    let (action, error) = match next.kind {
        AttemptKind::First => return None,
        AttemptKind::Retry => (Action::RetryAttempted, failed.error.as_ref()?),
        AttemptKind::Fallback => (Action::FallbackUsed, failed.error.as_ref()?),
    };
    let result = if next.error.is_none() { AuditResult::Success } else { AuditResult::Failure };
    Some(Event {
        time: Some(timestamp(next.start_time)),
        action: action.into(),
        result: result.into(),
        tool_name: next.tool_name.clone(),
        tool_version: next.tool_version.clone(),
        reason: error.code.as_str().to_owned(),
        message: format!("attempt {} after {} failed: {}", next.number, failed.tool_name, error.message),
        duration_ms: next.duration_ms,
        ..about(execution)
    })
}

fn invoked(execution: &Execution, outcome: &Outcome, status: Status, finished: &Finished) -> Event {
    let error: Option<&ToolError> = finished.ended.as_ref().err();
    let in_doubt = error.is_some_and(|e| e.reached == Reached::Maybe) && execution.effect == "side_effect";
    let is_denied = error.is_some_and(|e| e.code == ToolErrorCode::Denied) && never_ran(finished);
    let result = match status {
        _ if is_denied => AuditResult::Denied,
        Status::Succeeded => AuditResult::Success,
        Status::UnknownOutcome => AuditResult::Unknown,
        _ if in_doubt => AuditResult::Unknown,
        _ => AuditResult::Failure,
    };
    let action = match finished.source {
        _ if is_denied => Action::PermissionChecked,
        _ if never_ran(finished) => Action::ErrorOccurred,
        Source::Cache | Source::SemanticCache | Source::Coalesced | Source::StaleCache => Action::CacheHit,
        Source::Tool | Source::Fallback | Source::Partial => Action::ToolInvoked,
    };
    Event {
        time: Some(timestamp(outcome.end_time)),
        action: action.into(),
        result: result.into(),
        reason: error.map(|error| error.code.as_str().to_owned()).unwrap_or_default(),
        message: error.map(|error| error.message.clone()).unwrap_or_default(),
        arguments_json: execution.arguments_json.clone(),
        result_digest: outcome.result_digest.clone(),
        result_summary_json: summary(&outcome.result_json),
        duration_ms: duration_ms(execution.start_time.unwrap_or(execution.create_time), outcome.end_time),
        cost_micro_usd: outcome.cost_micro_usd,
        ..about(execution)
    }
}

/// What every event of an execution says.
fn about(execution: &Execution) -> Event {
    Event {
        id: types::new_id().to_string(),
        team_id: execution.team_id.clone(),
        agent_id: execution.agent_id.clone(),
        tool_name: execution.tool_name.clone(),
        tool_version: execution.tool_version.clone(),
        tool_digest: execution.tool_digest.clone(),
        execution_id: execution.id.to_string(),
        task_id: execution.task_id.clone(),
        trace_id: execution.trace_id.clone(),
        arguments_digest: execution.arguments_digest.clone(),
        sensitivity: sensitivity(&execution.sensitivity).into(),
        decision_id: execution.decision_id.map(|id| id.to_string()).unwrap_or_default(),
        user: execution.user_id.clone(),
        // The row of the execution is the intent.
        intent_time: Some(timestamp(execution.create_time)),
        ..Event::default()
    }
}

/// What a result was like, as JSON text of about a kilobyte at most. Cut only here, where it is sanitised as a whole:
/// half a secret is not known as one.
fn summary(sanitised: &str) -> String {
    if sanitised.len() <= MAX_SUMMARY {
        return sanitised.to_owned();
    }
    let end = (0..=MAX_SUMMARY).rev().find(|&end| sanitised.is_char_boundary(end)).unwrap_or(0);
    serde_json::json!({ "begins": &sanitised[..end], "bytes": sanitised.len() }).to_string()
}

/// What history is told of a call: what the tool itself came to, whatever stood in for it.
fn learned(execution: &Execution, outcome: &Outcome, finished: &Finished) -> selector::Outcome {
    let failure = own_failure(finished);
    selector::Outcome {
        event_id: types::new_id().to_string(),
        team_id: execution.team_id.clone(),
        agent_id: execution.agent_id.clone(),
        tool_name: execution.tool_name.clone(),
        execution_id: execution.id.to_string(),
        selection_id: execution.selection_id.clone(),
        succeeded: failure.is_none(),
        duration_ms: duration_ms(
            execution.start_time.unwrap_or(execution.create_time),
            own_end(finished).unwrap_or(outcome.end_time),
        ),
        cost_micro_usd: finished.own_cost_micro_usd,
        time: Some(timestamp(outcome.end_time)),
        task_id: execution.task_id.clone(),
        failure_reason: failure.map(|code| reason(code, finished)).unwrap_or_default().to_owned(),
        cached: finished.is_hit(),
        // What was asked for an end user must not outlive its erasure, and a digest can be guessed.
        arguments_hash: if execution.user_id.is_empty() {
            execution.arguments_digest.clone()
        } else {
            String::new()
        },
        timeout_ms: finished.timeout_ms,
        fell_back: finished.source == Source::Fallback,
        effect: effect(&execution.effect).into(),
    }
}

/// Why it failed, as history knows it: a tool is not to blame for a caller that waits less than it may take.
fn reason(code: ToolErrorCode, finished: &Finished) -> &'static str {
    if code == ToolErrorCode::Timeout && finished.is_hurried { CUT_SHORT } else { code.as_str() }
}

/// How the tool that was asked for failed; `None`: it answered, now or earlier.
fn own_failure(finished: &Finished) -> Option<ToolErrorCode> {
    let is_own = |attempt: &&Attempt| attempt.kind != AttemptKind::Fallback;
    match (&finished.ended, finished.source) {
        (Err(error), _) => Some(error.code),
        (Ok(_), Source::Tool | Source::Cache | Source::SemanticCache | Source::Coalesced) => None,
        (Ok(_), Source::Fallback | Source::StaleCache | Source::Partial) => {
            let last = finished.attempts.iter().rfind(is_own).and_then(|attempt| attempt.error.as_ref());
            Some(last.map_or(ToolErrorCode::ToolFailed, |error| error.code))
        }
    }
}

/// When the tool that was asked for had failed for good, where others were tried after it.
fn own_end(finished: &Finished) -> Option<DateTime<Utc>> {
    let next = finished.attempts.iter().position(|attempt| attempt.kind == AttemptKind::Fallback)?;
    let last = finished.attempts.get(next.checked_sub(1)?)?;
    #[allow(clippy::cast_possible_truncation, reason = "a run takes minutes at most")]
    let micros = (last.duration_ms * 1_000.0) as i64;
    last.start_time.checked_add_signed(TimeDelta::microseconds(micros))
}

/// A call that ended before its intent: refused, or wrong.
#[derive(Debug, Clone)]
pub(crate) struct Refusal<'a> {
    pub caller: &'a Caller,
    pub tool_name: String,
    pub tool_version: &'a str,
    pub tool_digest: &'a str,
    pub sensitivity: &'a str,
    pub task_id: &'a str,
    pub trace_id: &'a str,
    pub arguments_json: String,
    /// Whether the permissions service said no; any other refusal is a failure before the question.
    pub is_denial: bool,
    pub reason: ErrorReason,
    pub message: String,
}

/// The event of a refusal.
pub(crate) fn refused(refusal: Refusal<'_>, at: DateTime<Utc>) -> OutboxEvent {
    let (action, result) = if refusal.is_denial {
        (Action::PermissionChecked, AuditResult::Denied)
    } else {
        (Action::ErrorOccurred, AuditResult::Failure)
    };
    let event = Event {
        id: types::new_id().to_string(),
        team_id: refusal.caller.team.clone(),
        time: Some(timestamp(at)),
        action: action.into(),
        result: result.into(),
        agent_id: refusal.caller.agent.clone(),
        tool_name: refusal.tool_name,
        tool_version: refusal.tool_version.to_owned(),
        tool_digest: refusal.tool_digest.to_owned(),
        task_id: refusal.task_id.to_owned(),
        trace_id: refusal.trace_id.to_owned(),
        reason: refusal.reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
        message: refusal.message,
        arguments_json: refusal.arguments_json,
        sensitivity: sensitivity(refusal.sensitivity).into(),
        user: refusal.caller.user.clone(),
        ..Event::default()
    };
    outbox(AUDIT, &event)
}

/// The field that names the team, as it stands in an encoded event.
pub(crate) fn team_field(team: &str) -> Vec<u8> {
    Event { team_id: team.to_owned(), ..Event::default() }.encode_to_vec()
}

/// The field that names the end user, as it stands in an encoded event.
pub(crate) fn user_field(user: &str) -> Vec<u8> {
    Event { user: user.to_owned(), ..Event::default() }.encode_to_vec()
}

fn outbox(destination: &'static str, message: &impl Message) -> OutboxEvent {
    OutboxEvent { destination, payload: message.encode_to_vec() }
}

/// Milliseconds between two times; 0 when the clock was set back between them.
pub(crate) fn duration_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).num_microseconds().map_or(0.0, |micros| micros.max(0) as f64 / 1_000.0)
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}

fn effect(word: &str) -> Effect {
    word.parse::<types::Effect>().map(Effect::from).unwrap_or_default()
}

fn sensitivity(word: &str) -> Sensitivity {
    word.parse::<types::Sensitivity>().map(Sensitivity::from).unwrap_or_default()
}
