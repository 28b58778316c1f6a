//! Tells people why a call was denied: what is wrong and what to do. Never decides anything.

use ::rpc::ErrorReason;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::{
    policies::{AgentFacts, Budget, ToolFacts},
    store::GrantRow,
};

/// The message of a denial.
pub(crate) fn denial(
    reason: ErrorReason,
    agent: &AgentFacts,
    tool: &ToolFacts,
    grant: Option<&GrantRow>,
    budget: Budget,
    [next_hour, next_day]: [DateTime<Utc>; 2],
) -> String {
    let (name, tool_name) = (&agent.name, &tool.name);
    let add = format!("toolcrib grants add {tool_name} --agent {name}");
    let holder = grant.map_or_else(|| format!("agent {name:?}"), holder);
    match reason {
        ErrorReason::NoGrant => {
            format!("no grant lets agent {name:?} call {tool_name}; an admin can add one: {add}")
        }
        ErrorReason::AgentDisabled => {
            format!("agent {name:?} is disabled and may call no tool; ask an admin of team {:?}", agent.team)
        }
        ErrorReason::GrantExpired => {
            let end = grant.and_then(|grant| grant.expire_time).map(|end| format!(" at {}", time(end)));
            let end = end.unwrap_or_default();
            format!("the grant of {tool_name} to {holder} expired{end}; an admin can add a new one: {add}")
        }
        ErrorReason::ReadOnlyGrant => format!(
            "the grant of {tool_name} to {holder} is for read-only tools and the tool's effect is {}; \
             an admin can add one that is not: {add}",
            tool.effect
        ),
        ErrorReason::SensitivityExceeded => format!(
            "{tool_name} handles {} data and the grant to {holder} ends at {}; an admin can add a wider one: {add}",
            tool.sensitivity,
            grant.and_then(|grant| grant.max_sensitivity.as_deref()).unwrap_or("a lower level")
        ),
        ErrorReason::QuotaExhausted => format!(
            "agent {name:?} has used all {} calls of {tool_name} that the grant to {holder} allows in an hour; \
             the next hour begins at {}",
            grant.map_or(0, |grant| grant.max_per_hour),
            time(next_hour)
        ),
        ErrorReason::BudgetExhausted => format!(
            "cost budget of the team is used up: {} of {} USD are spent or reserved and the call costs {} USD; \
             the next day begins at {}",
            usd(budget.used),
            usd(budget.limit),
            usd(budget.cost),
            time(next_day)
        ),
        _ => "the policies could not be evaluated, so the call is denied; the log has the detail".to_owned(),
    }
}

/// The message when there is no such agent.
pub(crate) fn unknown_agent(agent: &str, team: &str) -> String {
    format!("team {team:?} has no agent {agent:?}; an admin can make it: toolcrib agents create {agent}")
}

/// The message of a permission.
pub(crate) fn permission(grant: &GrantRow) -> String {
    format!("granted to {}", holder(grant))
}

fn holder(grant: &GrantRow) -> String {
    match (&grant.agent_id, &grant.specialization) {
        (Some(agent), _) => format!("agent {agent:?}"),
        (None, Some(specialization)) => format!("specialization {specialization:?}"),
        (None, None) => "no one".to_owned(),
    }
}

/// Millionths of a US dollar as dollars, exactly.
fn usd(micro: i64) -> String {
    let whole = format!("{}.{:06}", micro / 1_000_000, micro.unsigned_abs() % 1_000_000);
    whole.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_told_exactly() {
        let table = [(0, "0"), (1, "0.000001"), (1_000_000, "1"), (10_250_000, "10.25"), (100, "0.0001")];
        for (micro, expected) in table {
            assert_eq!(usd(micro), expected);
        }
    }
}
