//! Tells for many tools whether the agent could call them now. Reserves nothing: a later call may still
//! be denied. What a call would cost is not asked, so the budget is not either.

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, Utc};

use crate::{
    Error,
    authorize::{Desk, window_start},
    decide::{Decided, decide},
    policies::{Budget, ToolFacts},
    store,
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
    team: &str,
    agent: &str,
    tools: &[ToolFacts],
    now: DateTime<Utc>,
) -> Result<Vec<Option<ErrorReason>>, Error> {
    if tools.len() > MAX_TOOLS {
        let description = format!("has {} tools; at most {MAX_TOOLS} are taken", tools.len());
        return Err(Error::invalid("tools", description));
    }
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_str()).collect();
    let Some(mut standings) = desk.teams.standings(team, agent, &names).await? else {
        return Ok(vec![Some(ErrorReason::NoGrant); tools.len()]);
    };
    count(database, team, agent, &mut standings, now).await?;
    let mut answers = Vec::with_capacity(tools.len());
    let asked: Vec<_> = tools.iter().zip(&standings).collect();
    for turn in asked.chunks(TURN) {
        answers.extend(turn.iter().map(|(tool, Standing { agent, candidates, .. })| {
            match decide(&desk.policies, agent, tool, candidates, Budget::NONE, now) {
                Decided::Allowed { .. } => None,
                Decided::Denied { reason, .. } => Some(reason),
            }
        }));
        tokio::task::yield_now().await;
    }
    Ok(answers)
}

/// Reads the places taken of the grants that have a limit, if there are any.
async fn count(
    database: &Database,
    team: &str,
    agent: &str,
    standings: &mut [Standing],
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut limited: Vec<_> = standings
        .iter_mut()
        .flat_map(|standing| &mut standing.candidates)
        .filter(|candidate| candidate.grant.max_per_hour > 0)
        .collect();
    if limited.is_empty() {
        return Ok(());
    }
    let mut grants: Vec<_> = limited.iter().map(|candidate| candidate.grant.grant_id).collect();
    grants.sort_unstable();
    grants.dedup();
    let used = store::counters_used(database.pool()?, team, agent, &grants, window_start(now)).await?;
    for candidate in &mut limited {
        candidate.used = used.get(&candidate.grant.grant_id).copied().unwrap_or(0);
    }
    Ok(())
}
