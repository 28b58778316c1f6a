//! A call that ended before its intent. The refusal is recorded before it is told: no answer may leave without
//! its trace.

use std::sync::Arc;

use ::rpc::{Call, ErrorReason, ServiceError};
use proto::registry::v1::Tool;
use serde_json::Value;
use types::Sensitivity;

use crate::{
    Error, Executor,
    events::{self, Refusal},
    invoke::{MAX_STORED_ARGUMENTS, Request, sensitivity, stored_arguments},
    store,
};

/// Records that a call was refused, and gives the refusal back. What cannot be recorded is refused as
/// unavailable instead. Recorded in a task of its own: a client that goes away does not undo its refusal.
pub(crate) async fn refuse(
    executor: &Arc<Executor>,
    call: &Call,
    request: &Request,
    tool: Option<&Tool>,
    error: Error,
) -> Error {
    let definition = tool.and_then(|tool| tool.definition.as_ref());
    let arguments: Value = serde_json::from_str(&request.arguments_json).unwrap_or(Value::Null);
    let rules = executor.rules(&call.caller.team, tool);
    let refusal = Refusal {
        caller: &call.caller,
        tool_name: definition.map_or_else(|| rules.text(&request.tool), |definition| definition.name.clone()),
        tool_version: definition.map_or("", |definition| definition.version.as_str()),
        tool_digest: tool.map_or("", |tool| tool.digest.as_str()),
        sensitivity: definition.map_or(Sensitivity::Internal, sensitivity).as_str(),
        task_id: &request.task_id,
        trace_id: &call.trace_id,
        arguments_json: tool.map_or_else(
            || rules.json(&arguments, None, MAX_STORED_ARGUMENTS),
            |tool| stored_arguments(executor, &call.caller.team, tool, &arguments),
        ),
        is_denial: matches!(error, Error::Denied { .. } | Error::Unapproved { .. }),
        reason: error.reason(),
        message: rules.text(&error.public_message()),
    };
    if refusal.reason == ErrorReason::StoreUnavailable {
        return error;
    }
    let (event, writer) = (events::refused(refusal, store::now()), Arc::clone(executor));
    let recorded = executor.runs.spawn(async move { writer.ledger.events(vec![event]).await });
    match recorded.await {
        Ok(Ok(())) => error,
        Ok(Err(unrecorded)) => Error::Store(unrecorded),
        Err(_) => Error::Internal("the refusal was not recorded".into()),
    }
}
