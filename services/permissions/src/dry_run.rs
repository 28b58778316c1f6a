//! Tries a policy on the calls of the trail: which of them would have been decided otherwise. Only policies differ:
//! limits of grants and of the budget are left out. Reads the trail and the catalog as the caller, and changes nothing.

mod past;
mod trial;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ::rpc::{Link, Outgoing};
use chrono::{DateTime, TimeDelta, Utc};
use types::Caller;

use crate::{
    Error,
    authorize::Desk,
    names,
    policies::team::TeamPolicies,
    put_policy::{checked, no_policy},
    teams::Standing,
};
use past::{Page, PastCall, Sources, Tool};
use trial::{Outcome, Trial};

/// Calls that are looked at unless told otherwise.
const DEFAULT_CALLS: i32 = 10_000;
/// Most calls that are looked at.
const MAX_CALLS: i32 = 100_000;
/// Most changed decisions that are told.
const MAX_CHANGED: usize = 100;
/// How far back is looked unless told otherwise.
const DEFAULT_DAYS: i64 = 7;
/// How long it takes at most; what was looked at until then is told.
const MAX_TIME: Duration = Duration::from_secs(25);
/// What is left of the caller's time to answer in.
const MARGIN: Duration = Duration::from_secs(2);

/// The policy to try, and on what.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub name: String,
    /// Empty: as if it were removed.
    pub text: String,
    pub start_time: Option<DateTime<Utc>>,
    /// 0: `DEFAULT_CALLS`.
    pub max_calls: i32,
}

/// What would have been decided otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub calls: i64,
    pub newly_denied: i64,
    pub newly_allowed: i64,
    pub undecided: i64,
    /// The newest of them, at most `MAX_CHANGED`.
    pub changed: Vec<Changed>,
}

/// A past call that would have been decided otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    pub event_id: String,
    pub execution_id: String,
    pub time: DateTime<Utc>,
    pub agent_id: String,
    pub tool_name: String,
    pub was_allowed: bool,
    /// Policies that would decide.
    pub policies: Vec<String>,
}

/// Who asks, and with what.
pub(crate) struct DryRun<'a> {
    pub desk: &'a Desk,
    pub registry: &'a Link,
    pub audit: &'a Link,
    pub outgoing: &'a Outgoing,
    pub caller: &'a Caller,
    /// How long the caller waits.
    pub time_left: Duration,
}

/// What was learned in one run.
#[derive(Default)]
struct Known {
    tools: HashMap<Tool, Option<crate::policies::ToolFacts>>,
    standings: HashMap<(String, String), Option<Standing>>,
}

impl DryRun<'_> {
    /// Tries the policy, newest calls first.
    pub(crate) async fn run(&self, proposal: Proposal, now: DateTime<Utc>) -> Result<Report, Error> {
        let (start, most) = bounds(&proposal, now)?;
        let mut trial = self.trial(&proposal).await?;
        let until = Instant::now() + MAX_TIME.min(self.time_left.saturating_sub(MARGIN));
        let (mut known, mut report, mut page) = (Known::default(), Report::default(), Page::first(start));
        let sources = self.sources(until);
        loop {
            let (calls, next) = sources.calls(page).await?;
            for call in calls {
                if report.calls >= most || Instant::now() >= until {
                    return Ok(report);
                }
                tokio::task::consume_budget().await;
                let outcome = self.outcome(&mut trial, &mut known, &sources, &call).await?;
                report.count(call, outcome);
            }
            match next {
                Some(next) if Instant::now() < until => page = next,
                _ => return Ok(report),
            }
        }
    }

    fn sources(&self, until: Instant) -> Sources<'_> {
        Sources {
            registry: self.registry,
            audit: self.audit,
            outgoing: self.outgoing,
            caller: self.caller,
            until,
        }
    }

    /// The team's policies as they are, and as they would be.
    async fn trial(&self, proposal: &Proposal) -> Result<Trial, Error> {
        let (team, name) = (self.caller.team.as_str(), proposal.name.as_str());
        let new = match proposal.text.as_str() {
            "" => None,
            text => Some(checked(team, name, text)?),
        };
        let current = self.desk.teams.policies(team).await?;
        // One that cannot be read would deny everything, with this policy and without it.
        let readable: Vec<_> = current.iter().collect();
        let before = TeamPolicies::new(readable.iter(), Vec::new());
        let old = before.get(name);
        if new.is_none() && old.is_none() {
            return Err(no_policy(name));
        }
        let after = before.with(name, new.as_ref());
        Ok(Trial::new(before, after, [old, new].into_iter().flatten().collect()))
    }

    async fn outcome(
        &self,
        trial: &mut Trial,
        known: &mut Known,
        sources: &Sources<'_>,
        call: &PastCall,
    ) -> Result<Outcome, Error> {
        if !known.tools.contains_key(&call.tool) {
            known.tools.insert(call.tool.clone(), sources.facts(&call.tool).await?);
        }
        let key = (call.agent_id.clone(), call.tool.name.clone());
        if !known.standings.contains_key(&key) {
            let tools = [call.tool.name.as_str()];
            let found = self.desk.teams.standings(&self.caller.team, &call.agent_id, &tools, 0).await?;
            known.standings.insert(key.clone(), found.and_then(|mut found| found.pop()));
        }
        let facts = known.tools.get(&call.tool).and_then(Option::as_ref);
        let standing = known.standings.get(&key).and_then(Option::as_ref);
        let (Some(facts), Some(standing)) = (facts, standing) else { return Ok(Outcome::Undecided) };
        Ok(trial.decide(&self.desk.policies, call, facts, standing))
    }
}

impl Report {
    fn count(&mut self, call: PastCall, outcome: Outcome) {
        self.calls += 1;
        let policies = match outcome {
            Outcome::Same => return,
            Outcome::Undecided => {
                self.undecided += 1;
                return;
            }
            Outcome::Otherwise(policies) => policies,
        };
        if call.was_allowed {
            self.newly_denied += 1;
        } else {
            self.newly_allowed += 1;
        }
        if self.changed.len() < MAX_CHANGED {
            self.changed.push(Changed {
                event_id: call.event_id,
                execution_id: call.execution_id,
                time: call.time,
                agent_id: call.agent_id,
                tool_name: call.tool.name,
                was_allowed: call.was_allowed,
                policies,
            });
        }
    }
}

/// Since when, and how many calls.
fn bounds(proposal: &Proposal, now: DateTime<Utc>) -> Result<(DateTime<Utc>, i64), Error> {
    names::name("name", &proposal.name)?;
    if !(0..=MAX_CALLS).contains(&proposal.max_calls) {
        return Err(Error::invalid(
            "max_calls",
            format!("must be 1 to {MAX_CALLS}, or 0 for {DEFAULT_CALLS}"),
        ));
    }
    let most = if proposal.max_calls == 0 { DEFAULT_CALLS } else { proposal.max_calls };
    let start = proposal.start_time.unwrap_or(now - TimeDelta::days(DEFAULT_DAYS));
    if start >= now {
        return Err(Error::invalid("start_time", "is not past; there are no calls since then"));
    }
    Ok((start, most.into()))
}
