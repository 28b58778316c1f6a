//! The part of a call that must be recorded whatever happens: from the intent to the settled quota.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::rpc::Call;
use limit::Standing;
use proto::registry::v1::Tool;
use redact::Rules;
use serde_json::Value;
use tokio::sync::oneshot;
use tracing::Instrument;
use types::{Caller, Effect};
use uuid::Uuid;

use crate::{
    Error, Executor, artifact,
    authorize::{Charge, Decision},
    invoke::{Answer, Options, Request, effect},
    lease::Moment,
    outcome::{self, Finished, ToolError, ToolErrorCode},
    perform::perform,
    progress::Sink,
    resolve::definition,
    running::Held,
    settings::{self, Settings},
    store::{self, Execution, Intent, Outcome},
};

/// One accepted call.
pub(crate) struct Run {
    pub caller: Caller,
    pub tool: Arc<Tool>,
    /// Those of the tool, as they were when the call was accepted here.
    pub settings: Settings,
    pub arguments: Value,
    pub decision: Decision,
    pub execution: Execution,
    pub options: Options,
    /// Of one attempt.
    pub timeout: Duration,
    /// After it no attempt begins, whatever the call waited for: the caller has stopped waiting, or the run has
    /// taken long enough. One that began before has its own timeout.
    pub deadline: Instant,
    pub durable: bool,
    /// Before this process took it up: a gap in its lease since then, and it may be another's.
    pub taken_up: Moment,
    /// Keeps the reaper away until the run has ended, or its task has panicked; tells when to stop.
    pub held: Held,
    pub progress: Sink,
    /// What is left of the tools' rates.
    pub standings: Mutex<Vec<Standing>>,
}

/// How a call ended, and what is left of its limits; `None`: its request id was taken in the meantime.
type Ending = Result<Option<Answer>, Error>;

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
        (tool, arguments): (Arc<Tool>, Value),
        decision: Decision,
        execution: Execution,
    ) -> Result<Self, Error> {
        let timeout = settings::timeout(&tool, request.timeout_ms);
        let (caller, deadline) = (call.caller.clone(), call.deadline);
        let options = request.options.clone();
        Self::of(executor, caller, (tool, arguments), decision, execution, (options, timeout, deadline))
    }

    /// The same from its parts: for a call that comes from the queue.
    pub(crate) fn of(
        executor: &Executor,
        caller: Caller,
        (tool, arguments): (Arc<Tool>, Value),
        decision: Decision,
        execution: Execution,
        (options, timeout, deadline): (Options, Duration, Instant),
    ) -> Result<Self, Error> {
        let durable = effect(definition(&tool)?) == Effect::SideEffect;
        let held = executor.running.hold(execution.id);
        let rules = executor.rules(&caller.team, Some(&tool));
        let progress = Sink::new(&executor.ledger, &execution, rules);
        let standings = Mutex::new(Vec::new());
        Ok(Self {
            caller,
            settings: Settings::of(&tool),
            tool,
            arguments,
            decision,
            execution,
            options,
            timeout,
            deadline,
            durable,
            taken_up: Moment::now(),
            held,
            progress,
            standings,
        })
    }

    /// Goes on in a task of its own: a handler is dropped when its client stops waiting, and what was
    /// reserved and recorded must come to its end all the same.
    pub(crate) fn spawn(self, executor: &Arc<Executor>, body_digest: String) -> Running {
        let (send, answer) = oneshot::channel();
        let id = self.execution.id;
        let (runs, executor) = (executor.runs.clone(), Arc::clone(executor));
        let task = async move { self.complete(&executor, body_digest, send).await };
        runs.spawn(task.instrument(tracing::Span::current()));
        Running { id, answer }
    }

    /// Writes the intent; without it nothing runs and the reservation is given back.
    async fn complete(mut self, executor: &Executor, body_digest: String, answer: oneshot::Sender<Ending>) {
        let intent = Intent { execution: self.execution.clone(), body_digest, job: None };
        let (recorded, ending) = match executor.ledger.intent(intent, self.durable).await {
            Ok(true) => (true, self.conduct(executor).await.map(Some)),
            Ok(false) => (false, Ok(None)),
            Err(error) => (false, Err(error.into())),
        };
        let Self { caller, decision, held, .. } = self;
        drop(held);
        // The client may be gone; its call is recorded all the same.
        let _ = answer.send(ending);
        if !recorded {
            // What is recorded settles with its outcome.
            executor.authorizer.settle(&caller, &decision, false, 0).await;
        }
    }

    /// Runs the tool and records how it ended. A call whose caller gave up before the intent was on disk is
    /// recorded and not made.
    async fn conduct(&mut self, executor: &Executor) -> Result<Answer, Error> {
        let in_time = Instant::now() < self.deadline;
        let finished =
            if in_time { perform(executor, self).await } else { Finished::without_attempt(Err(too_late())) };
        let held_back = finished.held_back().cloned();
        let outcome = self.outcome(executor, &finished);
        let charges = finished.charges;
        // Several times as large as its text, and writing may take long.
        drop(finished.value);
        let result = finished.ended.unwrap_or_else(|_| finished.partial.unwrap_or_default());
        // As its caller is to see it: with the whole result, not with what is stored of it.
        let execution = outcome::ended_execution(std::mem::take(&mut self.execution), &outcome, result);
        self.write(executor, outcome, &charges).await?;
        match held_back {
            Some(error) => Err(Error::held_back(execution.tool_name, &error, execution.id.to_string())),
            None => Ok(Answer { execution, replayed: false, standings: self.standings() }),
        }
    }

    /// Writes how the run ended, with the events that tell of it.
    pub(crate) async fn record(&self, executor: &Executor, finished: Finished) -> Result<(), Error> {
        let outcome = self.outcome(executor, &finished);
        let charges = finished.charges;
        // Several times as large as its text, and writing may take long.
        drop((finished.ended, finished.value, finished.partial));
        self.write(executor, outcome, &charges).await
    }

    fn outcome(&self, executor: &Executor, finished: &Finished) -> Outcome {
        let at = store::now();
        let given = finished.ended.as_ref().ok().or(finished.partial.as_ref());
        let read = finished.value.as_deref();
        let stored = given.map_or_else(String::new, |text| {
            stored(executor, &self.progress.rules(), &self.tool, text, read)
        });
        outcome::outcome(&self.execution, finished, stored, at)
    }

    async fn write(
        &self,
        executor: &Executor,
        outcome: Outcome,
        charges: &[Arc<Charge>],
    ) -> Result<(), Error> {
        let id = outcome.id;
        self.progress.flush().await;
        let written = executor.ledger.outcome(outcome, self.durable).await?;
        if written {
            for charge in charges {
                charge.recorded();
            }
            return Ok(());
        }
        executor.fenced.add(1, &[]);
        // As after a crash of the database, which forgets an intent that did not wait for the disk.
        tracing::warn!(execution.id = %id, "outcome touched no row: the execution is closed, or is not there");
        Err(Error::OutcomeLost { execution_id: id.to_string() })
    }

    /// What is left of every limit that the call counted against.
    fn standings(&mut self) -> Vec<Standing> {
        let mut standings = std::mem::take(&mut self.decision.standings);
        standings.extend(self.standings.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
        standings
    }
}

impl Running {
    /// The ended execution, or `DEADLINE_EXCEEDED` with its id while it goes on. `None`: the request id was
    /// taken in the meantime and nothing ran.
    pub(crate) async fn wait(self, call: &Call) -> Result<Option<Answer>, Error> {
        match tokio::time::timeout(call.time_left(), self.answer).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => Err(Error::Internal("the run panicked; the reaper closes it".into())),
            Err(_) => Err(Error::Deadline { execution_id: self.id.to_string() }),
        }
    }
}

fn too_late() -> ToolError {
    let message = "the caller stopped waiting before the call was recorded; the tool was not called";
    ToolError::new(ToolErrorCode::Timeout, message).having(outcome::Reached::No)
}

/// A result as it may be stored. Text that is not JSON is stored as a JSON string.
fn stored(executor: &Executor, rules: &Rules, tool: &Tool, text: &str, read: Option<&Value>) -> String {
    let schema = tool.definition.as_ref().map_or("", |definition| &definition.output_schema_json);
    let store = |value: &Value| executor.schemas.to_store(rules, schema, value, executor.max_result_bytes);
    if let Some(value) = read.filter(|_| !artifact::is_reference(text)) {
        return store(value);
    }
    let mut value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
    artifact::to_store(text, &mut value);
    store(&value)
}
