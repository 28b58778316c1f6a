//! One call, from request to answer. The story on one screen; its steps live in the files beside it.
//!
//! resolve -> validate -> authorize -> intent -> cache -> attempts -> outcome and events -> answer -> settle.
//! From the intent on the work has a task of its own: a client that goes away does not undo a call.

use std::sync::Arc;

use ::rpc::Call;
use chrono::{DateTime, Utc};
use limit::Standing;
use proto::registry::v1::{Degradation, Tool, ToolDefinition};
use serde_json::Value;
use tokio_util::task::task_tracker::TaskTrackerToken;
use types::{Effect, Sensitivity};
use uuid::Uuid;

use crate::{
    Error, Executor,
    approvals::Unapproved,
    authorize::{Decision, question},
    outcome::Status,
    refuse, replay,
    resolve::definition,
    run::Run,
    store::{self, Execution, Intent},
    validate,
};

/// Largest sanitised arguments that are stored, in bytes of JSON text.
pub(crate) const MAX_STORED_ARGUMENTS: usize = 64 * 1024;

/// A checked request for one run.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_field_names, reason = "request_id is the contract's name")]
pub(crate) struct Request {
    pub tool: String,
    pub arguments_json: String,
    pub request_id: String,
    pub task_id: String,
    pub timeout_ms: i64,
    pub selection_id: String,
    pub options: Options,
    /// Why it is needed, for those who approve it.
    pub justification: String,
    /// When and in which turn it runs; `None`: at once, and the caller waits.
    pub turn: Option<Turn>,
}

/// What a call overrides of its tool's settings.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Options {
    pub max_retries: Option<u32>,
    pub skip_cache: bool,
    /// Oldest cached answer taken, in seconds; 0: as the tool's settings say.
    pub max_age_s: u64,
    pub no_fallbacks: bool,
    /// A `Degradation`; 0: as the tool's settings say.
    pub degradation: i32,
}

impl Options {
    /// What the call asks for, or else the tool's settings.
    pub(crate) fn degradation(&self, of_tool: Degradation) -> Degradation {
        match Degradation::try_from(self.degradation) {
            Ok(Degradation::Unspecified) | Err(_) => of_tool,
            Ok(asked) => asked,
        }
    }
}

/// A place in the queue.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    /// Higher ones begin first.
    pub priority: i16,
    pub not_before: Option<DateTime<Utc>>,
    pub max_deliveries: i32,
    /// Whether it waits for an approval that it needs.
    pub waits: bool,
}

/// An ended execution, or one that was accepted.
#[derive(Debug)]
pub(crate) struct Answer {
    pub execution: Execution,
    pub replayed: bool,
    /// What is left of the limits that the call counted against.
    pub standings: Vec<Standing>,
}

/// A call that may be made.
pub(crate) struct Permitted {
    pub tool: Arc<Tool>,
    pub arguments: Value,
    /// Over their canonical form.
    pub arguments_digest: String,
    pub decision: Decision,
    pub id: Uuid,
    /// The access request for whose approval the call waits: it is not allowed before, and must not be run.
    pub awaits: Option<Uuid>,
    /// Keeps a stop waiting until the call has a task of its own.
    pub admitted: TaskTrackerToken,
}

/// What a request came to before anything was recorded of it.
pub(crate) enum Begun {
    /// An earlier request of the same id and body has this execution.
    Known(Uuid),
    /// It may be made.
    Permitted(Box<Permitted>),
}

/// Runs one tool, or answers with what an earlier request of the same id got.
pub(crate) async fn invoke(executor: &Arc<Executor>, call: &Call, request: Request) -> Result<Answer, Error> {
    let begun = begin(executor, call, &request).await?;
    go_on(executor, call, request, begun).await
}

/// What comes before the intent: may be dropped at any time, and then nothing was begun.
pub(crate) async fn begin(executor: &Arc<Executor>, call: &Call, request: &Request) -> Result<Begun, Error> {
    match known(executor, call, request).await? {
        Some(id) => Ok(Begun::Known(id)),
        None => Ok(Begun::Permitted(Box::new(permitted(executor, call, request).await?))),
    }
}

/// From the intent to the answer; at the caller's deadline the answer is the id of what goes on.
pub(crate) async fn go_on(
    executor: &Arc<Executor>,
    call: &Call,
    request: Request,
    begun: Begun,
) -> Result<Answer, Error> {
    let permitted = match begun {
        Begun::Known(id) => return replay::ended(executor, call, id).await,
        Begun::Permitted(permitted) => *permitted,
    };
    if permitted.awaits.is_some() {
        return Err(Error::Internal("a call that waits for an approval cannot run".into()));
    }
    let intent = intent(executor, call, &request, &permitted)?;
    let Permitted { tool, arguments, decision, admitted, .. } = permitted;
    let run = Run::new(executor, call, &request, (tool, arguments), decision, intent.execution)?;
    let running = run.spawn(executor, intent.body_digest);
    drop(admitted);
    match running.wait(call).await? {
        Some(answer) => Ok(answer),
        None => replay::join(executor, call, &request).await,
    }
}

/// The execution of an earlier request with the same id and body.
pub(crate) async fn known(
    executor: &Arc<Executor>,
    call: &Call,
    request: &Request,
) -> Result<Option<Uuid>, Error> {
    match replay::find(executor, call, request).await {
        Err(error @ Error::RequestIdReused(_)) => {
            Err(refuse::refuse(executor, call, request, None, error).await)
        }
        found => found,
    }
}

/// A call that may be made; one that may not is refused, and that is recorded.
pub(crate) async fn permitted(
    executor: &Arc<Executor>,
    call: &Call,
    request: &Request,
) -> Result<Permitted, Error> {
    let admitted = executor.admit().await?;
    let tool = match executor.resolver.resolve(&call.caller, &request.tool).await {
        Ok(tool) => tool,
        Err(error) => return Err(refuse::refuse(executor, call, request, None, error).await),
    };
    match permit(executor, call, request, &tool).await {
        Ok(Allowed { arguments, arguments_digest, decision, id, awaits }) => {
            Ok(Permitted { tool, arguments, arguments_digest, decision, id, awaits, admitted })
        }
        Err(error) => Err(refuse::refuse(executor, call, request, Some(&tool), error).await),
    }
}

/// What `permit` finds out; the fields are those of `Permitted`.
struct Allowed {
    arguments: Value,
    arguments_digest: String,
    decision: Decision,
    id: Uuid,
    awaits: Option<Uuid>,
}

/// Arguments that are valid, with their digest, and a decision that allows the call, or an access request for one.
async fn permit(executor: &Executor, call: &Call, request: &Request, tool: &Tool) -> Result<Allowed, Error> {
    let definition = definition(tool)?;
    let invalid = |violations| Error::Arguments { tool: definition.name.clone(), violations };
    let arguments = validate::parse_object(&request.arguments_json).map_err(invalid)?;
    let violations = executor.schemas.check(&definition.input_schema_json, &arguments);
    if !violations.is_empty() {
        return Err(invalid(violations));
    }
    let id = types::new_id();
    let arguments_digest = digest(&arguments)?;
    let question = question(tool, &request.arguments_json, arguments_digest.clone(), id)?;
    let reserved = executor.authorizer.reserve(&executor.runs, &call.caller, question).await;
    let (decision, awaits) = match reserved {
        Ok(reserved) => (reserved.keep(), None),
        Err(Error::Unapproved { message, approver_role, .. }) => {
            let unapproved = Unapproved {
                tool_name: &definition.name,
                tool_digest: &tool.digest,
                arguments_json: stored_arguments(executor, &call.caller.team, tool, &arguments),
                arguments_digest: &arguments_digest,
                justification: &request.justification,
                message,
                approver_role,
            };
            let waits = request.turn.as_ref().is_some_and(|turn| turn.waits);
            let waiting = waits.then_some(id);
            let made = executor.authorizer.request_access(&call.caller, &unapproved, waiting).await?;
            if !waits {
                return Err(unapproved.refused(made));
            }
            (Decision::default(), Some(made))
        }
        Err(error) => return Err(error),
    };
    Ok(Allowed { arguments, arguments_digest, decision, id, awaits })
}

/// The record of a call that is about to be made, or to be queued.
pub(crate) fn intent(
    executor: &Executor,
    call: &Call,
    request: &Request,
    permitted: &Permitted,
) -> Result<Intent, Error> {
    let definition = definition(&permitted.tool)?;
    let (now, turn) = (store::now(), request.turn.as_ref());
    let status = match (turn, permitted.awaits) {
        (_, Some(_)) => Status::WaitingForApproval,
        (Some(_), None) => Status::Queued,
        (None, None) => Status::Running,
    };
    let execution = Execution {
        team_id: call.caller.team.clone(),
        id: permitted.id,
        tool_name: definition.name.clone(),
        tool_version: definition.version.clone(),
        tool_digest: permitted.tool.digest.clone(),
        effect: effect(definition).to_string(),
        sensitivity: sensitivity(definition).to_string(),
        agent_id: call.caller.agent.clone(),
        task_id: request.task_id.clone(),
        request_id: request.request_id.clone(),
        selection_id: request.selection_id.clone(),
        trace_id: call.trace_id.clone(),
        decision_id: permitted.decision.id,
        arguments_json: stored_arguments(executor, &call.caller.team, &permitted.tool, &permitted.arguments),
        arguments_digest: permitted.arguments_digest.clone(),
        status: status.as_str().to_owned(),
        create_time: now,
        owner: if turn.is_some() { Uuid::nil() } else { executor.owner },
        lease_epoch: i32::from(turn.is_none()),
        asynchronous: turn.is_some(),
        priority: turn.map_or(0, |turn| turn.priority),
        not_before: turn.and_then(|turn| turn.not_before),
        start_time: turn.is_none().then_some(now),
        deliveries: i32::from(turn.is_none()),
        max_deliveries: turn.map_or(1, |turn| turn.max_deliveries),
        reserved: permitted.decision.reserved,
        access_request_id: permitted.awaits,
        user_id: call.caller.user.clone(),
        ..Execution::default()
    };
    // Without an id no other request can be the same.
    let body_digest = match request.request_id.as_str() {
        "" => String::new(),
        _ => replay::body_digest(&call.caller, request),
    };
    Ok(Intent { execution, body_digest, job: None })
}

/// Arguments of a call of a tool as they may be stored.
pub(crate) fn stored_arguments(executor: &Executor, team: &str, tool: &Tool, arguments: &Value) -> String {
    let schema = tool.definition.as_ref().map_or("", |definition| &definition.input_schema_json);
    executor.schemas.to_store(&executor.rules(team, Some(tool)), schema, arguments, MAX_STORED_ARGUMENTS)
}

pub(crate) fn digest(arguments: &Value) -> Result<String, Error> {
    types::digest_json(arguments).map_err(|error| Error::Internal(error.to_string()))
}

pub(crate) fn effect(definition: &ToolDefinition) -> Effect {
    Option::from(definition.effect()).unwrap_or(Effect::SideEffect)
}

pub(crate) fn sensitivity(definition: &ToolDefinition) -> Sensitivity {
    Option::from(definition.sensitivity()).unwrap_or(Sensitivity::Internal)
}
