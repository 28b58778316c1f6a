//! Tells for many tools whether the agent could call them now. Reserves nothing: a later call may still
//! be denied. What a call would cost is not asked, so the budget is not either; nor are its arguments, so
//! conditions on them are not, and no approval that is bound to them serves.

use std::collections::HashMap;

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Error,
    authorize::Desk,
    decide::{Arguments, Decided, Particulars, candidates, decide},
    policies::{Budget, Call, ToolFacts},
    store::{self, Used, Windows},
    teams::Standing,
};

/// Most tools in one request.
const MAX_TOOLS: usize = 10_000;
/// Decisions made before other calls get their turn; one takes some 30 µs.
const TURN: usize = 100;

/// One answer for each tool, in their order: why not, or `None` when the call would be allowed.
pub(crate) async fn batch_authorize(
    database: &Database,
    desk: &Desk,
    (team, agent, user): (&str, &str, &str),
    tools: &[ToolFacts],
    now: DateTime<Utc>,
) -> Result<Vec<Option<ErrorReason>>, Error> {
    if tools.len() > MAX_TOOLS {
        let description = format!("has {} tools; at most {MAX_TOOLS} are taken", tools.len());
        return Err(Error::invalid("tools", description));
    }
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let Some(standings) = desk.teams.standings(team, agent, &names, 0).await? else {
        return Ok(vec![Some(ErrorReason::NoGrant); tools.len()]);
    };
    let used = used(database, team, agent, &standings, now).await?;
    let mut answers = Vec::with_capacity(tools.len());
    let asked: Vec<_> = tools.iter().zip(&standings).collect();
    for turn in asked.chunks(TURN) {
        answers.extend(turn.iter().map(|(tool, standing)| {
            let particulars = Particulars {
                team,
                agent,
                user,
                tool: &tool.name,
                tool_digest: "",
                arguments_digest: "",
                arguments: Arguments::NotYet,
                now,
            };
            let candidates = candidates(&standing.grants, &standing.approvals, &used, &particulars);
            let call = Call { user, arguments: None, budget: Budget::NONE, now };
            match decide(&desk.policies, (&standing.agent, tool), call, Some(&standing.policies), &candidates)
            {
                Decided::Allowed { .. } => None,
                Decided::Denied { reason, .. } => Some(reason),
            }
        }));
        tokio::task::yield_now().await;
    }
    Ok(answers)
}

/// The places taken of the grants that have a limit, if there are any.
async fn used(
    database: &Database,
    team: &str,
    agent: &str,
    standings: &[Standing],
    now: DateTime<Utc>,
) -> Result<HashMap<Uuid, Used>, Error> {
    let grants = standings.iter().flat_map(|standing| &standing.grants);
    let mut limited: Vec<_> = grants.filter(|grant| grant.is_limited()).map(|grant| grant.grant_id).collect();
    if limited.is_empty() {
        return Ok(HashMap::new());
    }
    limited.sort_unstable();
    limited.dedup();
    Ok(store::grants_used(database.pool()?, team, Some(agent), &limited, Windows::of(now)).await?)
}
