//! How a run ended: the words for it, and the row that tells of it. Pure: nothing here reads or writes anything.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::Effect;

pub(crate) use crate::failure::{Reached, ToolError, ToolErrorCode};
use crate::{
    authorize::Charge,
    events,
    store::{Execution, Outcome},
    validate::Violation,
};

/// Most attempts that are kept of a call that was put back again and again.
const MAX_ATTEMPTS: usize = 50;

/// Where an execution stands; the names are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    WaitingForApproval,
    Queued,
    Running,
    Succeeded,
    Failed,
    TimedOut,
    UnknownOutcome,
    Cancelled,
    DeadLetter,
}

impl Status {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForApproval => "waiting_for_approval",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::UnknownOutcome => "unknown_outcome",
            Self::Cancelled => "cancelled",
            Self::DeadLetter => "dead_letter",
        }
    }

    /// Whether an execution in the status of this name has come to its end.
    pub(crate) fn is_terminal(name: &str) -> bool {
        ![Self::WaitingForApproval, Self::Queued, Self::Running].iter().any(|status| status.as_str() == name)
    }
}

/// Why an attempt was made; the names are those of `toolcrib.executor.v1.AttemptKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum AttemptKind {
    First,
    Retry,
    Fallback,
}

/// One attempt, as it is recorded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub number: i32,
    pub kind: AttemptKind,
    pub tool_name: String,
    pub tool_version: String,
    pub start_time: DateTime<Utc>,
    pub duration_ms: f64,
    pub backoff_ms: f64,
    /// How it failed; sanitised.
    pub error: Option<ToolError>,
}

/// Where an answer comes from; the names are those of `toolcrib.executor.v1.Source`, in lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Source {
    #[default]
    Tool,
    Cache,
    StaleCache,
    SemanticCache,
    Coalesced,
    Fallback,
    Partial,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Tool => "",
            Self::Cache => "cache",
            Self::StaleCache => "stale_cache",
            Self::SemanticCache => "semantic_cache",
            Self::Coalesced => "coalesced",
            Self::Fallback => "fallback",
            Self::Partial => "partial",
        }
    }
}

/// Everything that came of a run.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    /// The answer, or the failure of the tool that was asked for.
    pub ended: Ended,
    /// What an answer says, where it was read already; `None` besides a failure.
    pub value: Option<Arc<Value>>,
    /// What is answered besides a failure, as JSON text: a failed program's output.
    pub partial: Option<String>,
    pub source: Source,
    /// Whether the cache was asked, and had no answer that would do.
    pub is_miss: bool,
    pub cache_age_ms: i64,
    /// Longest run of one attempt of the tool that was asked for, in milliseconds; 0: not known.
    pub timeout_ms: i64,
    /// Whether that is less than the tool may take: the call asked for it.
    pub is_hurried: bool,
    pub attempts: Vec<Attempt>,
    /// How many of them, the first ones, were made at earlier deliveries.
    pub earlier: usize,
    pub warnings: Vec<Violation>,
    pub cost_micro_usd: i64,
    /// Of that, what is settled with the run's own decision: each fallback has one of its own.
    pub own_cost_micro_usd: i64,
    /// What the decisions of its fallbacks come to.
    pub charges: Vec<Arc<Charge>>,
    /// Input and output.
    pub tokens: (i64, i64),
}

impl Finished {
    /// An end without any attempt.
    pub(crate) fn without_attempt(ended: Ended) -> Self {
        Self {
            ended,
            value: None,
            partial: None,
            source: Source::Tool,
            is_miss: false,
            cache_age_ms: 0,
            timeout_ms: 0,
            is_hurried: false,
            attempts: Vec::new(),
            earlier: 0,
            warnings: Vec::new(),
            cost_micro_usd: 0,
            own_cost_micro_usd: 0,
            charges: Vec::new(),
            tokens: (0, 0),
        }
    }

    /// Whether the call counts against its limits: it was answered, or a tool was asked at this delivery. It went
    /// back to the queue at the earlier ones, since no tool was reached.
    pub(crate) fn was_made(&self) -> bool {
        let was_asked = |attempt: &Attempt| {
            let error = attempt.error.as_ref();
            error.is_none_or(|error| error.reached != Reached::No || !error.code.is_before_the_tool())
        };
        self.is_hit() && self.held_back().is_none()
            || self.ended.is_ok()
            || self.attempts.iter().skip(self.earlier).any(was_asked)
    }

    /// Whether another call's answer was given, now or from the cache; a stale one follows a failure.
    pub(crate) fn is_hit(&self) -> bool {
        matches!(self.source, Source::Cache | Source::SemanticCache | Source::Coalesced)
    }

    /// The same, after the attempts of earlier deliveries: numbered through, and the latest where there are too many.
    pub(crate) fn following(mut self, execution: &Execution) -> Self {
        let mut attempts: Vec<Attempt> = serde_json::from_str(&execution.attempts_json).unwrap_or_default();
        let before = attempts.last().map_or(0, |last| last.number);
        for attempt in &mut self.attempts {
            attempt.number = attempt.number.saturating_add(before);
        }
        let (earlier, left_out) =
            (attempts.len(), (attempts.len() + self.attempts.len()).saturating_sub(MAX_ATTEMPTS));
        attempts.append(&mut self.attempts);
        attempts.drain(..left_out);
        Self { attempts, earlier: earlier.saturating_sub(left_out), ..self }
    }

    /// The attempts as they are recorded.
    pub(crate) fn attempts_json(&self) -> String {
        if self.attempts.is_empty() { String::new() } else { json(&self.attempts) }
    }

    /// Whether the request id may be used again: nothing ran, and for no fault of the call. It was held back, or its
    /// process was cut off, or its time was over before the first attempt.
    fn leaves_request_free(&self) -> bool {
        let Err(error) = &self.ended else { return false };
        let may_pass = match error.code {
            ToolErrorCode::OwnerDied => true,
            ToolErrorCode::Timeout => self.attempts.is_empty(),
            code => code.is_held_back(),
        };
        may_pass && error.reached == Reached::No && are_untouched(&self.attempts)
    }

    /// Whether toolcrib held the call back and no attempt reached a tool: for now, and not for good.
    pub(crate) fn held_back(&self) -> Option<&ToolError> {
        let error = self.ended.as_ref().err().filter(|error| error.code.is_held_back())?;
        are_untouched(&self.attempts).then_some(error)
    }
}

fn are_untouched(attempts: &[Attempt]) -> bool {
    attempts.iter().all(|attempt| attempt.error.as_ref().is_some_and(|error| error.reached == Reached::No))
}

/// Why an execution that has ended was held back, as its record tells.
pub(crate) fn held_back(execution: &Execution) -> Option<ToolError> {
    let error: ToolError = serde_json::from_str(&execution.error_json).ok()?;
    let attempts: Vec<Attempt> = serde_json::from_str(&execution.attempts_json).unwrap_or_default();
    (error.code.is_held_back() && are_untouched(&attempts)).then_some(error)
}

/// How a run ended: the result as JSON text, or the tool's failure.
pub(crate) type Ended = Result<String, ToolError>;

/// The status that an end means.
pub(crate) fn status_of(ended: &Ended, effect: &str) -> Status {
    let Err(error) = ended else { return Status::Succeeded };
    match error.code {
        ToolErrorCode::Timeout => Status::TimedOut,
        ToolErrorCode::OwnerDied if error.reached != Reached::No => Status::UnknownOutcome,
        ToolErrorCode::Cancelled => Status::Cancelled,
        // A request was sent, no answer came, and doing it twice is not doing it once; whatever stopped the last
        // attempt.
        _ if error.reached == Reached::Maybe && effect == Effect::SideEffect.to_string() => {
            Status::UnknownOutcome
        }
        _ => Status::Failed,
    }
}

/// The row and the events of an ended execution. `stored` is the result as it may be stored.
pub(crate) fn outcome(
    execution: &Execution,
    finished: &Finished,
    stored: String,
    at: DateTime<Utc>,
) -> Outcome {
    let ended = &finished.ended;
    let status = status_of(ended, &execution.effect);
    outcome_as(execution, status, finished, stored, at)
}

/// The same under a status that its end alone does not tell: a dead letter.
pub(crate) fn outcome_as(
    execution: &Execution,
    status: Status,
    finished: &Finished,
    stored: String,
    at: DateTime<Utc>,
) -> Outcome {
    let ended = &finished.ended;
    let result_digest = match ended {
        Ok(result) => types::digest_bytes(result.as_bytes()),
        Err(_) => String::new(),
    };
    let retries = finished.attempts.iter().filter(|attempt| attempt.kind == AttemptKind::Retry).count();
    let mut outcome = Outcome {
        team_id: execution.team_id.clone(),
        id: execution.id,
        lease_epoch: execution.lease_epoch,
        status: status.as_str().to_owned(),
        result_json: stored,
        result_digest,
        error_json: ended.as_ref().err().map(json).unwrap_or_default(),
        error_code: ended.as_ref().err().map(|error| error.code.as_str().to_owned()).unwrap_or_default(),
        cost_micro_usd: finished.cost_micro_usd,
        end_time: at,
        attempts_json: finished.attempts_json(),
        retries: i32::try_from(retries).unwrap_or(i32::MAX),
        source: finished.source.as_str().to_owned(),
        cache_age_ms: finished.cache_age_ms,
        warnings_json: if finished.warnings.is_empty() { String::new() } else { json(&finished.warnings) },
        input_tokens: finished.tokens.0,
        output_tokens: finished.tokens.1,
        asynchronous: execution.asynchronous,
        release_request: !execution.asynchronous && finished.leaves_request_free(),
        events: Vec::new(),
    };
    outcome.events = events::of(execution, &outcome, status, finished);
    outcome
}

/// A struct of texts and numbers has a JSON form.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// An execution as it ended.
pub(crate) fn ended_execution(execution: Execution, outcome: &Outcome, result_json: String) -> Execution {
    Execution {
        status: outcome.status.clone(),
        result_json,
        result_digest: outcome.result_digest.clone(),
        error_json: outcome.error_json.clone(),
        cost_micro_usd: outcome.cost_micro_usd,
        end_time: Some(outcome.end_time),
        attempts_json: outcome.attempts_json.clone(),
        retries: outcome.retries,
        source: outcome.source.clone(),
        cache_age_ms: outcome.cache_age_ms,
        warnings_json: outcome.warnings_json.clone(),
        input_tokens: outcome.input_tokens,
        output_tokens: outcome.output_tokens,
        ..execution
    }
}
