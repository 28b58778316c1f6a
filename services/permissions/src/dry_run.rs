//! Tries a policy on the calls of the trail: which of them would have been decided otherwise. Only policies differ:
//! limits of grants and of the budget are left out. Reads the trail and the catalog as the caller, and changes nothing.

mod past;
mod trial;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ::rpc::{Link, Outgoing, ServiceError};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use types::{Caller, Kind};

use crate::{
    Error,
    authorize::Desk,
    names,
    policies::team::TeamPolicies,
    put_policy::{checked, no_policy},
    teams::Standing,
};
use past::{Found, Page, PastCall, Sources, Tool};
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
    /// Why not every call was looked at that was asked for; `None`: every one was.
    pub incomplete: Option<String>,
    /// Of the oldest call that was looked at.
    pub oldest: Option<DateTime<Utc>>,
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
        let mut report = Report::default();
        match self.look(&mut trial, &mut report, (start, most), until).await {
            Ok(incomplete) => report.incomplete = incomplete,
            // What was looked at holds, whoever is away now.
            Err(error) if report.calls > 0 && is_away(&error) => {
                tracing::warn!(%error, "a dry run ends before its last call");
                report.incomplete = Some(error.public_message());
            }
            Err(error) => return Err(error),
        }
        Ok(report)
    }

    /// Looks at calls, newest first, and tells why not at all that were asked for.
    async fn look(
        &self,
        trial: &mut Trial,
        report: &mut Report,
        (start, most): (DateTime<Utc>, i64),
        until: Instant,
    ) -> Result<Option<String>, Error> {
        let (mut known, mut page) = (Known::default(), Page::first(start));
        let sources = self.sources(until);
        let out_of_time = || Some("the time is over; ask for fewer calls".to_owned());
        loop {
            let Found { calls, next, kept_since } = sources.calls(page).await?;
            for call in calls {
                if report.calls >= most {
                    return Ok(None);
                }
                if Instant::now() >= until {
                    return Ok(out_of_time());
                }
                tokio::task::consume_budget().await;
                let outcome = self.outcome(trial, &mut known, &sources, &call).await?;
                report.count(call, outcome);
            }
            match next {
                Some(_) if report.calls >= most => return Ok(None),
                Some(_) if Instant::now() >= until => return Ok(out_of_time()),
                Some(next) => page = next,
                None => {
                    let told = |since: DateTime<Utc>| {
                        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                        format!("the trail is kept since {since} only")
                    };
                    return Ok(kept_since.map(told));
                }
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
        self.oldest = Some(call.time);
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

/// Whether somebody who was asked does not answer for now.
fn is_away(error: &Error) -> bool {
    matches!(error.kind(), Kind::Unavailable | Kind::Deadline)
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
