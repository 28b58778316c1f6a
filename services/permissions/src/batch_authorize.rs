//! Tells for many tools whether the agent could call them now. Reserves nothing: a later call may still
//! be denied.

use std::collections::HashMap;

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, Utc};

use crate::{
    Error,
    authorize::window_start,
    decide::{Candidate, Decided, decide},
    policies::{AgentFacts, Policies, ToolFacts},
    store::{self, Standing},
};

/// Most tools in one request.
const MAX_TOOLS: usize = 10_000;
/// Decisions made before other calls get their turn; one takes some 30 µs.
const TURN: usize = 100;

/// One answer for each tool, in their order: why not, or `None` when the call would be allowed.
pub(crate) async fn batch_authorize(
    database: &Database,
    policies: &Policies,
    team: &str,
    agent: &str,
    tools: &[ToolFacts],
    now: DateTime<Utc>,
) -> Result<Vec<Option<ErrorReason>>, Error> {
    if tools.len() > MAX_TOOLS {
        let description = format!("has {} tools; at most {MAX_TOOLS} are taken", tools.len());
        return Err(Error::invalid("tools", description));
    }
    let names: Vec<String> = tools.iter().map(|tool| tool.name.clone()).collect();
    let standing =
        store::standing_get(database.pool()?, team, agent, &names, None, window_start(now)).await?;
    let Some(Standing { specialization, disabled, candidates, .. }) = standing else {
        return Ok(vec![Some(ErrorReason::NoGrant); tools.len()]);
    };
    let mut by_tool: HashMap<String, Vec<Candidate>> = HashMap::new();
    for candidate in candidates {
        by_tool.entry(candidate.grant.tool_name.clone()).or_default().push(candidate);
    }
    let facts = AgentFacts { team: team.to_owned(), name: agent.to_owned(), specialization, disabled };
    let mut answers = Vec::with_capacity(tools.len());
    for turn in tools.chunks(TURN) {
        answers.extend(turn.iter().map(|tool| {
            let candidates = by_tool.get(&tool.name).map_or(&[][..], Vec::as_slice);
            match decide(policies, &facts, tool, candidates, now) {
                Decided::Allowed { .. } => None,
                Decided::Denied { reason, .. } => Some(reason),
            }
        }));
        tokio::task::yield_now().await;
    }
    Ok(answers)
}
