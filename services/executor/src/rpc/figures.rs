//! Batches, figures and the cache, as the contract tells them.

use std::time::Duration;

use ::rpc::{reason_of, status};
use futures_util::{Stream, StreamExt};
use prost::Message;
use proto::executor::v1::{
    BatchExecuteRequest, BatchExecuteResponse, BatchItem, CacheStats, CallError, ExecuteResponse,
    GetCacheStatsResponse, SchemaViolation, TokenUsage, ToolMetrics, batch_item::Outcome,
};
use tonic_types::StatusExt;

use super::{mapping, parse};
use crate::{
    Error,
    batch::{Batch, MAX_CALLS},
    events::timestamp,
    invoke::Answer,
    outcome::Status,
    store::ToolFigures,
};

/// Bytes that the items of a batch may have together: all travel in one message of 4 MiB, and what says that an
/// item is left out takes some, too.
const MAX_ITEMS_BYTES: usize = (4 << 20) - (128 << 10);

/// A batch whose shape is right; its calls may be wrong one by one.
pub(super) fn batch(request: BatchExecuteRequest) -> Result<Batch, Error> {
    if request.calls.is_empty() || request.calls.len() > MAX_CALLS {
        return Err(Error::invalid("calls", format!("1 to {MAX_CALLS} calls")));
    }
    let parallelism = usize::try_from(request.parallelism).ok().filter(|asked| *asked <= 20);
    let parallelism = parallelism.ok_or_else(|| Error::invalid("parallelism", "1 to 20, or 0 for 5"))?;
    let calls = request.calls.into_iter().map(parse::execute).collect();
    Ok(Batch { calls, parallelism, stop_on_failure: request.stop_on_failure })
}

/// The items of a batch; where the message has no room for one, how to read it instead. What has no room is dropped
/// as it comes: all results together may be a hundred times larger than the message.
pub(super) async fn batch_response(
    answers: impl Stream<Item = Result<Answer, Error>>,
) -> BatchExecuteResponse {
    answers.fold(Items::default(), async |items, answer| items.with(answer)).await.response
}

/// The answer to a batch as far as it has come.
struct Items {
    response: BatchExecuteResponse,
    /// Bytes that are left for further items.
    room: usize,
}

impl Default for Items {
    fn default() -> Self {
        Self { response: BatchExecuteResponse::default(), room: MAX_ITEMS_BYTES }
    }
}

impl Items {
    /// The next item, or an error that names the execution when there is no room for all of it.
    fn with(mut self, answer: Result<Answer, Error>) -> Self {
        let execution = answer.as_ref().ok().map(|answer| &answer.execution);
        let succeeded = execution.is_some_and(|execution| execution.status == Status::Succeeded.as_str());
        let execution_id = execution.map(|execution| execution.id.to_string());
        self.response.succeeded += i32::from(succeeded);
        let whole = item(answer);
        let fitting = match (self.room.checked_sub(whole.encoded_len()), execution_id) {
            (Some(left), _) => {
                self.room = left;
                whole
            }
            (None, Some(execution_id)) => item(Err(Error::ResultLeftOut { execution_id })),
            (None, None) => whole,
        };
        self.response.items.push(fitting);
        self
    }
}

fn item(answer: Result<Answer, Error>) -> BatchItem {
    let outcome = match answer {
        Ok(answer) => {
            let execution = Some(mapping::execution(answer.execution));
            Outcome::Response(ExecuteResponse { execution, replayed: answer.replayed })
        }
        Err(error) => Outcome::Error(call_error(&error)),
    };
    BatchItem { outcome: Some(outcome) }
}

/// What Execute would have been refused with.
fn call_error(error: &Error) -> CallError {
    let status = status(error);
    let details = status.get_error_details();
    let reason = reason_of(&status).unwrap_or_default();
    let violation = |violation: &tonic_types::FieldViolation| SchemaViolation {
        pointer: violation.field.clone(),
        message: violation.description.clone(),
        schema_pointer: String::new(),
    };
    let violations = details.bad_request().map(|request| request.field_violations.iter().map(violation));
    let retry_after = details.retry_info().and_then(|retry| retry.retry_delay).unwrap_or(Duration::ZERO);
    CallError {
        code: status.code().into(),
        reason: reason.as_str_name().trim_start_matches("ERROR_REASON_").to_owned(),
        message: status.message().to_owned(),
        violations: violations.map(Iterator::collect).unwrap_or_default(),
        retry_after_ms: i64::try_from(retry_after.as_millis()).unwrap_or(i64::MAX),
    }
}

pub(super) fn metrics(figures: ToolFigures) -> ToolMetrics {
    let share = |part: f64, of: i64| if of == 0 { 0.0 } else { part / of as f64 };
    let tokens = TokenUsage { input_tokens: figures.input_tokens, output_tokens: figures.output_tokens };
    ToolMetrics {
        success_rate: share(figures.successes as f64, figures.executions),
        average_cost_micro_usd: share(figures.cost_micro_usd as f64, figures.executions),
        tool_name: figures.tool_name,
        executions: figures.executions,
        successes: figures.successes,
        failures: figures.failures,
        timeouts: figures.timeouts,
        average_ms: figures.average_ms,
        p50_ms: figures.p50_ms,
        p95_ms: figures.p95_ms,
        p99_ms: figures.p99_ms,
        cost_micro_usd: figures.cost_micro_usd,
        tokens: Some(tokens),
        retries: figures.retries,
        fallbacks: figures.fallbacks,
        cache_hits: figures.cache_hits,
        last_use: figures.last_use.map(timestamp),
    }
}

pub(super) fn cache_stats(stats: Vec<(cache::Stats, &'static str)>, variant: &str) -> GetCacheStatsResponse {
    GetCacheStatsResponse {
        stats: stats.into_iter().map(|(stats, semantic)| one_cache(stats, semantic)).collect(),
        variant: variant.to_owned(),
    }
}

fn one_cache(stats: cache::Stats, semantic_state: &str) -> CacheStats {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let served = stats.hits + stats.semantic_hits + stats.negative_hits;
    // A call that was answered by nearly the same text had missed before.
    let asked = stats.hits + stats.negative_hits + stats.misses;
    CacheStats {
        tool_name: stats.tool,
        hits: count(stats.hits),
        misses: count(stats.misses),
        coalesced: count(stats.coalesced),
        stale_hits: count(stats.stale_hits),
        negative_hits: count(stats.negative_hits),
        semantic_hits: count(stats.semantic_hits),
        puts: count(stats.puts),
        invalidations: count(stats.invalidations),
        hit_ratio: if asked == 0 { 0.0 } else { served as f64 / asked as f64 },
        semantic_state: semantic_state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Execution;

    #[test]
    fn what_does_not_fit_is_dropped_as_it_comes() {
        let answer = |result_json: String| {
            let id = types::new_id();
            let status = Status::Succeeded.as_str().to_owned();
            let execution = Execution { id, status, result_json, ..Execution::default() };
            Ok(Answer { execution, replayed: false, standings: Vec::new() })
        };
        let mut items = Items::default();
        for number in 1..=100 {
            items = items.with(answer("x".repeat(3 << 20)));
            let kept = items.response.encoded_len();
            assert!(kept < 4 << 20, "{kept} bytes after {number} items");
        }
        // What is small still fits behind it.
        items = items.with(answer("{}".to_owned()));
        let is_whole = |item: &&BatchItem| matches!(item.outcome, Some(Outcome::Response(_)));
        assert_eq!(items.response.items.iter().filter(is_whole).count(), 2);
        assert_eq!((items.response.items.len(), items.response.succeeded), (101, 101));
    }
}
