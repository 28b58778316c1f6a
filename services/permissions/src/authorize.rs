//! Decides one call and takes its place in the grant's limit. A fault never allows a call, and no call
//! holds two places.

use std::time::Duration;

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    Error,
    decide::{Candidate, Decided, decide},
    explain,
    policies::{AgentFacts, Policies, ToolFacts},
    store::{self, Held, NewReservation, Standing},
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
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub database: &'a Database,
    pub policies: &'a Policies,
    pub reservation_ttl: Duration,
}

impl Desk<'_> {
    /// Decides at this time. A repeated request for the same execution gets the same decision, as long as
    /// the grant it rests on still stands.
    pub(crate) async fn authorize(&self, asked: &Asked, now: DateTime<Utc>) -> Result<Decision, Error> {
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
        let pool = self.database.pool()?;
        let window = window_start(now);
        let tools = [asked.tool.name.clone()];
        let standing =
            store::standing_get(pool, &asked.team, &asked.agent, &tools, Some(asked.execution_id), window);
        let Some(Standing { specialization, disabled, mut candidates, held }) = standing.await? else {
            return Ok(denial_of_unknown(asked));
        };
        let (team, name) = (asked.team.clone(), asked.agent.clone());
        let agent = AgentFacts { team, name, specialization, disabled };
        if let Some(held) = held {
            return self.repeat(asked, &agent, candidates, &held, now);
        }
        loop {
            let (index, policies) = match decide(self.policies, &agent, &asked.tool, &candidates, now) {
                Decided::Allowed { index, policies } => (index, policies),
                Decided::Denied { reason, index, policies } => {
                    let nearest = index.map(|index| &candidates[index]);
                    return Ok(denial(reason, &agent, &asked.tool, nearest, policies, now));
                }
            };
            let candidate = &mut candidates[index];
            let limit = candidate.grant.max_per_hour;
            if limit == 0 {
                return Ok(permission(types::new_id(), candidate, policies, None));
            }
            let reservation = self.reservation(asked, candidate, now);
            if let Some(used) = store::reservation_insert(pool, &asked.team, &reservation).await? {
                let quota = Quota { limit, used, reset_time: window + TimeDelta::hours(1) };
                return Ok(permission(reservation.decision_id, candidate, policies, Some(quota)));
            }
            // Others took the last places since the counter was read: the policies decide again, knowing it.
            candidate.used = limit;
        }
    }

    fn reservation(&self, asked: &Asked, candidate: &Candidate, now: DateTime<Utc>) -> NewReservation {
        NewReservation {
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
        // Its own place is among those taken, so the limit is not asked again.
        for candidate in &mut candidates {
            candidate.used = 0;
        }
        Ok(match decide(self.policies, agent, &asked.tool, &candidates, now) {
            Decided::Allowed { index, policies } => {
                let reset_time = held.window_start + TimeDelta::hours(1);
                let quota = Quota { limit: held.quota_limit, used: held.used, reset_time };
                permission(held.decision_id, &candidates[index], policies, Some(quota))
            }
            Decided::Denied { reason, index, policies } => {
                denial(reason, agent, &asked.tool, index.map(|index| &candidates[index]), policies, now)
            }
        })
    }
}

/// Start of the clock hour (UTC) of a time.
pub(crate) fn window_start(now: DateTime<Utc>) -> DateTime<Utc> {
    // Fails only for times beyond the year 2262.
    now.duration_trunc(TimeDelta::hours(1)).unwrap_or(now)
}

fn permission(id: Uuid, candidate: &Candidate, policies: Vec<String>, quota: Option<Quota>) -> Decision {
    Decision {
        id,
        reason: None,
        message: explain::permission(&candidate.grant),
        grant_id: Some(candidate.grant.grant_id),
        policies,
        quota,
        reserved: quota.is_some(),
    }
}

fn denial(
    reason: ErrorReason,
    agent: &AgentFacts,
    tool: &ToolFacts,
    nearest: Option<&Candidate>,
    policies: Vec<String>,
    now: DateTime<Utc>,
) -> Decision {
    let window = window_start(now);
    let exhausted = nearest.filter(|_| reason == ErrorReason::QuotaExhausted);
    Decision {
        id: types::new_id(),
        reason: Some(reason),
        message: explain::denial(reason, agent, tool, nearest.map(|candidate| &candidate.grant), window),
        grant_id: nearest.map(|candidate| candidate.grant.grant_id),
        policies,
        quota: exhausted.map(|candidate| Quota {
            limit: candidate.grant.max_per_hour,
            used: candidate.used,
            reset_time: window + TimeDelta::hours(1),
        }),
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
        reserved: false,
    }
}
