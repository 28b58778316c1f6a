//! One call, from request to answer. The story on one screen; its steps live in the files beside it.
//!
//! resolve -> validate -> authorize -> intent -> run -> outcome and events -> answer -> settle.
//! From the intent on the work has a task of its own: a client that goes away does not undo a call.

use std::sync::Arc;

use ::rpc::{Call, ErrorReason, ServiceError};
use proto::{
    permissions::v1::AuthorizeRequest,
    registry::v1::{Tool, ToolDefinition},
};
use serde_json::Value;
use types::{Effect, Sensitivity};
use uuid::Uuid;

use crate::{
    Error, Executor,
    authorize::Decision,
    outcome::{self, Refusal, Status},
    redact, replay,
    resolve::definition,
    run::Run,
    store::{self, Execution, Intent},
    validate,
};

/// Largest sanitised arguments that are stored, in bytes of JSON text.
const MAX_STORED_ARGUMENTS: usize = 64 * 1024;

/// A checked request for one run.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "request_id is the contract's name")]
pub(crate) struct Request {
    pub tool: String,
    pub arguments_json: String,
    pub request_id: String,
    pub task_id: String,
    pub timeout_ms: i64,
    pub selection_id: String,
}

/// An ended execution.
#[derive(Debug)]
pub(crate) struct Answer {
    pub execution: Execution,
    pub replayed: bool,
}

/// Runs one tool, or answers with what an earlier request of the same id got.
pub(crate) async fn invoke(executor: &Arc<Executor>, call: &Call, request: Request) -> Result<Answer, Error> {
    match replay::of(executor, call, &request).await {
        Ok(Some(answer)) => return Ok(answer),
        Ok(None) => {}
        Err(error @ Error::RequestIdReused(_)) => {
            return Err(refuse(executor, call, &request, None, error).await);
        }
        Err(error) => return Err(error),
    }
    let admitted = executor.admit()?;
    let tool = match executor.resolver.resolve(&call.caller, &request.tool).await {
        Ok(tool) => tool,
        Err(error) => return Err(refuse(executor, call, &request, None, error).await),
    };
    let (arguments, decision, id) = match permit(executor, call, &request, &tool).await {
        Ok(permitted) => permitted,
        Err(error) => return Err(refuse(executor, call, &request, Some(&tool), error).await),
    };
    let intent = intent(executor, call, &request, &tool, &arguments, (&decision, id))?;
    let run = Run::new(executor, call, &request, tool, arguments, decision, intent)?;
    let running = run.spawn(executor);
    drop(admitted);
    match running.wait(call).await? {
        Some(answer) => Ok(answer),
        None => replay::join(executor, call, &request).await,
    }
}

/// Arguments that are valid, and a decision that allows the call.
async fn permit(
    executor: &Executor,
    call: &Call,
    request: &Request,
    tool: &Tool,
) -> Result<(Value, Decision, Uuid), Error> {
    let definition = definition(tool)?;
    let invalid = |violations| Error::Arguments { tool: definition.name.clone(), violations };
    let arguments = validate::parse_object(&request.arguments_json).map_err(invalid)?;
    let violations = executor.schemas.check(&definition.input_schema_json, &arguments);
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    let id = types::new_id();
    let question = AuthorizeRequest {
        tool_name: definition.name.clone(),
        tool_digest: tool.digest.clone(),
        effect: definition.effect,
        sensitivity: definition.sensitivity,
        arguments_digest: digest(&arguments)?,
        execution_id: id.to_string(),
    };
    let decision = executor.authorizer.authorize(&call.caller, question).await?;
    Ok((arguments, decision, id))
}

fn intent(
    executor: &Executor,
    call: &Call,
    request: &Request,
    tool: &Tool,
    arguments: &Value,
    (decision, id): (&Decision, Uuid),
) -> Result<Intent, Error> {
    let definition = definition(tool)?;
    let execution = Execution {
        team_id: call.caller.team.clone(),
        id,
        tool_name: definition.name.clone(),
        tool_version: definition.version.clone(),
        tool_digest: tool.digest.clone(),
        effect: effect(definition).to_string(),
        sensitivity: sensitivity(definition).to_string(),
        agent_id: call.caller.agent.clone(),
        task_id: request.task_id.clone(),
        request_id: request.request_id.clone(),
        selection_id: request.selection_id.clone(),
        trace_id: call.trace_id.clone(),
        decision_id: decision.id,
        arguments_json: stored_arguments(definition, arguments),
        arguments_digest: digest(arguments)?,
        status: Status::Running.as_str().to_owned(),
        result_json: String::new(),
        result_digest: String::new(),
        error_json: String::new(),
        cost_micro_usd: 0,
        create_time: store::now(),
        end_time: None,
        owner: executor.owner,
        lease_epoch: 1,
    };
    Ok(Intent { execution, body_digest: replay::body_digest(&call.caller, request) })
}

/// Records that a call was refused, and gives the refusal back. What cannot be recorded is refused as
/// unavailable instead: no answer may leave without its trace. Recorded in a task of its own: a client that
/// goes away does not undo its refusal.
async fn refuse(
    executor: &Arc<Executor>,
    call: &Call,
    request: &Request,
    tool: Option<&Tool>,
    error: Error,
) -> Error {
    let definition = tool.and_then(|tool| tool.definition.as_ref());
    let arguments: Value = serde_json::from_str(&request.arguments_json).unwrap_or(Value::Null);
    let refusal = Refusal {
        caller: &call.caller,
        tool_name: definition
            .map_or_else(|| redact::text(&request.tool), |definition| definition.name.clone()),
        tool_version: definition.map_or("", |definition| definition.version.as_str()),
        tool_digest: tool.map_or("", |tool| tool.digest.as_str()),
        sensitivity: definition.map_or(Sensitivity::Internal, sensitivity).as_str(),
        task_id: &request.task_id,
        trace_id: &call.trace_id,
        arguments_json: definition.map_or_else(
            || redact::json(&arguments, None, MAX_STORED_ARGUMENTS),
            |definition| stored_arguments(definition, &arguments),
        ),
        is_denial: matches!(error, Error::Denied { .. }),
        reason: error.reason(),
        message: redact::text(&error.public_message()),
    };
    if refusal.reason == ErrorReason::StoreUnavailable {
        return error;
    }
    let (event, writer) = (outcome::refused(refusal, store::now()), Arc::clone(executor));
    let recorded = executor.runs.spawn(async move {
        let recorded = writer.ledger.events(vec![event]).await;
        writer.audit_outbox.wake();
        recorded
    });
    match recorded.await {
        Ok(Ok(())) => error,
        Ok(Err(unrecorded)) => Error::Store(unrecorded),
        Err(_) => Error::Internal("the refusal was not recorded".into()),
    }
}

fn stored_arguments(definition: &ToolDefinition, arguments: &Value) -> String {
    let schema = serde_json::from_str(&definition.input_schema_json).ok();
    redact::json(arguments, schema.as_ref(), MAX_STORED_ARGUMENTS)
}

fn digest(arguments: &Value) -> Result<String, Error> {
    types::digest_json(arguments).map_err(|error| Error::Internal(error.to_string()))
}

pub(crate) fn effect(definition: &ToolDefinition) -> Effect {
    Option::from(definition.effect()).unwrap_or(Effect::SideEffect)
}

fn sensitivity(definition: &ToolDefinition) -> Sensitivity {
    Option::from(definition.sensitivity()).unwrap_or(Sensitivity::Internal)
}
