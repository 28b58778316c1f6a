//! How a run ended, and how that is written: the row's fields and the events for audit and selector.
//! Pure: nothing here reads or writes anything.

use std::fmt::Write;

use ::rpc::ErrorReason;
use chrono::{DateTime, Utc};
use prost::Message;
use proto::{
    audit::v1::{Action, Event, Result as AuditResult},
    selector::v1 as selector,
    types::v1::Sensitivity,
};
use serde::{Deserialize, Serialize};
use types::Caller;

use crate::{
    store::{Execution, Intent, OutboxEvent, Outcome},
    validate::Violation,
};

/// Destinations of the outbox.
pub(crate) const AUDIT: &str = "audit";
pub(crate) const SELECTOR: &str = "selector";

/// Where an execution stands; the names are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Running,
    Succeeded,
    Failed,
    TimedOut,
    UnknownOutcome,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::UnknownOutcome => "unknown_outcome",
        }
    }
}

/// Why a tool failed; the names are those of `toolcrib.executor.v1.ToolErrorCode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum ToolErrorCode {
    ToolFailed,
    Timeout,
    Unreachable,
    InvalidResult,
    ResultTooLarge,
    SandboxDenied,
    OutOfMemory,
    NotConfigured,
    UpstreamAuth,
    UpstreamRateLimited,
    AddressRefused,
    OwnerDied,
    Protocol,
}

impl ToolErrorCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ToolFailed => "TOOL_FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Unreachable => "UNREACHABLE",
            Self::InvalidResult => "INVALID_RESULT",
            Self::ResultTooLarge => "RESULT_TOO_LARGE",
            Self::SandboxDenied => "SANDBOX_DENIED",
            Self::OutOfMemory => "OUT_OF_MEMORY",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::UpstreamAuth => "UPSTREAM_AUTH",
            Self::UpstreamRateLimited => "UPSTREAM_RATE_LIMITED",
            Self::AddressRefused => "ADDRESS_REFUSED",
            Self::OwnerDied => "OWNER_DIED",
            Self::Protocol => "PROTOCOL",
        }
    }

    /// Whether the tool's work was reached, and so is paid for.
    fn is_charged(self) -> bool {
        !matches!(self, Self::Unreachable | Self::NotConfigured | Self::AddressRefused | Self::OwnerDied)
    }
}

/// A tool's own failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolError {
    pub code: ToolErrorCode,
    pub message: String,
    #[serde(default)]
    pub violations: Vec<Violation>,
    #[serde(default)]
    pub retryable: bool,
    #[serde(default)]
    pub retry_after_ms: i64,
    /// What the tool gave besides, as JSON text: a failed program's output.
    #[serde(default, skip)]
    pub partial_json: Option<String>,
}

impl ToolError {
    pub(crate) fn new(code: ToolErrorCode, message: impl Into<String>) -> Self {
        let retryable = matches!(
            code,
            ToolErrorCode::Timeout | ToolErrorCode::Unreachable | ToolErrorCode::UpstreamRateLimited
        );
        Self {
            code,
            message: message.into(),
            violations: Vec::new(),
            retryable,
            retry_after_ms: 0,
            partial_json: None,
        }
    }
}

/// How a run ended: the result as JSON text, or the tool's failure.
pub(crate) type Ended = Result<String, ToolError>;

/// The status, error and cost that an end means.
pub(crate) fn status_of(ended: &Ended) -> Status {
    match ended {
        Ok(_) => Status::Succeeded,
        Err(error) if error.code == ToolErrorCode::Timeout => Status::TimedOut,
        Err(error) if error.code == ToolErrorCode::OwnerDied => Status::UnknownOutcome,
        Err(_) => Status::Failed,
    }
}

/// What one call costs when it ends like this, in millionths of a US dollar.
pub(crate) fn cost_of(ended: &Ended, cost_micro_usd: i64) -> i64 {
    match ended {
        Err(error) if !error.code.is_charged() => 0,
        _ => cost_micro_usd,
    }
}

/// The row and the events of an ended execution. `stored` is the result as it may be stored.
pub(crate) fn outcome(
    execution: &Execution,
    ended: &Ended,
    stored: String,
    cost_micro_usd: i64,
    at: DateTime<Utc>,
) -> Outcome {
    let error_json = match ended {
        Ok(_) => String::new(),
        // A struct of texts and numbers has a JSON form.
        Err(error) => serde_json::to_string(error).unwrap_or_default(),
    };
    let result_digest = match ended {
        Ok(result) => types::digest_bytes(result.as_bytes()),
        Err(_) => String::new(),
    };
    let mut outcome = Outcome {
        team_id: execution.team_id.clone(),
        id: execution.id,
        lease_epoch: execution.lease_epoch,
        status: status_of(ended).as_str().to_owned(),
        result_json: stored,
        result_digest,
        error_json,
        cost_micro_usd: cost_of(ended, cost_micro_usd),
        end_time: at,
        events: Vec::new(),
    };
    outcome.events = vec![
        outbox(AUDIT, &invoked(execution, &outcome, ended)),
        outbox(SELECTOR, &learned(execution, &outcome, ended)),
    ];
    outcome
}

fn invoked(execution: &Execution, outcome: &Outcome, ended: &Ended) -> Event {
    let result = match status_of(ended) {
        Status::Succeeded => AuditResult::Success,
        Status::UnknownOutcome => AuditResult::Unknown,
        Status::Running | Status::Failed | Status::TimedOut => AuditResult::Failure,
    };
    let (reason, message) = match ended {
        Ok(_) => (String::new(), String::new()),
        Err(error) => (error.code.as_str().to_owned(), error.message.clone()),
    };
    Event {
        id: types::new_id().to_string(),
        team_id: execution.team_id.clone(),
        time: Some(timestamp(outcome.end_time)),
        action: Action::ToolInvoked.into(),
        result: result.into(),
        agent_id: execution.agent_id.clone(),
        tool_name: execution.tool_name.clone(),
        tool_version: execution.tool_version.clone(),
        tool_digest: execution.tool_digest.clone(),
        execution_id: execution.id.to_string(),
        task_id: execution.task_id.clone(),
        trace_id: execution.trace_id.clone(),
        reason,
        message,
        arguments_json: execution.arguments_json.clone(),
        arguments_digest: execution.arguments_digest.clone(),
        result_digest: outcome.result_digest.clone(),
        duration_ms: duration_ms(execution.create_time, outcome.end_time),
        cost_micro_usd: outcome.cost_micro_usd,
        sensitivity: sensitivity(&execution.sensitivity).into(),
        decision_id: execution.decision_id.map(|id| id.to_string()).unwrap_or_default(),
        sequence: 0,
    }
}

fn learned(execution: &Execution, outcome: &Outcome, ended: &Ended) -> selector::Outcome {
    selector::Outcome {
        event_id: types::new_id().to_string(),
        team_id: execution.team_id.clone(),
        agent_id: execution.agent_id.clone(),
        tool_name: execution.tool_name.clone(),
        execution_id: execution.id.to_string(),
        selection_id: execution.selection_id.clone(),
        succeeded: ended.is_ok(),
        duration_ms: duration_ms(execution.create_time, outcome.end_time),
        cost_micro_usd: outcome.cost_micro_usd,
        time: Some(timestamp(outcome.end_time)),
    }
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
        ..Event::default()
    };
    outbox(AUDIT, &event)
}

fn outbox(destination: &'static str, message: &impl Message) -> OutboxEvent {
    let mut payload = String::from("\\x");
    for byte in message.encode_to_vec() {
        // Writing to a String cannot fail.
        let _ = write!(payload, "{byte:02x}");
    }
    OutboxEvent { destination, payload }
}

/// Milliseconds between two times; 0 when the clock was set back between them.
pub(crate) fn duration_ms(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).num_microseconds().map_or(0.0, |micros| micros.max(0) as f64 / 1_000.0)
}

pub(crate) fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}

fn sensitivity(word: &str) -> Sensitivity {
    word.parse::<types::Sensitivity>().map(Sensitivity::from).unwrap_or_default()
}

/// A copy of an intent's execution as it ended.
pub(crate) fn ended_execution(intent: &Intent, outcome: &Outcome, result_json: String) -> Execution {
    Execution {
        status: outcome.status.clone(),
        result_json,
        result_digest: outcome.result_digest.clone(),
        error_json: outcome.error_json.clone(),
        cost_micro_usd: outcome.cost_micro_usd,
        end_time: Some(outcome.end_time),
        ..intent.execution.clone()
    }
}
