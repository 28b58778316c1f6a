//! Which of an agent's grants decides a call, and which denial tells most. Pure: what is read comes in,
//! what is decided goes out; nothing here may read a clock or a table.

use std::{collections::HashMap, sync::Arc};

use ::rpc::ErrorReason;
use chrono::{DateTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use crate::{
    access_requests::{Approval, serving},
    condition::unmet,
    policies::{AgentFacts, Asking, Call, Policies, ToolFacts, Verdict, team::TeamPolicies},
    store::{GrantRow, Used},
};

/// A grant that could allow the call, and how it stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub grant: Arc<GrantRow>,
    /// Places taken of its windows.
    pub used: Used,
    pub within_hours: bool,
    /// What of the arguments does not meet its conditions.
    pub unmet: Vec<String>,
    /// The approval that serves the call, where the grant asks for one, or is made of one.
    pub approval: Option<Served>,
    /// Whether it is no grant, but an approval that allows what no grant does; its id is that of the approval.
    pub is_approval: bool,
}

/// An approval that serves a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Served {
    pub id: Uuid,
    /// Whether it serves this call only.
    pub is_once: bool,
}

impl From<&Approval> for Served {
    fn from(approval: &Approval) -> Self {
        Self { id: approval.id, is_once: approval.is_once() }
    }
}

impl Candidate {
    /// Whether an approval is there, if the grant asks for one.
    pub(crate) fn is_approved(&self) -> bool {
        self.grant.approver_role.is_none() || self.approval.is_some()
    }

    /// The approval of which the call takes the only place.
    pub(crate) fn once(&self) -> Option<Uuid> {
        self.approval.filter(|approval| approval.is_once).map(|approval| approval.id)
    }
}

/// What is known of the arguments of a call.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Arguments<'a> {
    /// Nobody knows them yet: conditions on them are not looked at.
    NotYet,
    /// These; `None` where they are no JSON.
    Given(Option<&'a Value>),
}

/// What a call is, as far as grants and approvals ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Particulars<'a> {
    pub team: &'a str,
    pub agent: &'a str,
    /// The end user that the agent acts for; empty: none.
    pub user: &'a str,
    pub tool: &'a str,
    pub tool_digest: &'a str,
    pub arguments_digest: &'a str,
    pub arguments: Arguments<'a>,
    pub now: DateTime<Utc>,
}

/// The grants as they stand to a call, in their order, and behind them the approval that allows it by itself, if there
/// is one. Of what is used nothing is known here but what is given.
pub(crate) fn candidates(
    grants: &[Arc<GrantRow>],
    approvals: &[Approval],
    used: &HashMap<Uuid, Used>,
    call: &Particulars<'_>,
) -> Vec<Candidate> {
    let serving = |approvals: &[Approval]| serving(approvals, call).map(Served::from);
    let of_grant = |grant: &Arc<GrantRow>| Candidate {
        used: used.get(&grant.grant_id).copied().unwrap_or_default(),
        within_hours: grant.hours.as_ref().is_none_or(|hours| hours.contain(call.now)),
        unmet: match call.arguments {
            Arguments::NotYet => Vec::new(),
            Arguments::Given(arguments) => unmet(&grant.conditions, arguments),
        },
        approval: grant.approver_role.filter(|_| !approvals.is_empty()).and_then(|needed| {
            let high: Vec<Approval> =
                approvals.iter().filter(|approval| approval.role >= needed).cloned().collect();
            serving(&high)
        }),
        grant: Arc::clone(grant),
        is_approval: false,
    };
    let mut candidates: Vec<Candidate> = grants.iter().map(of_grant).collect();
    if approvals.iter().any(|approval| approval.is_grant) {
        let own: Vec<Approval> = approvals.iter().filter(|approval| approval.is_grant).cloned().collect();
        candidates.extend(serving(&own).map(|served| by_approval(call, served)));
    }
    candidates
}

/// What an approval allows by itself, as a grant to the agent.
pub(crate) fn by_approval(call: &Particulars<'_>, served: Served) -> Candidate {
    let holder = (Some(call.agent.to_owned()), None);
    let grant = GrantRow::plain(call.team, holder, call.tool, ("", call.now));
    Candidate {
        grant: Arc::new(GrantRow { grant_id: served.id, ..grant }),
        used: Used::default(),
        within_hours: true,
        unmet: Vec::new(),
        approval: Some(served),
        is_approval: true,
    }
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Allowed by the candidate at this index, whose place is not taken yet; or, without one, by the team's policies.
    Allowed { index: Option<usize>, policies: Vec<String> },
    /// Denied; `index` is of the candidate that came nearest, if there was any.
    Denied { reason: ErrorReason, index: Option<usize>, policies: Vec<String> },
}

/// Tries the candidates in their order. The first that permits decides, and after all of them the team's policies may
/// permit; otherwise the one that came nearest gives the reason.
pub(crate) fn decide(
    policies: &Policies,
    (agent, tool): (&AgentFacts, &ToolFacts),
    call: Call<'_>,
    team: Option<&TeamPolicies>,
    candidates: &[Candidate],
) -> Decided {
    let Some(asking) = policies.asking(agent, tool, call, team) else {
        return Decided::Denied { reason: ErrorReason::Internal, index: None, policies: Vec::new() };
    };
    let mut nearest: Option<Decided> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let verdict = asking.ask(Some(candidate));
        if verdict.allowed {
            return Decided::Allowed { index: Some(index), policies: verdict.policies };
        }
        let denial = denied(Some(index), verdict);
        if nearest.as_ref().is_none_or(|so_far| distance_of(&denial) < distance_of(so_far)) {
            nearest = Some(denial);
        }
    }
    without_a_grant(&asking, team, nearest)
}

/// What each candidate says to the call, in their order.
pub(crate) fn verdicts(
    policies: &Policies,
    (agent, tool): (&AgentFacts, &ToolFacts),
    call: Call<'_>,
    team: Option<&TeamPolicies>,
    candidates: &[Candidate],
) -> Vec<Verdict> {
    let asking = policies.asking(agent, tool, call, team);
    let ask =
        |candidate| asking.as_ref().map_or_else(Verdict::unevaluated, |asking| asking.ask(Some(candidate)));
    candidates.iter().map(ask).collect()
}

/// What remains when no grant permits: the team's policies, or the denial of the nearest grant.
fn without_a_grant(asking: &Asking<'_>, team: Option<&TeamPolicies>, nearest: Option<Decided>) -> Decided {
    let may_permit = team.is_some_and(|team| !team.is_empty());
    match nearest {
        Some(nearest) if !may_permit => nearest,
        nearest => {
            let verdict = asking.ask(None);
            if verdict.allowed {
                return Decided::Allowed { index: None, policies: verdict.policies };
            }
            nearest.unwrap_or_else(|| denied(None, verdict))
        }
    }
}

fn denied(index: Option<usize>, verdict: Verdict) -> Decided {
    let reason = verdict.reasons.into_iter().max_by_key(|&reason| distance(reason));
    Decided::Denied { reason: reason.unwrap_or(ErrorReason::NoGrant), index, policies: verdict.policies }
}

fn distance_of(decided: &Decided) -> u8 {
    match decided {
        Decided::Allowed { .. } => 0,
        Decided::Denied { reason, .. } => distance(*reason),
    }
}

/// How far a denial is from a permission: of one grant the farthest reason is told, of several grants the
/// nearest. A full window opens by itself, an approval can be asked for at once, a budget is there again the next
/// day; hours come, other arguments may do; a sensitive tool needs a wider grant, an expired one a new grant; what a
/// policy forbids no grant allows.
pub(crate) fn distance(reason: ErrorReason) -> u8 {
    match reason {
        ErrorReason::QuotaExhausted => 1,
        ErrorReason::ApprovalRequired => 2,
        ErrorReason::BudgetExhausted => 3,
        ErrorReason::OutsideHours => 4,
        ErrorReason::ArgumentCondition => 5,
        ErrorReason::SensitivityExceeded => 6,
        ErrorReason::ReadOnlyGrant => 7,
        ErrorReason::GrantExpired => 8,
        ErrorReason::NoGrant => 9,
        ErrorReason::PolicyDenied => 10,
        ErrorReason::AgentDisabled => 11,
        // What could not be evaluated is told before all else.
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests;
