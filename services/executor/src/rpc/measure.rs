//! For measurement only, behind the feature `measure`: a call made of the executor's own parts, up to a rung of the
//! ladder from the bare driver to the whole call. Nothing in the executor may know of it, and no rung may have a step
//! of its own: what a step costs is told by the difference between two rungs.

use std::{sync::Arc, time::Duration};

use ::rpc::Call;
use limit::Standing;
use proto::{
    executor::v1::{ExecuteRequest, ExecuteResponse},
    registry::v1::Tool,
};
use serde_json::Value;
use tonic::{Request, Response, Status, service::Routes};
use types::Caller;
use uuid::Uuid;

use super::{Service, mapping, parse, refused};
use crate::{
    Config, Error, Executor, Parts,
    attempt::Candidate,
    authorize::{Decision, question},
    check,
    drivers::Job,
    invoke::{self, Permitted, digest},
    outcome::Ended,
    perform::perform,
    resolve::definition,
    run::Run,
    store::Execution,
    validate,
};

/// How far a call goes; each rung includes those before it. The whole call is the rung after the last one: it is
/// the service that `start` gives beside the ladder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rung {
    /// The tool is looked up and its driver runs it.
    Driver,
    /// Permissions are asked, and the place that was reserved is settled behind the answer.
    Authorize,
    /// The arguments are checked against the input schema.
    ValidateInput,
    /// The result is checked against the output schema.
    ValidateOutput,
    /// Cache, lease, rate, circuit breaker, bulkhead, timeout and retries stand around the driver.
    Limit,
    /// The intent is recorded first.
    Intent,
}

impl Rung {
    /// Every rung, lowest first.
    pub const ALL: [Self; 6] =
        [Self::Driver, Self::Authorize, Self::ValidateInput, Self::ValidateOutput, Self::Limit, Self::Intent];

    /// The rung's name in requests and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Driver => "driver",
            Self::Authorize => "authorize",
            Self::ValidateInput => "validate in",
            Self::ValidateOutput => "validate out",
            Self::Limit => "limit",
            Self::Intent => "intent",
        }
    }
}

/// Makes calls up to a rung, with the parts that the service beside it uses as well.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub struct Ladder(Arc<Executor>);

/// Starts the service as `executor::start` does, and gives the ladder over the same parts besides.
pub fn start(config: &Config, parts: Parts) -> Result<(Routes, Ladder), Error> {
    let pages = parts.pages.clone();
    let executor = crate::launch(config, parts)?;
    let ladder = Ladder(Arc::clone(&executor));
    Ok((crate::routes(Service { executor, pages }), ladder))
}

impl Ladder {
    /// One call up to this rung. Its caller is the one that the stack has put there, or `otherwise`.
    pub async fn execute(
        &self,
        rung: Rung,
        request: Request<ExecuteRequest>,
        otherwise: Option<&Caller>,
    ) -> Result<Response<ExecuteResponse>, Status> {
        let call = match otherwise {
            None => Call::of(&request).map_err(|status| *status)?,
            Some(caller) => bare(caller),
        };
        let run = self.climb(rung, &call, request.into_inner());
        let (execution, standings) = run.await.map_err(refused)?;
        let execution = Some(mapping::execution(execution));
        let mut response = Response::new(ExecuteResponse { execution, replayed: false });
        super::tell_limits(response.metadata_mut(), &standings);
        Ok(response)
    }

    async fn climb(
        &self,
        rung: Rung,
        call: &Call,
        request: ExecuteRequest,
    ) -> Result<(Execution, Vec<Standing>), Error> {
        let executor = &self.0;
        let request = parse::execute(request)?;
        let tool = executor.resolver.resolve(&call.caller, &request.tool).await?;
        let arguments = self.arguments(rung, &tool, &request.arguments_json)?;
        let id = types::new_id();
        // What a rung does not need is not made for it.
        let arguments_digest = if rung >= Rung::Authorize { digest(&arguments)? } else { String::new() };
        let decision = if rung >= Rung::Authorize {
            let question = question(&tool, &request.arguments_json, arguments_digest.clone(), id)?;
            executor.authorizer.authorize(&call.caller, question).await?
        } else {
            Decision::default()
        };
        let admitted = executor.admit().await?;
        let permitted = Permitted { tool, arguments, arguments_digest, decision, id, awaits: None, admitted };
        let intent = (rung >= Rung::Intent)
            .then(|| invoke::intent(executor, call, &request, &permitted))
            .transpose()?;
        let execution = intent.as_ref().map_or_else(|| unrecorded(call, id), |i| i.execution.clone());
        let Permitted { tool, arguments, decision, admitted, .. } = permitted;
        let run = Run::new(executor, call, &request, (tool, arguments), decision, execution)?;
        if let Some(intent) = intent {
            executor.ledger.intent(intent, run.durable).await?;
        }
        let ended = ended(rung, executor, &run).await;
        let status = if ended.is_ok() { "succeeded" } else { "failed" }.to_owned();
        let result_json = ended.map_err(|error| Error::Internal(error.message))?;
        let execution = Execution { status, result_json, ..run.execution.clone() };
        let standings = run.decision.standings.clone();
        if rung >= Rung::Authorize {
            settle(executor, run);
        }
        drop(admitted);
        Ok((execution, standings))
    }

    fn arguments(&self, rung: Rung, tool: &Tool, text: &str) -> Result<Value, Error> {
        let definition = definition(tool)?;
        let invalid = |violations| Error::Arguments { tool: definition.name.clone(), violations };
        let arguments = validate::parse_object(text).map_err(invalid)?;
        if rung < Rung::ValidateInput {
            return Ok(arguments);
        }
        let violations = self.0.schemas.check(&definition.input_schema_json, &arguments);
        if violations.is_empty() { Ok(arguments) } else { Err(invalid(violations)) }
    }
}

async fn ended(rung: Rung, executor: &Executor, run: &Run) -> Ended {
    if rung >= Rung::Limit {
        return perform(executor, run).await.ended;
    }
    let job = Job {
        team: &run.caller.team,
        task_id: &run.execution.task_id,
        tool: &run.tool,
        arguments: &run.arguments,
        timeout: run.timeout,
        idempotency: None,
        progress: &run.progress,
    };
    let text = executor.drivers.run(&job).await?;
    if rung < Rung::ValidateOutput {
        return Ok(text);
    }
    let candidate = Candidate::asked_for(run);
    let checked = check::check(executor, run, &candidate, text).await;
    checked.map(|checked| checked.text).map_err(|(error, _)| error)
}

/// Behind the answer, as in a whole call.
fn settle(executor: &Arc<Executor>, run: Run) {
    let (runs, executor) = (executor.runs.clone(), Arc::clone(executor));
    runs.spawn(async move { executor.authorizer.settle(&run.caller, &run.decision, true, 0).await });
}

/// An execution that nothing is written of.
fn unrecorded(call: &Call, id: Uuid) -> Execution {
    let now = crate::store::now();
    Execution { team_id: call.caller.team.clone(), id, create_time: now, ..Execution::default() }
}

/// A call without a stack around it.
fn bare(caller: &Caller) -> Call {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    Call { caller: caller.clone(), deadline, trace_id: String::new() }
}
