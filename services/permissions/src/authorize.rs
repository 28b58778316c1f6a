//! Decides one call and takes its place in the grant's limit and its cost from the team's budget. A fault
//! never allows a call, and no call holds two places.

use std::{sync::Arc, time::Duration};

use ::rpc::ErrorReason;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    Error,
    decide::{Candidate, Decided, decide},
    explain,
    ledger::{Ledger, Taken},
    policies::{AgentFacts, Budget, Policies, ToolFacts},
    store::{Held, NewReservation},
    teams::{Standing, Teams},
};

/// How often a decision starts again because another request for the same execution came first.
const ATTEMPTS: usize = 3;

/// The call to decide on.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub team: String,
    pub agent: String,
    pub tool: ToolFacts,
    pub tool_digest: String,
    pub arguments_digest: String,
    pub execution_id: Uuid,
    /// What it would cost, in micro USD.
    pub cost_micro_usd: i64,
}

/// The decision.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decision {
    pub id: Uuid,
    /// Why not; `None` when allowed.
    pub reason: Option<ErrorReason>,
    pub message: String,
    pub grant_id: Option<Uuid>,
    pub policies: Vec<String>,
    pub quota: Option<Quota>,
    /// In micro USD.
    pub budget: Option<Quota>,
    pub reserved: bool,
}

/// A limit, what is used of it, and when it starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    pub limit: i64,
    pub used: i64,
    pub reset_time: DateTime<Utc>,
}

/// What is needed to decide.
#[derive(Clone)]
pub(crate) struct Desk {
    pub policies: Arc<Policies>,
    pub teams: Arc<Teams>,
    pub ledger: Ledger,
    pub reservation_ttl: Duration,
}

impl Desk {
    /// Decides at this time. A repeated request for the same execution gets the same decision, as long as
    /// the grant it rests on still allows the call; what was given back or has expired is taken anew.
    pub(crate) async fn authorize(&self, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
        // A decision may wait for nothing at all, and other tasks must get their turn all the same.
        tokio::task::consume_budget().await;
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(asked, now).await {
                Err(Error::Store(::store::Error::Conflict { .. })) if attempts < ATTEMPTS => {}
                decided => return decided,
            }
        }
    }

    async fn attempt(&self, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
        let standings = self.teams.standings(&asked.team, &asked.agent, &[&asked.tool.name]).await?;
        let Some(standing) = standings.and_then(|mut standings| standings.pop()) else {
            return Ok(denial_of_unknown(asked));
        };
        let Standing { agent, mut candidates, daily_micro_usd } = standing;
        let mut budget = Budget { limit: daily_micro_usd, used: 0, cost: asked.cost_micro_usd };
        loop {
            let decided = decide(&self.policies, &agent, &asked.tool, &candidates, budget, now);
            let (index, policies) = match decided {
                Decided::Allowed { index, policies } => (index, policies),
                Decided::Denied { reason, index, policies } => {
                    let nearest = index.map(|index| &candidates[index]);
                    return Ok(denial(reason, &agent, &asked.tool, nearest, policies, budget, now));
                }
            };
            let candidate = &mut candidates[index];
            if candidate.grant.max_per_hour == 0 && budget.limit == 0 {
                let id = unreserved_id(asked, candidate.grant.grant_id);
                return Ok(permission(id, candidate, policies, None, None));
            }
            let reservation = self.reservation(asked, candidate, budget, now);
            let (id, quota_limit) = (reservation.decision_id, reservation.quota_limit);
            match self.ledger.take(reservation).await? {
                Taken::Granted { used, budget_used } => {
                    let quota = quota(quota_limit, used, window_start(now));
                    let budget = quota_of_day(budget.limit, budget_used, now);
                    return Ok(permission(id, candidate, policies, quota, budget));
                }
                Taken::Held(held) => return self.repeat(asked, &agent, candidates, &held, now),
                // What is left was not known: the policies decide again, knowing it.
                Taken::NoPlace { used } => candidate.used = used,
                Taken::NoBudget { used } => budget.used = used,
            }
        }
    }

    fn reservation(
        &self,
        asked: &Asked,
        candidate: &Candidate,
        budget: Budget,
        now: DateTime<Utc>,
    ) -> NewReservation {
        NewReservation {
            team_id: asked.team.clone(),
            decision_id: types::new_id(),
            execution_id: asked.execution_id,
            grant_id: candidate.grant.grant_id,
            agent_id: asked.agent.clone(),
            window_start: window_start(now),
            tool_name: asked.tool.name.clone(),
            tool_digest: asked.tool_digest.clone(),
            arguments_digest: asked.arguments_digest.clone(),
            quota_limit: candidate.grant.max_per_hour,
            expire_time: now + self.reservation_ttl,
            day: (budget.limit > 0).then(|| now.date_naive()),
            cost_micro_usd: if budget.limit > 0 { budget.cost } else { 0 },
            budget_limit: budget.limit,
        }
    }

    /// The execution holds a place already: the same decision, unless its grant no longer allows the call.
    fn repeat(
        &self,
        asked: &Asked,
        agent: &AgentFacts,
        mut candidates: Vec<Candidate>,
        held: &Held,
        now: DateTime<Utc>,
    ) -> Result<Decision, Error> {
        let same = held.agent_id == asked.agent
            && held.tool_name == asked.tool.name
            && held.tool_digest == asked.tool_digest
            && held.arguments_digest == asked.arguments_digest;
        if !same {
            return Err(Error::ExecutionReused { execution: asked.execution_id });
        }
        candidates.retain(|candidate| candidate.grant.grant_id == held.grant_id);
        // Its own place and cost are among those taken, so the limits are not asked again.
        for candidate in &mut candidates {
            candidate.used = 0;
        }
        let none = Budget::NONE;
        Ok(match decide(&self.policies, agent, &asked.tool, &candidates, none, now) {
            Decided::Allowed { index, policies } => {
                let quota = quota(held.quota_limit, held.used, held.window_start);
                let budget = held.day.and_then(|day| {
                    let start = day.and_time(chrono::NaiveTime::MIN).and_utc();
                    quota_of_day(held.budget_limit, held.budget_used, start)
                });
                permission(held.decision_id, &candidates[index], policies, quota, budget)
            }
            Decided::Denied { reason, index, policies } => {
                let nearest = index.map(|index| &candidates[index]);
                denial(reason, agent, &asked.tool, nearest, policies, none, now)
            }
        })
    }
}

/// Start of the clock hour (UTC) of a time.
pub(crate) fn window_start(now: DateTime<Utc>) -> DateTime<Utc> {
    // Fails only for times beyond the year 2262.
    now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now)
}

/// Start of the day (UTC) after a time.
pub(crate) fn next_day(now: DateTime<Utc>) -> DateTime<Utc> {
    now.duration_trunc(TimeDelta::days(1)).unwrap_or(now) + TimeDelta::days(1)
}

/// The id of a decision that is kept nowhere: the same for the same call under the same grant, whichever
/// process is asked. A UUIDv7 with the time of the execution's id; the rest is a digest of all that the
/// decision is bound to.
fn unreserved_id(asked: &Asked, grant: Uuid) -> Uuid {
    let mut digest = Sha256::new();
    let bound = [&asked.team, &asked.agent, &asked.tool.name, &asked.tool_digest, &asked.arguments_digest];
    for text in bound {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    }
    digest.update(asked.execution_id);
    digest.update(grant);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.finalize()[..16]);
    bytes[..6].copy_from_slice(&asked.execution_id.as_bytes()[..6]);
    // Version 7 and the variant of RFC 9562, sections 4.1 and 4.2.
    bytes[6] = (bytes[6] & 0x0f) | 0x70;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

/// `None` where there is no limit.
fn quota(limit: i64, used: i64, window: DateTime<Utc>) -> Option<Quota> {
    (limit > 0).then(|| Quota { limit, used, reset_time: window + TimeDelta::hours(1) })
}

fn quota_of_day(limit: i64, used: i64, at: DateTime<Utc>) -> Option<Quota> {
    (limit > 0).then(|| Quota { limit, used, reset_time: next_day(at) })
}

fn permission(
    id: Uuid,
    candidate: &Candidate,
    policies: Vec<String>,
    quota: Option<Quota>,
    budget: Option<Quota>,
) -> Decision {
    Decision {
        id,
        reason: None,
        message: explain::permission(&candidate.grant),
        grant_id: Some(candidate.grant.grant_id),
        policies,
        reserved: quota.is_some() || budget.is_some(),
        quota,
        budget,
    }
}

fn denial(
    reason: ErrorReason,
    agent: &AgentFacts,
    tool: &ToolFacts,
    nearest: Option<&Candidate>,
    policies: Vec<String>,
    budget: Budget,
    now: DateTime<Utc>,
) -> Decision {
    let (window, grant) = (window_start(now), nearest.map(|candidate| &candidate.grant));
    let resets = [window + TimeDelta::hours(1), next_day(now)];
    let exhausted = nearest.filter(|_| reason == ErrorReason::QuotaExhausted);
    let spent = (reason == ErrorReason::BudgetExhausted).then_some(budget);
    Decision {
        id: types::new_id(),
        reason: Some(reason),
        message: explain::denial(reason, agent, tool, grant, budget, resets),
        grant_id: grant.map(|grant| grant.grant_id),
        policies,
        quota: exhausted.and_then(|candidate| quota(candidate.grant.max_per_hour, candidate.used, window)),
        budget: spent.and_then(|budget| quota_of_day(budget.limit, budget.used, now)),
        reserved: false,
    }
}

fn denial_of_unknown(asked: &Asked) -> Decision {
    Decision {
        id: types::new_id(),
        reason: Some(ErrorReason::NoGrant),
        message: explain::unknown_agent(&asked.agent, &asked.team),
        grant_id: None,
        policies: Vec::new(),
        quota: None,
        budget: None,
        reserved: false,
    }
}
