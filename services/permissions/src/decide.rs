//! Which of an agent's grants decides a call, and which denial tells most. Pure: what is read comes in,
//! what is decided goes out; nothing here may read a clock or a table.

use ::rpc::ErrorReason;
use chrono::{DateTime, Utc};

use crate::{
    policies::{AgentFacts, Budget, Policies, ToolFacts, Verdict},
    store::GrantRow,
};

/// A grant that could allow the call, and the places taken of its current window.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    pub grant: GrantRow,
    pub used: i64,
}

/// What is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decided {
    /// Allowed by the candidate at this index; its place is not taken yet.
    Allowed { index: usize, policies: Vec<String> },
    /// Denied; `index` is of the candidate that came nearest, if there was any.
    Denied { reason: ErrorReason, index: Option<usize>, policies: Vec<String> },
}

/// Tries the candidates in their order. The first that permits decides; otherwise the one that came
/// nearest gives the reason.
pub(crate) fn decide(
    policies: &Policies,
    agent: &AgentFacts,
    tool: &ToolFacts,
    candidates: &[Candidate],
    budget: Budget,
    now: DateTime<Utc>,
) -> Decided {
    let Some(subject) = policies.subject(agent, tool) else {
        return Decided::Denied { reason: ErrorReason::Internal, index: None, policies: Vec::new() };
    };
    if candidates.is_empty() {
        return denied(None, policies.ask(&subject, None, 0, Budget::NONE, now));
    }
    let mut nearest: Option<Decided> = None;
    for (index, candidate) in candidates.iter().enumerate() {
        let verdict = policies.ask(&subject, Some(&candidate.grant), candidate.used, budget, now);
        if verdict.allowed {
            return Decided::Allowed { index, policies: verdict.policies };
        }
        let denial = denied(Some(index), verdict);
        if nearest.as_ref().is_none_or(|so_far| distance_of(&denial) < distance_of(so_far)) {
            nearest = Some(denial);
        }
    }
    nearest.unwrap_or_else(|| denied(None, policies.ask(&subject, None, 0, Budget::NONE, now)))
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
/// nearest. A full window opens by itself within the hour, a budget the next day; a sensitive tool needs a
/// wider grant, an expired one a new grant.
fn distance(reason: ErrorReason) -> u8 {
    match reason {
        ErrorReason::QuotaExhausted => 1,
        ErrorReason::BudgetExhausted => 2,
        ErrorReason::SensitivityExceeded => 3,
        ErrorReason::ReadOnlyGrant => 4,
        ErrorReason::GrantExpired => 5,
        ErrorReason::NoGrant => 6,
        ErrorReason::AgentDisabled => 7,
        // What could not be evaluated is told before all else.
        _ => u8::MAX,
    }
}

#[cfg(test)]
mod tests;
