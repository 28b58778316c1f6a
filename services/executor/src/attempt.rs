//! One tool, tried once or several times: under its rate, its circuit breaker, its bulkhead and its timeout, and
//! its result checked. Never repeats what may have taken effect and must not take effect twice.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use limit::Bucket;
use proto::registry::v1::{Tool, ToolDefinition, binding::Kind};
use redact::Rules;
use resilience::{Permit, Shield};
use serde_json::Value;
use tracing::Instrument;
use types::Effect;

use crate::{
    Executor,
    check::{self, Checked},
    drivers::Job,
    invoke::effect,
    outcome::{AttemptKind, Ended, Reached, ToolError, ToolErrorCode},
    perform::AttemptLog,
    run::Run,
    settings::{self, Settings},
    validate::Violation,
};

/// Longest message of a tool's failure, in characters.
const MAX_MESSAGE: usize = 4_000;
/// What a failure that toolcrib cannot date asks to wait.
const SOON: Duration = Duration::from_secs(1);

/// A tool and the arguments to try it with.
pub(crate) struct Candidate<'a> {
    pub tool: &'a Arc<Tool>,
    pub arguments: &'a Value,
    pub timeout: Duration,
    pub settings: Cow<'a, Settings>,
    /// Whether it is a fallback: it has a permission and a cost of its own.
    pub stands_in: bool,
}

/// What came of trying one tool.
#[derive(Debug)]
pub(crate) struct Tried {
    pub ended: Ended,
    /// What an answer says, where it was read already.
    pub value: Option<Arc<Value>>,
    /// What the tool gave besides its failure.
    pub partial: Option<String>,
    pub warnings: Vec<Violation>,
    pub tokens: (i64, i64),
}

impl Tried {
    pub(crate) fn failed(error: ToolError) -> Self {
        Self { ended: Err(error), value: None, partial: None, warnings: Vec::new(), tokens: (0, 0) }
    }
}

impl<'a> Candidate<'a> {
    /// The tool that the caller asked for.
    pub(crate) fn asked_for(run: &'a Run) -> Self {
        Self {
            tool: &run.tool,
            arguments: &run.arguments,
            timeout: run.timeout,
            settings: Cow::Borrowed(&run.settings),
            stands_in: false,
        }
    }

    /// Another tool, with arguments of its own.
    pub(crate) fn fallback(tool: &'a Arc<Tool>, arguments: &'a Value) -> Self {
        let (timeout, settings) = (settings::timeout(tool, 0), Cow::Owned(Settings::of(tool)));
        Self { tool, arguments, timeout, settings, stands_in: true }
    }

    pub(crate) fn name(&self) -> &str {
        self.definition().map_or("", |definition| &definition.name)
    }

    pub(crate) fn version(&self) -> &str {
        self.definition().map_or("", |definition| &definition.version)
    }

    pub(crate) fn cost_micro_usd(&self) -> i64 {
        self.definition().map_or(0, |definition| definition.cost_micro_usd)
    }

    /// Whether doing it twice leaves the world as doing it once: by its nature, or by its idempotency key.
    fn is_repeatable(&self) -> bool {
        self.settings.key_place.is_some() || !self.has_side_effect()
    }

    /// Whether no other tool may do its work once it may be done: another one does not know its key.
    pub(crate) fn has_side_effect(&self) -> bool {
        self.definition().is_none_or(|definition| effect(definition) == Effect::SideEffect)
    }

    fn has_breaker(&self) -> bool {
        self.is_remote() && !self.settings.breaker_disabled
    }

    /// Whether its failures tell of a server that others use as well. A program of one caller that loops says
    /// nothing of the sandbox.
    fn is_remote(&self) -> bool {
        let binding = self.definition().and_then(|definition| definition.binding.as_ref());
        match binding.and_then(|binding| binding.kind.as_ref()) {
            Some(Kind::Http(_) | Kind::Mcp(_) | Kind::Grpc(_)) => true,
            Some(Kind::Builtin(builtin)) => builtin.name.ends_with("_web_search"),
            None => false,
        }
    }

    fn definition(&self) -> Option<&ToolDefinition> {
        self.tool.definition.as_ref()
    }
}

/// Tries a tool, and again as its retry policy allows.
pub(crate) async fn with_retries(
    executor: &Executor,
    run: &Run,
    candidate: &Candidate<'_>,
    first: AttemptKind,
    log: &AttemptLog,
) -> Tried {
    let shield = executor.shield(&run.caller.team, candidate);
    shield.budget.deposit(tokio::time::Instant::now());
    let (mut retry, mut backoff, mut before) = (0, Duration::ZERO, None);
    loop {
        let kind = if retry == 0 { first } else { AttemptKind::Retry };
        log.begin(candidate, kind, backoff.as_secs_f64() * 1_000.0);
        let tried = attempt(executor, run, candidate, &shield, log).await;
        let failure = tried.ended.as_ref().err().cloned();
        let has_asked = log.end(failure.clone());
        let Some(error) = failure else { return tried };
        // An attempt that never came to the tool says nothing of it: the tool's own failure is the one before.
        let hides = !has_asked && error.code != ToolErrorCode::OwnerDied;
        if let Some(failed) = before.take().filter(|_| hides) {
            return failed;
        }
        let Some(delay) = next_delay(run, candidate, &shield, &error, retry) else { return tried };
        if let Some(attempt) = log.last() {
            run.progress.attempt(&attempt);
        }
        tokio::time::sleep(delay).await;
        (backoff, retry, before) = (delay, retry + 1, Some(tried));
    }
}

/// How long to wait before the next attempt; `None`: there is none.
fn next_delay(
    run: &Run,
    candidate: &Candidate<'_>,
    shield: &Shield,
    error: &ToolError,
    retry: u32,
) -> Option<Duration> {
    let policy = &candidate.settings.retry;
    let most = run.options.max_retries.map_or(policy.max_retries, |asked| asked.min(policy.max_retries));
    let may_repeat = error.reached == Reached::No || candidate.is_repeatable();
    // What toolcrib holds back is told at once: the caller, or the queue, knows better than to wait here.
    if retry >= most || !error.retryable || error.code.is_held_back() || !may_repeat {
        return None;
    }
    let throttled = error.code == ToolErrorCode::UpstreamRateLimited;
    let left = run.deadline.saturating_duration_since(Instant::now());
    let delay = policy.delay(retry, error.retry_after(), throttled, &mut rand::rng())?.within(left)?;
    shield.budget.withdraw(tokio::time::Instant::now()).then_some(delay)
}

/// One attempt.
async fn attempt(
    executor: &Executor,
    run: &Run,
    candidate: &Candidate<'_>,
    shield: &Shield,
    log: &AttemptLog,
) -> Tried {
    let (permit, guard) = match admitted(executor, run, candidate, shield).await {
        Ok(admitted) => admitted,
        Err(error) => return Tried::failed(error),
    };
    let place = candidate.settings.key_place.as_ref();
    let key = place.map(|_| run.execution.id.to_string()).unwrap_or_default();
    let job = Job {
        team: &run.caller.team,
        task_id: &run.execution.task_id,
        tool: candidate.tool,
        arguments: candidate.arguments,
        timeout: candidate.timeout,
        idempotency: place.map(|place| (place, key.as_str())),
        progress: &run.progress,
    };
    let span = tracing::info_span!("tool", tool.name = candidate.name(), otel.kind = "client");
    log.call();
    let ran = tokio::time::timeout(candidate.timeout, executor.drivers.run(&job).instrument(span)).await;
    drop(guard);
    let mut given = ran.unwrap_or_else(|_| Err(timed_out(candidate.timeout)));
    if let Err(error) = &mut given {
        // What ran here ran as long as it may, and would again.
        error.retryable &= error.code != ToolErrorCode::Timeout || candidate.is_remote();
    }
    if let Some(permit) = permit {
        report(permit, &given);
    }
    match given {
        Ok(text) => match check::check(executor, run, candidate, text).await {
            Ok(Checked { text, value, mut warnings, tokens }) => {
                clean_all(&run.progress.rules(), &mut warnings);
                Tried { ended: Ok(text), value, partial: None, warnings, tokens }
            }
            Err((error, partial)) => {
                Tried { partial, ..Tried::failed(sanitised(&run.progress.rules(), error)) }
            }
        },
        Err(mut error) => {
            let fits = |text: &String| text.len() <= executor.max_result_bytes;
            let partial = error.partial_json.take().filter(fits);
            Tried { partial, ..Tried::failed(sanitised(&run.progress.rules(), error)) }
        }
    }
}

/// What an attempt holds while it runs.
type Admitted = (Option<Permit>, resilience::Guard);

/// Passes the tool's rate, its circuit breaker, its bulkhead, the lease and the deadline, or says which held it back.
async fn admitted(
    executor: &Executor,
    run: &Run,
    candidate: &Candidate<'_>,
    shield: &Shield,
) -> Result<Admitted, ToolError> {
    let name = candidate.name();
    within_rate(executor, run, candidate, name).await?;
    let now = tokio::time::Instant::now();
    let permit = match candidate.has_breaker().then(|| shield.breaker.admit(now)) {
        None => None,
        Some(Ok(permit)) => Some(permit),
        Some(Err(open)) => {
            let message = format!("{name} failed too often lately and is left alone for a while");
            return Err(held_back(ToolErrorCode::CircuitOpen, &message, open.retry_after));
        }
    };
    let left = run.deadline.saturating_duration_since(Instant::now());
    let entered = tokio::time::timeout(left, shield.bulkhead.enter()).await;
    // Last: the lease may have ended while the call waited, and so may its time.
    if !executor.lease.is_held_since(run.taken_up) {
        let message = "this process lost touch with the database; another one may own the call by now";
        return Err(ToolError::new(ToolErrorCode::OwnerDied, message).having(Reached::No));
    }
    let busy = |full| held_back(ToolErrorCode::ToolBusy, &format!("{name} is busy: {full}"), SOON);
    let guard = entered.map_err(|_| too_late())?.map_err(busy)?;
    if Instant::now() >= run.deadline {
        return Err(too_late());
    }
    Ok((permit, guard))
}

fn too_late() -> ToolError {
    let message = "the time of the call was over before the tool could be asked";
    ToolError::new(ToolErrorCode::Timeout, message).having(Reached::No)
}

async fn within_rate(
    executor: &Executor,
    run: &Run,
    candidate: &Candidate<'_>,
    name: &str,
) -> Result<(), ToolError> {
    let Some(rate) = candidate.settings.rate(candidate.definition()) else { return Ok(()) };
    let bucket = Bucket { name: format!("tool:{name}"), rate, cost: 1 };
    let decision = executor.limiter.check(&run.caller.team, &[bucket]).await;
    run.standings.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone_from(&decision.standings);
    if decision.admitted {
        return Ok(());
    }
    let message = format!("{name} takes {} calls a minute", rate.limit);
    Err(held_back(ToolErrorCode::RateLimited, &message, decision.retry_after))
}

fn held_back(code: ToolErrorCode, message: &str, retry_after: Duration) -> ToolError {
    let retry_after_ms = i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX).max(1);
    let message = format!("{message}; try again in {:.1} s", retry_after.as_secs_f64());
    ToolError { retryable: true, retry_after_ms, ..ToolError::new(code, message) }
}

/// Tells the circuit breaker what an attempt says of the tool's server.
fn report(permit: Permit, given: &Ended) {
    let now = tokio::time::Instant::now();
    let Err(error) = given else {
        permit.succeeded(now);
        return;
    };
    let is_of_server = match error.code {
        ToolErrorCode::Timeout | ToolErrorCode::Unreachable | ToolErrorCode::Protocol => true,
        ToolErrorCode::ToolFailed => error.retryable,
        _ => false,
    };
    if is_of_server {
        permit.failed(now);
    } else if error.code == ToolErrorCode::ToolFailed {
        permit.succeeded(now);
    } else {
        permit.ignored();
    }
}

fn timed_out(timeout: Duration) -> ToolError {
    ToolError::new(
        ToolErrorCode::Timeout,
        format!("the tool did not end within {} ms and was stopped", timeout.as_millis()),
    )
}

/// A failure as it may be stored and told: whatever the tool's server wrote is cut and sanitised.
fn sanitised(rules: &Rules, mut error: ToolError) -> ToolError {
    error.message = rules.excerpt(&error.message, MAX_MESSAGE);
    clean_all(rules, &mut error.violations);
    error
}

/// The names in a result are the tool's own words too.
pub(crate) fn clean_all(rules: &Rules, violations: &mut [Violation]) {
    for violation in violations {
        violation.pointer = rules.excerpt(&violation.pointer, MAX_MESSAGE);
        violation.message = rules.excerpt(&violation.message, MAX_MESSAGE);
    }
}
