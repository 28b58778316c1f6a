//! The part of a call that must be recorded whatever happens: from the intent to the settled quota.

use std::{sync::Arc, time::Duration};

use ::rpc::Call;
use chrono::Utc;
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
    redact,
    resolve::definition,
    store::{Execution, Intent},
};

/// One accepted call.
pub(crate) struct Run {
    caller: Caller,
    tool: Arc<Tool>,
    arguments: Value,
    decision: Decision,
    intent: Intent,
    timeout: Duration,
    durable: bool,
}

/// A call under way.
pub(crate) struct Running {
    id: Uuid,
    answer: oneshot::Receiver<Result<Execution, Error>>,
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
        executor.running.insert(intent.execution.id);
        Ok(Self { caller: call.caller.clone(), tool, arguments, decision, intent, timeout, durable })
    }

    /// Writes the intent; without it nothing runs and the reservation is given back. `false`: the request
    /// id was taken in the meantime.
    pub(crate) async fn record_intent(&self, executor: &Arc<Executor>) -> Result<bool, Error> {
        let recorded = executor.ledger.intent(self.intent.clone(), self.durable).await;
        if !matches!(recorded, Ok(true)) {
            executor.running.remove(self.intent.execution.id);
            let (executor, caller, decision) =
                (Arc::clone(executor), self.caller.clone(), self.decision.clone());
            let settle = async move { executor.authorizer.settle(&caller, &decision, false).await };
            tokio::spawn(settle.instrument(tracing::Span::current()));
        }
        Ok(recorded?)
    }

    /// Goes on in a task of its own.
    pub(crate) fn spawn(self, executor: &Arc<Executor>) -> Running {
        let (send, answer) = oneshot::channel();
        let id = self.intent.execution.id;
        let executor = Arc::clone(executor);
        let runs = executor.runs.clone();
        let task = async move {
            let ended = self.finish(&executor).await;
            executor.running.remove(id);
            // The client may be gone; its call is recorded all the same.
            let _ = send.send(ended);
        };
        runs.spawn(task.instrument(tracing::Span::current()));
        Running { id, answer }
    }

    async fn finish(self, executor: &Executor) -> Result<Execution, Error> {
        let (ended, partial) = self.attempt(executor).await;
        let at = Utc::now();
        let stored = match (&ended, &partial) {
            (Ok(text), _) | (Err(_), Some(text)) => stored(&self.tool, text, executor.max_result_bytes),
            (Err(_), None) => String::new(),
        };
        let cost = definition(&self.tool)?.cost_micro_usd;
        let outcome = outcome::outcome(&self.intent.execution, &ended, stored, cost, at);
        let answer = outcome::ended_execution(
            &self.intent,
            &outcome,
            ended.unwrap_or_else(|_| partial.unwrap_or_default()),
        );
        let written = executor.ledger.outcome(outcome, self.durable).await?;
        executor.audit_outbox.wake();
        executor.selector_outbox.wake();
        executor.authorizer.settle(&self.caller, &self.decision, true).await;
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
                error.message = redact::text(&error.message);
                let partial = error.partial_json.take();
                (Err(error), partial)
            }
        }
    }

    /// The result must fit and keep to the output schema.
    fn check(&self, executor: &Executor, text: String) -> Ended {
        if text.len() > executor.max_result_bytes {
            let message = format!(
                "the result has {} bytes, at most {} are taken",
                text.len(),
                executor.max_result_bytes
            );
            return Err(ToolError::new(ToolErrorCode::ResultTooLarge, message));
        }
        let schema =
            self.tool.definition.as_ref().map_or("", |definition| definition.output_schema_json.as_str());
        if schema.is_empty() {
            return Ok(text);
        }
        let value: Value = serde_json::from_str(&text).map_err(|error| {
            ToolError::new(ToolErrorCode::InvalidResult, format!("the result is not JSON: {error}"))
        })?;
        let violations = executor.schemas.check(schema, &value);
        if violations.is_empty() {
            return Ok(text);
        }
        let message = format!("the result breaks the tool's output schema in {} places", violations.len());
        Err(ToolError { violations, ..ToolError::new(ToolErrorCode::InvalidResult, message) })
    }
}

impl Running {
    /// The ended execution, or DEADLINE_EXCEEDED with its id while it goes on.
    pub(crate) async fn wait(self, call: &Call) -> Result<Answer, Error> {
        match tokio::time::timeout(call.time_left(), self.answer).await {
            Ok(Ok(ended)) => Ok(Answer { execution: ended?, replayed: false }),
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

/// A result as it may be stored. Text that is not JSON is stored as a JSON string.
fn stored(tool: &Tool, text: &str, max_bytes: usize) -> String {
    let schema = tool.definition.as_ref().and_then(|d| serde_json::from_str(&d.output_schema_json).ok());
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    redact::json(&value, schema.as_ref(), max_bytes)
}
