//! The part of a call that must be recorded whatever happens: from the intent to the settled quota.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::rpc::Call;
use proto::registry::v1::Tool;
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::Instrument;
use types::{Caller, Effect};
use uuid::Uuid;

use crate::{
    Error, Executor,
    authorize::Decision,
    drivers::Job,
    invoke::{Answer, Request, effect},
    outcome::{self, Ended, ToolError, ToolErrorCode},
    reap::Held,
    redact,
    resolve::definition,
    store::{self, Execution, Intent},
};

/// Longest message of a tool's failure, in characters.
const MAX_MESSAGE: usize = 4_000;

/// One accepted call.
pub(crate) struct Run {
    caller: Caller,
    tool: Arc<Tool>,
    arguments: Value,
    decision: Decision,
    intent: Intent,
    timeout: Duration,
    /// When the caller stops waiting.
    deadline: Instant,
    durable: bool,
    /// Keeps the reaper away until the run has ended, or its task has panicked.
    held: Held,
}

/// How a call ended; `None`: its request id was taken in the meantime.
type Ending = Result<Option<Execution>, Error>;

/// A call under way.
pub(crate) struct Running {
    id: Uuid,
    answer: oneshot::Receiver<Ending>,
}

impl Run {
    pub(crate) fn new(
        executor: &Executor,
        call: &Call,
        request: &Request,
        tool: Arc<Tool>,
        arguments: Value,
        decision: Decision,
        intent: Intent,
    ) -> Result<Self, Error> {
        let definition = definition(&tool)?;
        let own = u64::try_from(definition.timeout_ms).unwrap_or(0);
        let asked = u64::try_from(request.timeout_ms).unwrap_or(0);
        let timeout = Duration::from_millis(if asked == 0 { own } else { own.min(asked) });
        let durable = effect(definition) == Effect::SideEffect;
        let (caller, deadline, held) =
            (call.caller.clone(), call.deadline, executor.running.hold(intent.execution.id));
        Ok(Self { caller, tool, arguments, decision, intent, timeout, deadline, durable, held })
    }

    /// Goes on in a task of its own: a handler is dropped when its client stops waiting, and what was
    /// reserved and recorded must come to its end all the same.
    pub(crate) fn spawn(self, executor: &Arc<Executor>) -> Running {
        let (send, answer) = oneshot::channel();
        let id = self.intent.execution.id;
        let (runs, executor) = (executor.runs.clone(), Arc::clone(executor));
        let task = async move { self.complete(&executor, send).await };
        runs.spawn(task.instrument(tracing::Span::current()));
        Running { id, answer }
    }

    /// Writes the intent; without it nothing runs and the reservation is given back.
    async fn complete(self, executor: &Executor, answer: oneshot::Sender<Ending>) {
        let recorded = executor.ledger.intent(self.intent.clone(), self.durable).await;
        let in_time = Instant::now() < self.deadline;
        let made = matches!(recorded, Ok(true)) && in_time;
        let ending = match recorded {
            Ok(true) => self.run(executor, in_time).await.map(Some),
            Ok(false) => Ok(None),
            Err(error) => Err(error.into()),
        };
        let Self { caller, decision, held, .. } = self;
        drop(held);
        // The client may be gone; its call is recorded all the same.
        let _ = answer.send(ending);
        executor.authorizer.settle(&caller, &decision, made).await;
    }

    /// Runs the tool and records how it ended. A call whose caller gave up before the intent was on disk is
    /// recorded and not made.
    async fn run(&self, executor: &Executor, in_time: bool) -> Result<Execution, Error> {
        let (ended, partial) = if in_time { self.attempt(executor).await } else { (Err(too_late()), None) };
        let at = store::now();
        let stored = match (&ended, &partial) {
            (Ok(text), _) | (Err(_), Some(text)) => stored(&self.tool, text, executor.max_result_bytes),
            (Err(_), None) => String::new(),
        };
        let cost = if in_time { definition(&self.tool)?.cost_micro_usd } else { 0 };
        let outcome = outcome::outcome(&self.intent.execution, &ended, stored, cost, at);
        let answer = outcome::ended_execution(
            &self.intent,
            &outcome,
            ended.unwrap_or_else(|_| partial.unwrap_or_default()),
        );
        let written = executor.ledger.outcome(outcome, self.durable).await?;
        executor.audit_outbox.wake();
        executor.selector_outbox.wake();
        if written {
            return Ok(answer);
        }
        tracing::warn!(execution.id = %answer.id, "outcome came too late: another process closed the execution");
        Err(Error::Internal("the execution was closed by another process".into()))
    }

    /// One attempt under its timeout; what the tool gave besides its failure comes with it.
    async fn attempt(&self, executor: &Executor) -> (Ended, Option<String>) {
        let job = Job {
            team: &self.caller.team,
            task_id: &self.intent.execution.task_id,
            tool: &self.tool,
            arguments: &self.arguments,
            timeout: self.timeout,
        };
        let span =
            tracing::info_span!("tool", tool.name = self.intent.execution.tool_name, otel.kind = "client");
        let run = executor.drivers.run(&job).instrument(span);
        let ended = match tokio::time::timeout(self.timeout, run).await {
            Ok(Ok(text)) => self.check(executor, text),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(timed_out(self.timeout)),
        };
        match ended {
            Ok(text) => (Ok(text), None),
            Err(mut error) => {
                let fits = |text: &String| text.len() <= executor.max_result_bytes;
                let partial = error.partial_json.take().filter(fits);
                (Err(sanitised(error)), partial)
            }
        }
    }

    /// The result must fit, be JSON, and keep to the output schema.
    fn check(&self, executor: &Executor, text: String) -> Ended {
        if text.len() > executor.max_result_bytes {
            let message = format!(
                "the result has {} bytes, at most {} are taken",
                text.len(),
                executor.max_result_bytes
            );
            return Err(ToolError::new(ToolErrorCode::ResultTooLarge, message));
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            ToolError::new(ToolErrorCode::InvalidResult, format!("the result is not JSON: {error}"))
        })?;
        let schema =
            self.tool.definition.as_ref().map_or("", |definition| definition.output_schema_json.as_str());
        if schema.is_empty() {
            return Ok(text);
        }
        let violations = executor.schemas.check(schema, &value);
        if violations.is_empty() {
            return Ok(text);
        }
        let message = format!("the result breaks the tool's output schema in {} places", violations.len());
        Err(ToolError { violations, ..ToolError::new(ToolErrorCode::InvalidResult, message) })
    }
}

impl Running {
    /// The ended execution, or DEADLINE_EXCEEDED with its id while it goes on. `None`: the request id was
    /// taken in the meantime and nothing ran.
    pub(crate) async fn wait(self, call: &Call) -> Result<Option<Answer>, Error> {
        match tokio::time::timeout(call.time_left(), self.answer).await {
            Ok(Ok(ended)) => Ok(ended?.map(|execution| Answer { execution, replayed: false })),
            Ok(Err(_)) => Err(Error::Internal("the run panicked; the reaper closes it".into())),
            Err(_) => Err(Error::Deadline { execution_id: self.id.to_string() }),
        }
    }
}

fn timed_out(timeout: Duration) -> ToolError {
    ToolError::new(
        ToolErrorCode::Timeout,
        format!("the tool did not end within {} ms and was stopped", timeout.as_millis()),
    )
}

fn too_late() -> ToolError {
    let message = "the caller stopped waiting before the call was recorded; the tool was not called";
    ToolError::new(ToolErrorCode::Timeout, message)
}

/// A failure as it may be stored and told: whatever the tool's server wrote is cut and sanitised.
fn sanitised(mut error: ToolError) -> ToolError {
    let clean = |text: &str| redact::text(&text.chars().take(MAX_MESSAGE).collect::<String>());
    error.message = clean(&error.message);
    for violation in &mut error.violations {
        violation.pointer = clean(&violation.pointer);
        violation.message = clean(&violation.message);
    }
    error
}

/// A result as it may be stored. Text that is not JSON is stored as a JSON string.
fn stored(tool: &Tool, text: &str, max_bytes: usize) -> String {
    let schema = tool.definition.as_ref().and_then(|d| serde_json::from_str(&d.output_schema_json).ok());
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    redact::json(&value, schema.as_ref(), max_bytes)
}
