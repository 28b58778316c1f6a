//! Tells what would be decided on a call and by what: every grant, limit and policy. Decides with what `authorize.rs`
//! decides with, and no logic of its own; must never reserve anything, nor keep or show the arguments.

use std::collections::HashMap;

use ::rpc::{ErrorReason, Link, Outgoing};
use ::store::Database;
use chrono::{DateTime, Utc};
use serde_json::Value;
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error,
    access_requests::Registry,
    authorize::{Asked, Decision, Desk, Matter, Quota, quota_of_day, quotas},
    decide::{Candidate, Decided},
    names,
    policies::ToolFacts,
    store::{self, AgentRow, ListedGrant, Windows},
};

/// Most characters of an end user's name, as the edge takes them.
const MAX_USER: usize = 256;

/// What is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Empty: the caller.
    pub agent: String,
    pub tool: String,
    /// As JSON text; empty: none.
    pub arguments: String,
    pub user: String,
    /// When the call would be made; `None`: now.
    pub at: Option<DateTime<Utc>>,
}

/// What would be decided.
#[derive(Debug)]
pub(crate) struct Explained {
    pub decision: Decision,
    pub grants: Vec<GrantExplained>,
    pub budget: Option<Quota>,
    pub agent: AgentRow,
    pub tool: ToolFacts,
    pub tool_digest: String,
}

/// What one grant says.
#[derive(Debug)]
pub(crate) struct GrantExplained {
    pub grant: ListedGrant,
    /// Why it does not allow the call; empty when it does.
    pub reasons: Vec<ErrorReason>,
    /// The policies that forbid.
    pub policies: Vec<String>,
    pub quotas: Vec<Quota>,
    pub unmet: Vec<String>,
    /// The approval that serves the call.
    pub approval: Option<Uuid>,
}

/// Explains a call of the caller, or of another agent to those who may know.
pub(crate) async fn explain(
    database: &Database,
    desk: &Desk,
    (link, outgoing): (&Link, &Outgoing),
    caller: &Caller,
    question: Question,
    now: DateTime<Utc>,
) -> Result<Explained, Error> {
    let agent = if question.agent.is_empty() { caller.agent.clone() } else { question.agent.clone() };
    check(caller, &agent, &question)?;
    let arguments_digest = arguments_digest(&question.arguments)?;
    let known = store::agent_get(database.pool()?, &caller.team, &agent).await?;
    let known = known.ok_or_else(|| Error::no_agent(&agent))?;
    let serving = Registry { link, outgoing }.serving(caller, &question.tool).await?;
    let asked = Asked {
        team: caller.team.clone(),
        agent,
        tool: serving.facts,
        tool_digest: serving.digest,
        arguments_digest,
        // No execution: nothing is reserved for it.
        execution_id: Uuid::nil(),
        cost_micro_usd: serving.cost_micro_usd,
        user: question.user,
        arguments: question.arguments.into(),
        at_least_revision: 0,
    };
    let mut matter = desk
        .matter(&asked, question.at.unwrap_or(now))
        .await?
        .ok_or_else(|| Error::no_agent(&asked.agent))?;
    let budget = limits(database, &mut matter, now).await?;
    let candidates = matter.candidates();
    let decision = decision(&matter, desk, &candidates);
    let grants = grants(database, &matter, desk, candidates, now).await?;
    Ok(Explained { decision, grants, budget, agent: known, tool: asked.tool, tool_digest: asked.tool_digest })
}

fn check(caller: &Caller, agent: &str, question: &Question) -> Result<(), Error> {
    names::name("agent_id", agent)?;
    names::tool("tool_name", &question.tool)?;
    if agent != caller.agent && caller.role < Role::Auditor {
        return Err(Error::RoleRequired {
            what: "explaining what another agent may do",
            needed: Role::Auditor,
        });
    }
    if question.user.chars().count() > MAX_USER || question.user.chars().any(char::is_control) {
        return Err(Error::invalid(
            "user",
            format!("must have at most {MAX_USER} characters, all of them visible"),
        ));
    }
    Ok(())
}

/// The digest by which approvals know the arguments; empty where there are none.
fn arguments_digest(text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let wrong = || Error::invalid("arguments_json", "is not the JSON text of an object");
    let value: Value = serde_json::from_str(text).map_err(|_| wrong())?;
    if !value.is_object() {
        return Err(wrong());
    }
    types::digest_json(&value).map_err(|_| wrong())
}

/// Reads what is used of every limit, as it stands now, and leaves out approvals that served their only call.
async fn limits(
    database: &Database,
    matter: &mut Matter<'_>,
    now: DateTime<Utc>,
) -> Result<Option<Quota>, Error> {
    let (pool, asked) = (database.pool()?, matter.asked);
    let once =
        matter.standing.approvals.iter().filter(|approval| approval.is_once()).map(|approval| approval.id);
    let mut counters: Vec<Uuid> = once.collect();
    counters.extend(matter.standing.grants.iter().map(|grant| grant.grant_id));
    matter.used =
        store::grants_used(pool, &asked.team, Some(&asked.agent), &counters, Windows::of(now)).await?;
    let used = &matter.used;
    matter
        .standing
        .approvals
        .retain(|approval| !approval.is_once() || used.get(&approval.id).is_none_or(|used| used.total == 0));
    if matter.budget.limit == 0 {
        return Ok(None);
    }
    let spent = store::budget_get(pool, &asked.team, now.date_naive()).await?;
    matter.budget.used = spent.spent.saturating_add(spent.reserved);
    Ok(quota_of_day(matter.budget.limit, matter.budget.used, now))
}

fn decision(matter: &Matter<'_>, desk: &Desk, candidates: &[Candidate]) -> Decision {
    match matter.decide(&desk.policies, matter.budget, candidates) {
        Decided::Allowed { index, policies } => {
            matter.permission(Uuid::nil(), index.map(|index| &candidates[index]), policies, Vec::new(), None)
        }
        Decided::Denied { reason, index, policies } => {
            matter.denial(&desk.policies, reason, index.map(|index| &candidates[index]), policies)
        }
    }
}

/// What each grant says, in the order in which they are tried.
async fn grants(
    database: &Database,
    matter: &Matter<'_>,
    desk: &Desk,
    candidates: Vec<Candidate>,
    now: DateTime<Utc>,
) -> Result<Vec<GrantExplained>, Error> {
    let verdicts = matter.verdicts(&desk.policies, &candidates);
    let grants: Vec<_> = candidates.iter().map(|candidate| candidate.grant.grant_id).collect();
    let windows = Windows::of(now);
    let by_all = store::grants_used(database.pool()?, &matter.asked.team, None, &grants, windows).await?;
    let by_all: HashMap<_, _> = by_all;
    let explained = candidates.into_iter().zip(verdicts).filter(|(candidate, _)| !candidate.is_approval);
    let explained = explained.map(|(candidate, verdict)| {
        let grant = candidate.grant.as_ref();
        GrantExplained {
            quotas: quotas([grant.max_per_hour, grant.max_per_day, grant.max_total], candidate.used, windows),
            policies: if verdict.allowed { Vec::new() } else { verdict.policies },
            reasons: verdict.reasons,
            unmet: candidate.unmet,
            approval: candidate.approval.map(|approval| approval.id),
            grant: ListedGrant {
                used: by_all.get(&grant.grant_id).copied().unwrap_or_default(),
                grant: grant.clone(),
                revision: matter.standing.revision,
            },
        }
    });
    Ok(explained.collect())
}
