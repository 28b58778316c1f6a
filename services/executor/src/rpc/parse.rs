//! Requests as the use cases take them: every field is checked here, and all faults are told at once.

use ::rpc::FieldViolation;
use chrono::{DateTime, TimeDelta, Utc};
use proto::executor::v1::{
    CallOptions, ExecuteRequest, ListExecutionsRequest, StartExecutionRequest, ToolErrorCode,
    execute_request::Input,
};
use serde_json::{Map, Value};

use crate::{
    Error,
    invoke::{Options, Request, Turn},
    store::Filter,
};

/// The texts that a listing filters by.
const FILTERS: [&str; 4] = ["tool_name", "agent_id", "task_id", "request_id"];
/// How far ahead a call may be accepted.
const FARTHEST: TimeDelta = TimeDelta::days(30);
/// How often a process may take a call up when it does not say.
const MAX_DELIVERIES: i32 = 5;

/// A request whose every field keeps to the contract.
pub(super) fn execute(request: ExecuteRequest) -> Result<Request, Error> {
    let mut violations = Vec::new();
    let mut check = |sound: bool, field: &str, description: &str| {
        if !sound {
            violations.push(FieldViolation { field: field.into(), description: description.into() });
        }
    };
    check(
        (1..=200).contains(&request.tool.len()) && !request.tool.contains(char::is_control),
        "tool",
        "name a tool, in at most 200 characters",
    );
    check(
        is_word(&request.task_id),
        "task_id",
        "at most 128 letters, digits, '.', '_' and '-', not '.' or '..'",
    );
    check(request.request_id.chars().count() <= 128, "request_id", "at most 128 characters");
    check(!request.request_id.contains('\0'), "request_id", "must not contain NUL");
    check((0..=300_000).contains(&request.timeout_ms), "timeout_ms", "0 to 300000");
    let selection = request.selection_id.is_empty() || request.selection_id.parse::<uuid::Uuid>().is_ok();
    check(selection, "selection_id", "is not the id of a selection");
    let options = request.options.unwrap_or_default();
    check(options.max_retries.is_none_or(|n| (0..=10).contains(&n)), "options.max_retries", "0 to 10");
    check((0..=2_592_000).contains(&options.max_age_s), "options.max_age_s", "0 to 2592000");
    let is_short = request.justification.chars().count() <= 1_000;
    check(is_short && !request.justification.contains('\0'), "justification", "at most 1,000 characters");
    let known = proto::registry::v1::Degradation::try_from(options.degradation).is_ok();
    check(known, "options.degradation", "is not one of the contract");
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    let arguments_json = match request.input {
        None => "{}".to_owned(),
        Some(Input::ArgumentsJson(text)) => text,
        Some(Input::Arguments(fields)) => from_struct(fields)?.to_string(),
    };
    Ok(Request {
        tool: request.tool,
        arguments_json,
        request_id: request.request_id,
        task_id: request.task_id,
        timeout_ms: request.timeout_ms,
        selection_id: request.selection_id,
        options: overrides(options),
        justification: request.justification,
        turn: None,
    })
}

fn overrides(options: CallOptions) -> Options {
    Options {
        max_retries: options.max_retries.map(|retries| u32::try_from(retries).unwrap_or(0)),
        skip_cache: options.skip_cache,
        max_age_s: u64::try_from(options.max_age_s).unwrap_or(0),
        no_fallbacks: options.no_fallbacks,
        degradation: options.degradation,
    }
}

/// A call that is to run later.
pub(super) fn start(request: StartExecutionRequest) -> Result<Request, Error> {
    let call = request.call.ok_or_else(|| Error::invalid("call", "is missing"))?;
    let mut call = execute(call)?;
    let mut violations = Vec::new();
    let mut check = |sound: bool, field: &str, description: &str| {
        if !sound {
            violations.push(FieldViolation { field: field.into(), description: description.into() });
        }
    };
    check((-100..=100).contains(&request.priority), "priority", "-100 to 100");
    check((0..=20).contains(&request.max_deliveries), "max_deliveries", "1 to 20, or 0 for 5");
    let not_before = request.not_before.map(time).transpose();
    let soon = |at: &Option<DateTime<Utc>>| at.is_none_or(|at| at <= Utc::now() + FARTHEST);
    check(not_before.as_ref().is_ok_and(soon), "not_before", "a time at most 30 days ahead");
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    call.turn = Some(Turn {
        priority: i16::try_from(request.priority).unwrap_or(0),
        not_before: not_before.unwrap_or_default(),
        max_deliveries: if request.max_deliveries == 0 { MAX_DELIVERIES } else { request.max_deliveries },
        waits: request.wait_for_approval,
    });
    Ok(call)
}

fn time(at: prost_types::Timestamp) -> Result<DateTime<Utc>, Error> {
    let nanos = u32::try_from(at.nanos).ok();
    let time = nanos.and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos));
    time.ok_or_else(|| Error::invalid("time", "is not a time"))
}

/// Letters that are safe in a path and in a log line; the task names a folder.
fn is_word(text: &str) -> bool {
    text.len() <= 128
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// A Struct as JSON: whole numbers that a double holds exactly become integers again.
fn from_struct(fields: prost_types::Struct) -> Result<Value, Error> {
    let entry = |(name, value)| Ok((name, from_value(value, 0)?));
    Ok(Value::Object(fields.fields.into_iter().map(entry).collect::<Result<Map<_, _>, Error>>()?))
}

fn from_value(value: prost_types::Value, depth: usize) -> Result<Value, Error> {
    use prost_types::value::Kind;
    if depth > 100 {
        return Err(Error::invalid("arguments", "is nested deeper than 100"));
    }
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::from(flag),
        Some(Kind::StringValue(text)) => Value::from(text),
        Some(Kind::NumberValue(number)) => number_value(number),
        Some(Kind::ListValue(list)) => {
            list.values.into_iter().map(|value| from_value(value, depth + 1)).collect::<Result<_, _>>()?
        }
        Some(Kind::StructValue(fields)) => {
            let entry = |(name, value)| Ok((name, from_value(value, depth + 1)?));
            Value::Object(fields.fields.into_iter().map(entry).collect::<Result<Map<_, _>, Error>>()?)
        }
    })
}

fn number_value(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_991.0;
    #[allow(clippy::cast_possible_truncation, reason = "whole and within the exact range of a double")]
    if number.fract() == 0.0 && number.abs() <= EXACT {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

pub(super) fn filter(request: &ListExecutionsRequest) -> Result<Filter, Error> {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let names = [&request.tool_name, &request.agent_id, &request.task_id, &request.request_id];
    if let Some((_, field)) = names.into_iter().zip(FILTERS).find(|(name, _)| name.contains('\0')) {
        return Err(Error::invalid(field, "must not contain NUL"));
    }
    let status = request.status().as_str_name().trim_start_matches("EXECUTION_STATUS_").to_lowercase();
    let error = request.error_code().as_str_name().trim_start_matches("TOOL_ERROR_CODE_").to_owned();
    let after = request.created_after.map(time).transpose()?;
    let before = request.created_before.map(time).transpose()?;
    Ok(Filter {
        error_code: (request.error_code() != ToolErrorCode::Unspecified).then_some(error),
        request_id: text(&request.request_id),
        created_after: after,
        created_before: before,
        tool_name: text(&request.tool_name),
        agent_id: text(&request.agent_id),
        task_id: text(&request.task_id),
        status: (status != "unspecified").then_some(status),
    })
}
