//! Tells people why a call was denied: what is wrong and what to do. Never decides anything, and never shows a value
//! of an argument.

use ::rpc::ErrorReason;
use chrono::{DateTime, SecondsFormat, Utc};
use types::Role;

use crate::{
    decide::Candidate,
    policies::{AgentFacts, Budget, Failure, ToolFacts, team::TeamPolicies},
    store::{GrantRow, Windows},
};

/// Most conditions that a message tells of.
const MAX_CONDITIONS: usize = 5;

/// A denial and all that can be told of it.
pub(crate) struct Denial<'a> {
    pub reason: ErrorReason,
    pub agent: &'a AgentFacts,
    pub tool: &'a ToolFacts,
    /// The grant that came nearest.
    pub nearest: Option<&'a Candidate>,
    pub team: &'a TeamPolicies,
    /// Ids of the policies that decided.
    pub policies: &'a [String],
    /// The policies that could not be evaluated.
    pub failures: &'a [Failure],
    pub budget: Budget,
    pub now: DateTime<Utc>,
}

impl Denial<'_> {
    /// The message.
    pub(crate) fn message(&self) -> String {
        let (name, tool, team) = (&self.agent.name, &self.tool.name, &self.agent.team);
        match self.reason {
            ErrorReason::NoGrant => {
                format!("no grant lets agent {name:?} call {tool}; an admin can add one: {}", self.add())
            }
            ErrorReason::AgentDisabled => {
                format!("agent {name:?} is disabled and may call no tool; ask an admin of team {team:?}")
            }
            ErrorReason::PolicyDenied => self.policy(),
            ErrorReason::BudgetExhausted => format!(
                "cost budget of the team is used up: {} of {} USD are spent or reserved and the call costs {} USD; \
                 the next day begins at {}",
                usd(self.budget.used),
                usd(self.budget.limit),
                usd(self.budget.cost),
                time(Windows::of(self.now).next_day())
            ),
            reason => match self.nearest {
                Some(nearest) => self.of_grant(reason, nearest),
                None => self.unevaluated(),
            },
        }
    }

    /// What the nearest grant does not allow.
    fn of_grant(&self, reason: ErrorReason, nearest: &Candidate) -> String {
        let (tool, grant) = (&self.tool.name, nearest.grant.as_ref());
        let (add, holder) = (self.add(), holder(grant));
        match reason {
            ErrorReason::GrantExpired => {
                let end = grant.expire_time.map(|end| format!(" at {}", time(end))).unwrap_or_default();
                format!("the grant of {tool} to {holder} expired{end}; an admin can add a new one: {add}")
            }
            ErrorReason::ReadOnlyGrant => format!(
                "the grant of {tool} to {holder} is for read-only tools and the tool's effect is {}; \
                 an admin can add one that is not: {add}",
                self.tool.effect
            ),
            ErrorReason::SensitivityExceeded => format!(
                "{tool} handles {} data and the grant to {holder} ends at {}; an admin can add a wider one: {add}",
                self.tool.sensitivity,
                grant.max_sensitivity.as_deref().unwrap_or("a lower level")
            ),
            ErrorReason::ArgumentCondition => format!(
                "the arguments do not meet what the grant of {tool} to {holder} asks: {}",
                shortened(&nearest.unmet)
            ),
            ErrorReason::OutsideHours => self.hours(nearest),
            ErrorReason::ApprovalRequired => format!(
                "each call of {tool} under the grant to {holder} needs an approval by {}; ask for it: \
                 toolcrib access request {tool}",
                grant.approver_role.map_or("somebody else", with_article)
            ),
            ErrorReason::QuotaExhausted => self.quota(nearest),
            _ => self.unevaluated(),
        }
    }

    fn hours(&self, nearest: &Candidate) -> String {
        let (tool, holder) = (&self.tool.name, holder(&nearest.grant));
        let Some(hours) = &nearest.grant.hours else { return self.unevaluated() };
        let next = hours.next_start(self.now).map(|next| format!("; they begin next at {}", time(next)));
        format!(
            "the grant of {tool} to {holder} allows calls {} only{}",
            hours.told(),
            next.unwrap_or_default()
        )
    }

    /// The longest limit that is used up: the others open before it.
    fn quota(&self, nearest: &Candidate) -> String {
        let (grant, used, windows) = (&nearest.grant, nearest.used, Windows::of(self.now));
        let is_full = |limit: i64, used: i64| limit > 0 && used >= limit;
        let (limit, over, next) = if is_full(grant.max_total, used.total) {
            (grant.max_total, "in all", format!("an admin can add a new one: {}", self.add()))
        } else if is_full(grant.max_per_day, used.day) {
            (grant.max_per_day, "on a day", format!("the next day begins at {}", time(windows.next_day())))
        } else {
            (
                grant.max_per_hour,
                "in an hour",
                format!("the next hour begins at {}", time(windows.next_hour())),
            )
        };
        format!(
            "agent {:?} has used all {limit} calls of {} that the grant to {} allows {over}; {next}",
            self.agent.name,
            self.tool.name,
            holder(grant)
        )
    }

    /// What the team says to those whom its policies deny.
    fn policy(&self) -> String {
        let own = |id: &&String| id.starts_with("team/");
        let mut told: Vec<String> = Vec::new();
        for id in self.policies.iter().filter(own) {
            let failure = self.failures.iter().find(|failure| failure.policy == *id);
            told.push(match self.team.message(id) {
                _ if failure.is_some() => {
                    let cause = failure.map(|failure| failure.cause.as_str()).unwrap_or_default();
                    format!(
                        "policy {id} cannot be evaluated for this call ({cause}), and an admin must mend it"
                    )
                }
                _ if self.team.broken().contains(id) => {
                    format!(
                        "policy {id} cannot be read any more, and an admin must write it anew or remove it"
                    )
                }
                Some(message) => format!("{message} (policy {id})"),
                None => format!("policy {id}"),
            });
        }
        let team = &self.agent.team;
        format!("denied by the policies of team {team:?}: {}; ask an admin of the team", told.join("; "))
    }

    fn unevaluated(&self) -> String {
        let causes: Vec<String> =
            self.failures.iter().map(|failure| format!("{}: {}", failure.policy, failure.cause)).collect();
        let causes = if causes.is_empty() { String::new() } else { format!(" ({})", causes.join("; ")) };
        format!("the policies could not be evaluated, so the call is denied{causes}; the log has the detail")
    }

    fn add(&self) -> String {
        format!("toolcrib grants add {} --agent {}", self.tool.name, self.agent.name)
    }
}

/// The message when there is no such agent.
pub(crate) fn unknown_agent(agent: &str, team: &str) -> String {
    format!("team {team:?} has no agent {agent:?}; an admin can make it: toolcrib agents create {agent}")
}

/// The message of a permission: by a grant, by an approval, or by policies of the team.
pub(crate) fn permission(candidate: Option<&Candidate>, policies: &[String]) -> String {
    match candidate {
        None => format!("permitted by {}", policies.join(", ")),
        Some(Candidate { is_approval: true, grant, .. }) => {
            format!("approved by access request {}", grant.grant_id)
        }
        Some(Candidate { approval: Some(approval), grant, .. }) => {
            format!("granted to {}, approved by access request {}", holder(grant), approval.id)
        }
        Some(Candidate { grant, .. }) => format!("granted to {}", holder(grant)),
    }
}

fn holder(grant: &GrantRow) -> String {
    match (&grant.agent_id, &grant.specialization) {
        (Some(agent), _) => format!("agent {agent:?}"),
        (None, Some(specialization)) => format!("specialization {specialization:?}"),
        (None, None) => "no one".to_owned(),
    }
}

fn with_article(role: Role) -> &'static str {
    match role {
        Role::Agent => "another agent",
        Role::Auditor => "an auditor or above",
        Role::Operator => "an operator or above",
        Role::Admin => "an admin",
    }
}

fn shortened(lines: &[String]) -> String {
    let told = lines.iter().take(MAX_CONDITIONS).cloned().collect::<Vec<_>>().join("; ");
    match lines.len().saturating_sub(MAX_CONDITIONS) {
        0 => told,
        more => format!("{told}; and {more} more"),
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
