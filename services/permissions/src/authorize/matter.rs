//! One call that is being decided: where its agent stands, what is known of its limits so far, and what the answer
//! says. Does no I/O: `Desk` takes what must be taken.

use std::{collections::HashMap, time::Duration};

use ::rpc::ErrorReason;
use chrono::{DateTime, NaiveTime, Utc};
use serde_json::Value;
use uuid::Uuid;

use super::{Asked, Decision, Period, Quota, next_day};
use crate::{
    Error,
    decide::{Arguments, Candidate, Decided, Particulars, Served, by_approval, candidates, decide, verdicts},
    explain,
    ledger::Full,
    policies::{Budget, Call, Failure, Policies, Verdict},
    store::{Held, NewReservation, Used, Windows},
    teams::Standing,
};

/// One call with all that is known of it so far.
pub(crate) struct Matter<'a> {
    pub asked: &'a Asked,
    pub standing: Standing,
    /// Of the grants whose limits were met.
    pub used: HashMap<Uuid, Used>,
    pub budget: Budget,
    pub now: DateTime<Utc>,
}

impl Matter<'_> {
    fn particulars(&self) -> Particulars<'_> {
        let asked = self.asked;
        Particulars {
            team: &asked.team,
            agent: &asked.agent,
            user: &asked.user,
            tool: &asked.tool.name,
            tool_digest: &asked.tool_digest,
            arguments_digest: &asked.arguments_digest,
            arguments: Arguments::Given(self.arguments()),
            now: self.now,
        }
    }

    /// Read only where somebody asks for them.
    fn arguments(&self) -> Option<&Value> {
        let Standing { grants, approvals, policies, .. } = &self.standing;
        let is_asked = !policies.is_empty()
            || !approvals.is_empty()
            || grants.iter().any(|grant| !grant.conditions.is_empty());
        if is_asked { self.asked.arguments.value() } else { None }
    }

    fn call(&self, budget: Budget) -> Call<'_> {
        Call { user: &self.asked.user, arguments: self.arguments(), budget, now: self.now }
    }

    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        candidates(&self.standing.grants, &self.standing.approvals, &self.used, &self.particulars())
    }

    pub(crate) fn decide(&self, policies: &Policies, budget: Budget, candidates: &[Candidate]) -> Decided {
        let call = self.call(budget);
        let sides = (&self.standing.agent, &self.asked.tool);
        decide(policies, sides, call, Some(&self.standing.policies), candidates)
    }

    /// What each candidate says to the call, in their order.
    pub(crate) fn verdicts(&self, policies: &Policies, candidates: &[Candidate]) -> Vec<Verdict> {
        let sides = (&self.standing.agent, &self.asked.tool);
        verdicts(policies, sides, self.call(self.budget), Some(&self.standing.policies), candidates)
    }

    /// What must be taken before the call may be made; `None`: nothing is limited.
    pub(crate) fn reservation(&self, candidate: Option<&Candidate>, ttl: Duration) -> Option<NewReservation> {
        let once = candidate.and_then(Candidate::once);
        let is_limited = candidate.is_some_and(|candidate| candidate.grant.is_limited());
        if !is_limited && once.is_none() && self.budget.limit == 0 {
            return None;
        }
        let limit = |of: fn(&Candidate) -> i64| candidate.map_or(0, of);
        let (asked, windows) = (self.asked, Windows::of(self.now));
        Some(NewReservation {
            team_id: asked.team.clone(),
            decision_id: types::new_id(),
            execution_id: asked.execution_id,
            grant_id: candidate.map_or_else(Uuid::nil, |candidate| candidate.grant.grant_id),
            agent_id: asked.agent.clone(),
            window_start: windows.hour,
            tool_name: asked.tool.name.clone(),
            tool_digest: asked.tool_digest.clone(),
            arguments_digest: asked.arguments_digest.clone(),
            quota_limit: limit(|of| of.grant.max_per_hour),
            day_start: windows.day,
            day_limit: limit(|of| of.grant.max_per_day),
            total_limit: limit(|of| of.grant.max_total),
            approval_id: once,
            expire_time: self.now + ttl,
            day: (self.budget.limit > 0).then(|| self.now.date_naive()),
            cost_micro_usd: if self.budget.limit > 0 { self.budget.cost } else { 0 },
            budget_limit: self.budget.limit,
        })
    }

    /// Learns which counters are full.
    pub(crate) fn learn(&mut self, asked_for: &NewReservation, full: Full) {
        let used = self.used.entry(asked_for.grant_id).or_default();
        used.hour = full.hour.unwrap_or(used.hour);
        used.day = full.day.unwrap_or(used.day);
        used.total = full.total.unwrap_or(used.total);
        if full.approval {
            self.standing.approvals.retain(|approval| Some(approval.id) != asked_for.approval_id);
        }
    }

    /// The execution holds a place already: the same decision, unless its grant no longer allows the call.
    pub(crate) fn repeat(&self, policies_of_all: &Policies, held: &Held) -> Result<Decision, Error> {
        let asked = self.asked;
        let same = held.agent_id == asked.agent
            && held.tool_name == asked.tool.name
            && held.tool_digest == asked.tool_digest
            && held.arguments_digest == asked.arguments_digest;
        if !same {
            return Err(Error::ExecutionReused { execution: asked.execution_id });
        }
        // Its own places and cost are among those taken, so the limits are not asked again; and an approval for one
        // call serves this one for ever.
        let mut candidates = self.candidates();
        candidates.retain(|candidate| candidate.grant.grant_id == held.grant_id);
        if let Some(id) = held.approval_id {
            let served = Served { id, is_once: true };
            if id == held.grant_id {
                candidates = vec![by_approval(&self.particulars(), served)];
            }
            for candidate in &mut candidates {
                candidate.approval = Some(served);
            }
        }
        for candidate in &mut candidates {
            candidate.used = Used::default();
        }
        Ok(match self.decide(policies_of_all, Budget::NONE, &candidates) {
            Decided::Allowed { index, policies } => {
                let limits = [held.quota_limit, held.day_limit, held.total_limit];
                let quotas = quotas(limits, held.used, Windows::of(held.window_start));
                let budget = held.day.and_then(|day| {
                    quota_of_day(held.budget_limit, held.budget_used, day.and_time(NaiveTime::MIN).and_utc())
                });
                let candidate = index.map(|index| &candidates[index]);
                self.permission(held.decision_id, candidate, policies, quotas, budget)
            }
            Decided::Denied { reason, index, policies } => {
                self.denial(policies_of_all, reason, index.map(|index| &candidates[index]), policies)
            }
        })
    }

    pub(crate) fn permission(
        &self,
        id: Uuid,
        candidate: Option<&Candidate>,
        policies: Vec<String>,
        quotas: Vec<Quota>,
        budget: Option<Quota>,
    ) -> Decision {
        let once = candidate.and_then(Candidate::once);
        Decision {
            id,
            reason: None,
            message: explain::permission(candidate, &policies),
            grant_id: grant_of(candidate),
            approval_id: candidate.and_then(|candidate| candidate.approval).map(|approval| approval.id),
            policies,
            reserved: !quotas.is_empty() || budget.is_some() || once.is_some(),
            quotas,
            budget,
            approver_role: None,
            revision: self.standing.revision,
        }
    }

    /// Why policies could not be evaluated, where that may be why the call is denied.
    fn failures(
        &self,
        policies: &Policies,
        reason: ErrorReason,
        nearest: Option<&Candidate>,
    ) -> Vec<Failure> {
        if !matches!(reason, ErrorReason::PolicyDenied | ErrorReason::Internal) {
            return Vec::new();
        }
        let (agent, tool) = (&self.standing.agent, &self.asked.tool);
        let asking = policies.asking(agent, tool, self.call(self.budget), Some(&self.standing.policies));
        asking.map(|asking| asking.failures(nearest)).unwrap_or_default()
    }

    pub(crate) fn denial(
        &self,
        policies_of_all: &Policies,
        reason: ErrorReason,
        nearest: Option<&Candidate>,
        policies: Vec<String>,
    ) -> Decision {
        let failures = self.failures(policies_of_all, reason, nearest);
        let exhausted = nearest.filter(|_| reason == ErrorReason::QuotaExhausted);
        let quotas = exhausted.map(|candidate| used_up(candidate, Windows::of(self.now))).unwrap_or_default();
        let spent = (reason == ErrorReason::BudgetExhausted).then_some(self.budget);
        let asks = explain::Denial {
            reason,
            agent: &self.standing.agent,
            tool: &self.asked.tool,
            nearest,
            team: &self.standing.policies,
            policies: &policies,
            failures: &failures,
            budget: self.budget,
            now: self.now,
        };
        let needed = nearest.and_then(|candidate| candidate.grant.approver_role);
        Decision {
            id: types::new_id(),
            reason: Some(reason),
            message: asks.message(),
            grant_id: grant_of(nearest),
            approval_id: None,
            policies,
            quotas,
            budget: spent.and_then(|budget| quota_of_day(budget.limit, budget.used, self.now)),
            reserved: false,
            approver_role: needed.filter(|_| reason == ErrorReason::ApprovalRequired),
            revision: self.standing.revision,
        }
    }
}

fn grant_of(candidate: Option<&Candidate>) -> Option<Uuid> {
    candidate.filter(|candidate| !candidate.is_approval).map(|candidate| candidate.grant.grant_id)
}

pub(super) fn limits_of(reservation: &NewReservation) -> [i64; 3] {
    [reservation.quota_limit, reservation.day_limit, reservation.total_limit]
}

/// The limits of an hour, of a day and in all; those that are 0 are none.
pub(crate) fn quotas(limits: [i64; 3], used: Used, windows: Windows) -> Vec<Quota> {
    let resets = [Some(windows.next_hour()), Some(windows.next_day()), None];
    let periods = [Period::Hour, Period::Day, Period::Total];
    let used = [used.hour, used.day, used.total];
    let all = periods.into_iter().zip(limits).zip(used).zip(resets);
    let limited = all.filter(|(((_, limit), _), _)| *limit > 0);
    limited.map(|(((period, limit), used), reset_time)| Quota { period, limit, used, reset_time }).collect()
}

/// The limits of a grant that are used up, as far as is known.
fn used_up(candidate: &Candidate, windows: Windows) -> Vec<Quota> {
    let grant = &candidate.grant;
    let limits = [grant.max_per_hour, grant.max_per_day, grant.max_total];
    let all = quotas(limits, candidate.used, windows).into_iter();
    all.filter(|quota| quota.used >= quota.limit).collect()
}

/// `None` where there is no budget.
pub(crate) fn quota_of_day(limit: i64, used: i64, at: DateTime<Utc>) -> Option<Quota> {
    let reset_time = Some(next_day(at));
    (limit > 0).then_some(Quota { period: Period::Day, limit, used, reset_time })
}
