//! The gRPC face of the executor service: parse, call the use case, map. The one mapping of an execution.

use std::sync::Arc;

use ::rpc::{Call, FieldViolation, PageKey, status};
use proto::executor::v1::{
    ExecuteRequest, ExecuteResponse, Execution as Message, ExecutionStatus, GetExecutionRequest,
    GetExecutionResponse, ListExecutionsRequest, ListExecutionsResponse, SchemaViolation,
    ToolError as WireError, ToolErrorCode, execute_request::Input, executor_service_server::ExecutorService,
};
use proto::types::v1::Effect;
use serde_json::{Map, Value};
use tonic::{Request, Response, Status};

use crate::{
    Error, Executor, invoke,
    outcome::{ToolError, duration_ms, timestamp},
    query,
    store::{Execution, Filter},
};

/// The texts that a listing filters by.
const FILTERS: [&str; 3] = ["tool_name", "agent_id", "task_id"];

pub(crate) struct Service {
    pub executor: Arc<Executor>,
    pub pages: PageKey,
}

#[tonic::async_trait]
impl ExecutorService for Service {
    async fn execute(&self, request: Request<ExecuteRequest>) -> Result<Response<ExecuteResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = checked(request.into_inner()).map_err(|error| status(&error))?;
        let answer = invoke::invoke(&self.executor, &call, request).await.map_err(|error| status(&error))?;
        let execution = Some(message(answer.execution));
        Ok(Response::new(ExecuteResponse { execution, replayed: answer.replayed }))
    }

    async fn get_execution(
        &self,
        request: Request<GetExecutionRequest>,
    ) -> Result<Response<GetExecutionResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let id = request.into_inner().id;
        let found = query::get(&self.executor.database, &call.caller, &id).await;
        let execution = found.map(message).map_err(|error| status(&error))?;
        Ok(Response::new(GetExecutionResponse { execution: Some(execution) }))
    }

    async fn list_executions(
        &self,
        request: Request<ListExecutionsRequest>,
    ) -> Result<Response<ListExecutionsResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = request.into_inner();
        let page = (request.page_size, request.page_token.as_str());
        let filter = filter(&request).map_err(|error| status(&error))?;
        let (rows, next_page_token) =
            query::list(&self.executor.database, &self.pages, &call.caller, filter, page)
                .await
                .map_err(|error| status(&error))?;
        let executions = rows.into_iter().map(message).collect();
        Ok(Response::new(ListExecutionsResponse { executions, next_page_token }))
    }
}

/// A request whose every field keeps to the contract.
fn checked(request: ExecuteRequest) -> Result<invoke::Request, Error> {
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
    if !violations.is_empty() {
        return Err(Error::Invalid(violations));
    }
    let arguments_json = match request.input {
        None => "{}".to_owned(),
        Some(Input::ArgumentsJson(text)) => text,
        Some(Input::Arguments(fields)) => from_struct(fields)?.to_string(),
    };
    Ok(invoke::Request {
        tool: request.tool,
        arguments_json,
        request_id: request.request_id,
        task_id: request.task_id,
        timeout_ms: request.timeout_ms,
        selection_id: request.selection_id,
    })
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

fn filter(request: &ListExecutionsRequest) -> Result<Filter, Error> {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let names = [&request.tool_name, &request.agent_id, &request.task_id];
    if let Some((_, field)) = names.into_iter().zip(FILTERS).find(|(name, _)| name.contains('\0')) {
        return Err(Error::invalid(field, "must not contain NUL"));
    }
    let status = request.status().as_str_name().trim_start_matches("EXECUTION_STATUS_").to_lowercase();
    Ok(Filter {
        tool_name: text(&request.tool_name),
        agent_id: text(&request.agent_id),
        task_id: text(&request.task_id),
        status: (status != "unspecified").then_some(status),
    })
}

fn message(row: Execution) -> Message {
    let status = ExecutionStatus::from_str_name(&format!("EXECUTION_STATUS_{}", row.status.to_uppercase()));
    let effect = row.effect.parse::<types::Effect>().map(Effect::from).unwrap_or_default();
    Message {
        id: row.id.to_string(),
        duration_ms: row.end_time.map_or(0.0, |end| duration_ms(row.create_time, end)),
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
    }
}

fn wire_error(error: ToolError) -> WireError {
    let code = ToolErrorCode::from_str_name(&format!("TOOL_ERROR_CODE_{}", error.code.as_str()));
    let violation = |violation: crate::validate::Violation| SchemaViolation {
        pointer: violation.pointer,
        message: violation.message,
        schema_pointer: violation.schema_pointer,
    };
    WireError {
        code: code.unwrap_or_default().into(),
        message: error.message,
        violations: error.violations.into_iter().map(violation).collect(),
        retryable: error.retryable,
        retry_after_ms: error.retry_after_ms,
    }
}
