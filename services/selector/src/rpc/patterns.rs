//! GetUsagePatterns on the wire.

use ::rpc::Call;
use chrono::TimeDelta;
use proto::selector::v1::{
    FailureCluster, GetUsagePatternsRequest, GetUsagePatternsResponse, HourlyUse, Suggestion, Transition,
    suggestion,
};

use super::{Service, timestamp};
use crate::{
    Error,
    patterns::{self, Asked, Cluster, SuggestionKind, usage},
};

/// How far back, when the request does not say, and at most.
const PERIOD: TimeDelta = TimeDelta::days(7);
const LONGEST_PERIOD: TimeDelta = TimeDelta::days(30);
/// Entries of each list, when the request does not say, and at most.
const LIMIT: i32 = 20;
const MOST: i32 = 200;

pub(super) async fn get(
    service: &Service,
    call: Call,
    request: GetUsagePatternsRequest,
) -> Result<GetUsagePatternsResponse, Error> {
    let asked = asked(call.caller.team, request)?;
    let sequences = service.sequences.team(&asked.team);
    let found = usage(&service.database, &service.catalog, &sequences, asked).await?;
    Ok(GetUsagePatternsResponse {
        transitions: found.transitions.into_iter().map(transition).collect(),
        hourly: found.hourly.into_iter().map(hourly).collect(),
        failures: found.failures.into_iter().map(cluster).collect(),
        suggestions: found.suggestions.into_iter().map(suggested).collect(),
    })
}

fn asked(team: String, request: GetUsagePatternsRequest) -> Result<Asked, Error> {
    let period = match request.period {
        None => PERIOD,
        Some(period) => u32::try_from(period.nanos)
            .ok()
            .and_then(|nanos| TimeDelta::new(period.seconds, nanos))
            .filter(|period| *period > TimeDelta::zero() && *period <= LONGEST_PERIOD)
            .ok_or_else(|| Error::invalid("period", "must be above 0 and at most 30 days"))?,
    };
    let limit = match request.limit {
        0 => LIMIT,
        1..=MOST => request.limit,
        limit => {
            return Err(Error::invalid("limit", format!("is {limit}; must be 0 (for {LIMIT}) to {MOST}")));
        }
    };
    Ok(Asked { team, tool_name: request.tool_name, period, limit: usize::try_from(limit).unwrap_or(0) })
}

fn transition(step: patterns::Transition) -> Transition {
    let patterns::Transition { from_tool, to_tool, count, probability, lift } = step;
    Transition { from_tool, to_tool, count, probability, lift }
}

fn hourly(of_tool: patterns::HourlyUse) -> HourlyUse {
    let patterns::HourlyUse { tool_name, calls, failures } = of_tool;
    HourlyUse { tool_name, calls: calls.to_vec(), failures: failures.to_vec() }
}

fn cluster(cluster: Cluster) -> FailureCluster {
    FailureCluster {
        tool_name: cluster.tool_name,
        failure_reason: cluster.failure_reason,
        start_time: Some(timestamp(cluster.start_time)),
        end_time: Some(timestamp(cluster.end_time)),
        count: cluster.count,
        agents: i32::try_from(cluster.agents).unwrap_or(i32::MAX),
        share: cluster.share,
    }
}

fn suggested(found: patterns::Suggestion) -> Suggestion {
    let kind = match found.kind {
        SuggestionKind::CacheThis => suggestion::Kind::CacheThis,
        SuggestionKind::LowerTimeout => suggestion::Kind::LowerTimeout,
        SuggestionKind::RaiseTimeout => suggestion::Kind::RaiseTimeout,
        SuggestionKind::AddFallback => suggestion::Kind::AddFallback,
        SuggestionKind::Investigate => suggestion::Kind::Investigate,
    };
    Suggestion {
        kind: kind.into(),
        tool_name: found.tool_name,
        text: found.text,
        fallback_tool: found.fallback_tool,
        timeout_ms: found.timeout_ms,
        calls: found.calls,
    }
}
