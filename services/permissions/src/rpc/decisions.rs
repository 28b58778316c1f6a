//! Calls to decide on, decisions, and the ends of reservations: from the wire and to it.

use ::rpc::ErrorReason;
use chrono::{DateTime, Utc};
use proto::{
    permissions::v1::{self as wire, AuthorizeRequest, AuthorizeResponse},
    types::v1::{Effect, Sensitivity},
};
use types::Caller;

use super::{id, timestamp};
use crate::{
    Error,
    authorize::{Asked, Decision, Period, Quota, next_day},
    names,
    policies::ToolFacts,
    store::{Budget, Settlement},
};

pub(super) fn asked(caller: Caller, request: AuthorizeRequest) -> Result<Asked, Error> {
    names::tool("tool_name", &request.tool_name)?;
    names::digest("tool_digest", &request.tool_digest)?;
    names::digest("arguments_digest", &request.arguments_digest)?;
    names::cost("cost_micro_usd", request.cost_micro_usd)?;
    if request.at_least_revision < 0 {
        return Err(Error::invalid("at_least_revision", "is negative; it must be a revision, or 0"));
    }
    let (effect, sensitivity) = (request.effect(), request.sensitivity());
    Ok(Asked {
        team: caller.team,
        agent: caller.agent,
        user: caller.user,
        execution_id: id("execution_id", &request.execution_id)?,
        tool: tool(request.tool_name, effect, sensitivity),
        tool_digest: request.tool_digest,
        arguments: request.arguments_json.into(),
        arguments_digest: request.arguments_digest,
        cost_micro_usd: request.cost_micro_usd,
        at_least_revision: request.at_least_revision,
    })
}

pub(super) fn settlement(settlement: wire::Settlement) -> Result<Settlement, Error> {
    names::name("team_id", &settlement.team_id)?;
    names::name("agent_id", &settlement.agent_id)?;
    Ok(Settlement {
        team_id: settlement.team_id,
        decision_id: id("decision_id", &settlement.decision_id)?,
        committed: settlement.committed,
        cost_micro_usd: settlement.cost_micro_usd,
    })
}

pub(super) fn tool_facts(facts: wire::ToolFacts) -> ToolFacts {
    let (effect, sensitivity) = (facts.effect(), facts.sensitivity());
    tool(facts.tool_name, effect, sensitivity)
}

/// What is not said of a tool is taken as `types.proto` says.
fn tool(name: String, effect: Effect, sensitivity: Sensitivity) -> ToolFacts {
    ToolFacts {
        name,
        effect: Option::<types::Effect>::from(effect).unwrap_or(types::Effect::SideEffect),
        sensitivity: Option::<types::Sensitivity>::from(sensitivity).unwrap_or(types::Sensitivity::Internal),
    }
}

pub(super) fn authorize_response(decision: Decision) -> AuthorizeResponse {
    AuthorizeResponse {
        allowed: decision.reason.is_none(),
        reason: reason_name(decision.reason),
        quota: decision.quota().map(quota),
        message: decision.message,
        decision_id: decision.id.to_string(),
        grant_id: decision.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        quotas: decision.quotas.into_iter().map(quota).collect(),
        policy_ids: decision.policies,
        reserved: decision.reserved,
        budget: decision.budget.map(quota),
        approver_role: decision.approver_role.map(wire::Role::from).unwrap_or_default().into(),
        revision: decision.revision,
    }
}

pub(super) fn quota(quota: Quota) -> wire::Quota {
    wire::Quota {
        limit: quota.limit,
        used: quota.used,
        reset_time: quota.reset_time.map(timestamp),
        period: match quota.period {
            Period::Hour => wire::Period::Hour,
            Period::Day => wire::Period::Day,
            Period::Total => wire::Period::Total,
        }
        .into(),
    }
}

pub(super) fn budget(row: Budget, now: DateTime<Utc>) -> wire::Budget {
    wire::Budget {
        daily_micro_usd: row.daily,
        spent_micro_usd: row.spent,
        reserved_micro_usd: row.reserved,
        reset_time: Some(timestamp(next_day(now))),
        threshold_percent: row.threshold_percent,
    }
}

/// `ERROR_REASON_NO_GRANT` is told as `NO_GRANT`.
pub(super) fn reason_name(reason: Option<ErrorReason>) -> String {
    reason.map_or("", |reason| reason.as_str_name().trim_start_matches("ERROR_REASON_")).to_owned()
}
