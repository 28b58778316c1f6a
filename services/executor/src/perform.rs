//! What a recorded call does to get its answer: the cache, the tool, its fallbacks, and what is left when all of
//! them failed. Never writes the outcome, and never decides whether the call was allowed.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use proto::registry::v1::Degradation;

use crate::{
    Executor,
    attempt::{Candidate, Tried, with_retries},
    authorize::Charge,
    events::duration_ms,
    fallback,
    outcome::{Attempt, AttemptKind, Finished, Reached, Source, ToolError, ToolErrorCode},
    recall::{self, Place, Recall},
    run::Run,
    settings,
};

/// A caller that waits at least so long, or as long as the tool may take, has not cut it short: most tools answer sooner,
/// and one that hangs must not go unblamed because nobody ever waits for its whole timeout.
const HURRY: Duration = Duration::from_secs(5);
/// Most that the calls of one tool count as in one run, in millionths of a US dollar: permissions takes no more.
pub(crate) const MAX_MICRO_USD: i64 = 1_000_000_000_000;

/// The attempts of one run, and the one under way: what is known when the run is stopped in the middle.
#[derive(Debug, Default)]
pub(crate) struct AttemptLog(Mutex<Log>);

#[derive(Debug, Default)]
struct Log {
    ended: Vec<Attempt>,
    under_way: Option<UnderWay>,
    spent: Spent,
    charges: Vec<Arc<Charge>>,
}

#[derive(Debug)]
struct UnderWay {
    attempt: Attempt,
    cost_micro_usd: i64,
    stands_in: bool,
    /// Whether the tool itself was asked: not while the call waits for its rate or its place.
    is_called: bool,
}

/// What the attempts of a run came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Attempts that asked their tool.
    pub calls: u32,
    /// What the tool that was asked for cost, in millionths of a US dollar.
    pub own_micro_usd: i64,
    /// What its fallbacks cost.
    pub fallbacks_micro_usd: i64,
}

impl Spent {
    fn add(&mut self, ended: &UnderWay, reached: Reached) {
        self.calls += u32::from(ended.is_called);
        if ended.is_called && reached != Reached::No {
            let sum = if ended.stands_in { &mut self.fallbacks_micro_usd } else { &mut self.own_micro_usd };
            *sum = sum.saturating_add(ended.cost_micro_usd).min(MAX_MICRO_USD);
        }
    }
}

impl AttemptLog {
    /// Begins an attempt of a candidate after waiting so long.
    pub(crate) fn begin(&self, candidate: &Candidate<'_>, kind: AttemptKind, backoff_ms: f64) {
        let mut log = self.lock();
        let number = i32::try_from(log.ended.len()).unwrap_or(i32::MAX).saturating_add(1);
        let (tool_name, tool_version) = (candidate.name().to_owned(), candidate.version().to_owned());
        let start_time = Utc::now();
        let attempt = Attempt {
            number,
            kind,
            tool_name,
            tool_version,
            start_time,
            duration_ms: 0.0,
            backoff_ms,
            error: None,
        };
        let (cost_micro_usd, stands_in) = (candidate.cost_micro_usd(), candidate.stands_in);
        log.under_way = Some(UnderWay { attempt, cost_micro_usd, stands_in, is_called: false });
    }

    /// From here on the attempt under way may reach its tool.
    pub(crate) fn call(&self) {
        if let Some(under_way) = &mut self.lock().under_way {
            under_way.is_called = true;
        }
    }

    /// Ends it, and tells whether it came to its tool. One whose time was over before that was none: nothing is
    /// recorded of it.
    pub(crate) fn end(&self, error: Option<ToolError>) -> bool {
        let mut log = self.lock();
        let Some(under_way) = log.under_way.take() else { return false };
        let is_called = under_way.is_called;
        if !is_called && error.as_ref().is_some_and(|error| error.code == ToolErrorCode::Timeout) {
            return false;
        }
        log.spent.add(&under_way, error.as_ref().map_or(Reached::Yes, |error| error.reached));
        log.ended.push(ended(under_way.attempt, error, Utc::now()));
        is_called
    }

    /// Takes what the decision of a fallback comes to, to be told with the outcome.
    pub(crate) fn charge(&self, charge: Charge) {
        self.lock().charges.push(Arc::new(charge));
    }

    /// The attempt that ended last, as it is recorded.
    pub(crate) fn last(&self) -> Option<Attempt> {
        self.lock().ended.last().cloned()
    }

    /// What the attempts came to so far; one under way counts as one that took effect.
    pub(crate) fn spent(&self) -> Spent {
        let log = self.lock();
        let mut spent = log.spent;
        if let Some(under_way) = &log.under_way {
            spent.add(under_way, Reached::Maybe);
        }
        spent
    }

    /// The furthest that any attempt has come.
    pub(crate) fn reached(&self) -> Reached {
        let log = self.lock();
        let reached = |attempt: &Attempt| attempt.error.as_ref().map_or(Reached::Yes, |error| error.reached);
        let furthest = log.ended.iter().map(reached).max().unwrap_or(Reached::No);
        furthest.max(log.under_way.as_ref().map_or(Reached::No, UnderWay::reached))
    }

    /// Ends the attempt under way because a caller wants it to.
    fn cancel(&self) -> ToolError {
        let under_way = self.lock().under_way.as_ref().map(UnderWay::reached);
        let error = cancelled(self.reached());
        if let Some(reached) = under_way {
            self.end(Some(cancelled(reached)));
        }
        error
    }

    /// What came of the run with its attempts. A failure says of all of them whether one may have taken effect.
    fn complete(&self, mut finished: Finished) -> Finished {
        let (reached, spent) = (self.reached(), self.spent());
        if let Err(error) = &mut finished.ended {
            error.reached = error.reached.max(reached);
        }
        let mut log = self.lock();
        let (attempts, charges) = (std::mem::take(&mut log.ended), std::mem::take(&mut log.charges));
        drop(log);
        Finished {
            attempts,
            charges,
            cost_micro_usd: spent.own_micro_usd + spent.fallbacks_micro_usd,
            own_cost_micro_usd: spent.own_micro_usd,
            ..finished
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    fn reached(&self) -> Reached {
        if self.is_called { Reached::Maybe } else { Reached::No }
    }
}

fn ended(attempt: Attempt, error: Option<ToolError>, at: DateTime<Utc>) -> Attempt {
    Attempt { duration_ms: duration_ms(attempt.start_time, at), error, ..attempt }
}

/// Gets an answer, or the failure that is the answer. A run that is cancelled drops what it is doing, and with
/// it the request, the program or the call of the tool's server.
pub(crate) async fn perform(executor: &Executor, run: &Run) -> Finished {
    let log = AttemptLog::default();
    let answered = tokio::select! {
        biased;
        () = run.held.cancelled() => None,
        answered = answer(executor, run, &log) => Some(answered),
    };
    let Some((finished, place)) = answered else {
        let error = log.cancel();
        return log.complete(Finished::without_attempt(Err(error)));
    };
    // An answer that is there is not dropped any more, however late someone cancels.
    let timeout_ms = i64::try_from(run.timeout.as_millis()).unwrap_or(i64::MAX);
    let is_hurried = run.timeout < settings::timeout(&run.tool, 0).min(HURRY);
    let finished = Finished { is_miss: place.is_miss, timeout_ms, is_hurried, ..log.complete(finished) };
    place.keep(executor, &finished).await;
    finished
}

/// The cache, else the tools, else what can be had without them; and where the answer is to be kept.
async fn answer(executor: &Executor, run: &Run, log: &AttemptLog) -> (Finished, Place) {
    let place = match recall::recall(executor, run).await {
        Recall::Answered(finished) => return (*finished, Place::default()),
        Recall::Ask(place) => place,
    };
    let degradation = run.options.degradation(run.settings.degradation);
    let finished = try_all(executor, run, log, degradation).await;
    (degrade(executor, run, finished, degradation).await, place)
}

/// The tool that was asked for, then its fallbacks in their order.
async fn try_all(executor: &Executor, run: &Run, log: &AttemptLog, degradation: Degradation) -> Finished {
    let asked = Candidate::asked_for(run);
    let first = with_retries(executor, run, &asked, AttemptKind::First, log).await;
    let Err(error) = &first.ended else { return finished(first, Source::Tool) };
    if degradation == Degradation::Abort || run.options.no_fallbacks {
        return finished(first, Source::Tool);
    }
    let mut reasons = Vec::new();
    for fallback in fallback::in_order(&run.settings, error) {
        if !fallback::is_safe(&asked, log.reached()) {
            reasons.push("no fallback was tried: the tool may have taken effect".to_owned());
            break;
        }
        if Instant::now() >= run.deadline {
            reasons.push("no fallback was tried any more: the time of the call is over".to_owned());
            break;
        }
        let tried = fallback::attempt(executor, run, fallback, error, log).await;
        match &tried.ended {
            Ok(_) => return finished(tried, Source::Fallback),
            Err(failed) => {
                reasons.push(format!("{}: {} {}", fallback.tool, failed.code.as_str(), failed.message));
            }
        }
    }
    let ended = Err(with_reasons(error.clone(), &reasons));
    finished(Tried { ended, ..first }, Source::Tool)
}

/// A failure that names what became of each fallback.
fn with_reasons(mut error: ToolError, reasons: &[String]) -> ToolError {
    if !reasons.is_empty() {
        error.message = format!("{}; fallbacks: {}", error.message, reasons.join("; "));
    }
    error
}

/// What may be answered instead of a failure, and is marked as what it is.
async fn degrade(executor: &Executor, run: &Run, failed: Finished, degradation: Degradation) -> Finished {
    let Err(error) = &failed.ended else { return failed };
    let is_invalid = error.code == ToolErrorCode::InvalidResult;
    let instead = match degradation {
        Degradation::Partial => failed.partial.clone().map(|partial| (partial, Source::Partial, 0)),
        Degradation::Cached => {
            let stale = recall::stale(executor, run).await;
            stale.map(|(text, age_ms)| (text, Source::StaleCache, age_ms))
        }
        Degradation::Full | Degradation::Abort | Degradation::Unspecified => None,
    };
    match instead {
        Some((text, source, cache_age_ms)) => Finished { ended: Ok(text), source, cache_age_ms, ..failed },
        // What broke the schema is no answer, not even beside the failure that says so.
        None if is_invalid => Finished { partial: None, ..failed },
        None => failed,
    }
}

fn finished(tried: Tried, source: Source) -> Finished {
    let Tried { ended, value, partial, warnings, tokens } = tried;
    Finished { value, partial, source, warnings, tokens, ..Finished::without_attempt(ended) }
}

fn cancelled(reached: Reached) -> ToolError {
    let message = match reached {
        Reached::No => "a caller cancelled it before the tool was called",
        Reached::Maybe | Reached::Yes => "a caller cancelled it while the tool ran; it may have taken effect",
    };
    ToolError::new(ToolErrorCode::Cancelled, message).having(reached)
}
