//! RecordOutcomes on the wire.

use ::rpc::Call;
use proto::selector::v1::{Outcome, RecordOutcomesRequest, RecordOutcomesResponse};
use types::Effect;

use super::{Service, id, time};
use crate::{Error, learn, store::OutcomeRow};

pub(super) async fn record(
    service: &Service,
    _: Call,
    request: RecordOutcomesRequest,
) -> Result<RecordOutcomesResponse, Error> {
    let outcomes = request.outcomes.iter().enumerate();
    let rows = outcomes.map(|(index, outcome)| row(index, outcome)).collect::<Result<_, _>>()?;
    let recorded = learn::record((&service.ledger, &service.selector.selections), rows).await?;
    Ok(RecordOutcomesResponse { recorded: i32::try_from(recorded).unwrap_or(i32::MAX) })
}

fn row(index: usize, outcome: &Outcome) -> Result<OutcomeRow, Error> {
    let field = |name: &str| format!("outcomes[{index}].{name}");
    let required = |name: &str, value: &str| {
        if value.is_empty() { Err(Error::invalid(field(name), "is not set")) } else { Ok(value.to_owned()) }
    };
    if !outcome.duration_ms.is_finite() || outcome.duration_ms < 0.0 {
        return Err(Error::invalid(field("duration_ms"), "must be 0 or more"));
    }
    if outcome.cost_micro_usd < 0 {
        return Err(Error::invalid(field("cost_micro_usd"), "must be 0 or more"));
    }
    Ok(OutcomeRow {
        event_id: id(&field("event_id"), &required("event_id", &outcome.event_id)?)?.unwrap_or_default(),
        team_id: required("team_id", &outcome.team_id)?,
        agent_id: required("agent_id", &outcome.agent_id)?,
        tool_name: required("tool_name", &outcome.tool_name)?,
        execution_id: id(&field("execution_id"), &outcome.execution_id)?,
        selection_id: id(&field("selection_id"), &outcome.selection_id)?,
        succeeded: outcome.succeeded,
        failure_reason: failure_reason(outcome),
        duration_ms: outcome.duration_ms,
        cost_micro_usd: outcome.cost_micro_usd,
        event_time: time(&field("time"), outcome.time)?,
        task_id: outcome.task_id.clone(),
        cached: outcome.cached,
        arguments_hash: outcome.arguments_hash.clone(),
        timeout_ms: outcome.timeout_ms.max(0),
        fell_back: outcome.fell_back,
        effect: Option::<Effect>::from(outcome.effect()).map(|effect| effect.to_string()).unwrap_or_default(),
    })
}

/// Why it failed, as a word that can be counted; empty when it succeeded, and never otherwise.
fn failure_reason(outcome: &Outcome) -> String {
    if outcome.succeeded {
        return String::new();
    }
    let word = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
    let reason: String = outcome.failure_reason.chars().take(64).filter(word).collect();
    if reason.is_empty() { "UNKNOWN".to_owned() } else { reason }
}
