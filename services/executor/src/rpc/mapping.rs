//! The one mapping of an execution, and of what happens to it, to the contract.

use proto::{
    executor::v1::{
        Attempt as WireAttempt, AttemptKind as WireKind, Execution as Message, ExecutionStatus, Heartbeat,
        LogLine, Progress, Reached as WireReached, SchemaViolation, Source, TokenUsage,
        ToolError as WireError, ToolErrorCode, WatchExecutionResponse,
        watch_execution_response::Event as WireEvent,
    },
    types::v1::Effect,
};

use crate::{
    events::{duration_ms, timestamp},
    outcome::{Attempt, AttemptKind, Reached, ToolError},
    store::Execution,
    validate::Violation,
    watch::What,
};

/// An execution as it is told.
pub(super) fn execution(row: Execution) -> Message {
    let status = ExecutionStatus::from_str_name(&format!("EXECUTION_STATUS_{}", row.status.to_uppercase()));
    let effect = row.effect.parse::<types::Effect>().map(Effect::from).unwrap_or_default();
    let source = Source::from_str_name(&format!("SOURCE_{}", row.source.to_uppercase()));
    let begun = row.start_time.unwrap_or(row.create_time);
    let attempts: Vec<Attempt> = serde_json::from_str(&row.attempts_json).unwrap_or_default();
    let warnings: Vec<Violation> = serde_json::from_str(&row.warnings_json).unwrap_or_default();
    let tokens = TokenUsage { input_tokens: row.input_tokens, output_tokens: row.output_tokens };
    Message {
        id: row.id.to_string(),
        duration_ms: row.end_time.map_or(0.0, |end| duration_ms(begun, end)),
        create_time: Some(timestamp(row.create_time)),
        end_time: row.end_time.map(timestamp),
        status: status.unwrap_or_default().into(),
        effect: effect.into(),
        error: serde_json::from_str(&row.error_json).ok().map(wire_error),
        decision_id: row.decision_id.map(|id| id.to_string()).unwrap_or_default(),
        tool_name: row.tool_name,
        tool_version: row.tool_version,
        tool_digest: row.tool_digest,
        agent_id: row.agent_id,
        task_id: row.task_id,
        request_id: row.request_id,
        arguments_json: row.arguments_json,
        result_json: row.result_json,
        cost_micro_usd: row.cost_micro_usd,
        trace_id: row.trace_id,
        arguments_digest: row.arguments_digest,
        selection_id: row.selection_id,
        attempts: attempts.into_iter().map(attempt).collect(),
        source: source.unwrap_or_default().into(),
        cache_age_ms: row.cache_age_ms,
        warnings: warnings.into_iter().map(violation).collect(),
        tokens: (tokens != TokenUsage::default()).then_some(tokens),
        asynchronous: row.asynchronous,
        priority: row.priority.into(),
        not_before: row.not_before.map(timestamp),
        start_time: row.start_time.map(timestamp),
        deliveries: row.deliveries,
        access_request_id: row.access_request_id.map(|id| id.to_string()).unwrap_or_default(),
        // Nobody sees an execution but the agent itself, auditors and above.
        user: row.user_id,
        erased: row.erased,
    }
}

/// An attempt as it is told.
pub(super) fn attempt(attempt: Attempt) -> WireAttempt {
    let kind = match attempt.kind {
        AttemptKind::First => WireKind::First,
        AttemptKind::Retry => WireKind::Retry,
        AttemptKind::Fallback => WireKind::Fallback,
    };
    WireAttempt {
        number: attempt.number,
        kind: kind.into(),
        tool_name: attempt.tool_name,
        tool_version: attempt.tool_version,
        start_time: Some(timestamp(attempt.start_time)),
        duration_ms: attempt.duration_ms,
        error: attempt.error.map(wire_error),
        backoff_ms: attempt.backoff_ms,
    }
}

/// A violation as it is told.
pub(super) fn violation(violation: Violation) -> SchemaViolation {
    SchemaViolation {
        pointer: violation.pointer,
        message: violation.message,
        schema_pointer: violation.schema_pointer,
    }
}

fn wire_error(error: ToolError) -> WireError {
    let code = ToolErrorCode::from_str_name(&format!("TOOL_ERROR_CODE_{}", error.code.as_str()));
    let reached = match error.reached {
        Reached::No => WireReached::No,
        Reached::Maybe => WireReached::Maybe,
        Reached::Yes => WireReached::Yes,
    };
    WireError {
        code: code.unwrap_or_default().into(),
        message: error.message,
        violations: error.violations.into_iter().map(violation).collect(),
        retryable: error.retryable,
        retry_after_ms: error.retry_after_ms,
        reached: reached.into(),
    }
}

/// Something that happened, as it is told.
pub(super) fn event(event: crate::watch::Event) -> WatchExecutionResponse {
    let what = match event.what {
        What::Progress(at) => {
            WireEvent::Progress(Progress { progress: at.done, total: at.total, message: at.message })
        }
        What::Log(line) => {
            WireEvent::Log(LogLine { level: line.level, logger: line.logger, text: line.text })
        }
        What::Attempt(failed) => WireEvent::Attempt(attempt(failed)),
        What::Status(row) => WireEvent::Status(execution(*row)),
        What::Heartbeat => WireEvent::Heartbeat(Heartbeat {}),
    };
    WatchExecutionResponse { sequence: event.sequence, time: Some(timestamp(event.time)), event: Some(what) }
}
