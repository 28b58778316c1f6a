//! One team's agents and grants, arranged for the question of a call. Pure.

use std::collections::HashMap;

use super::Standing;
use crate::{
    decide::Candidate,
    policies::AgentFacts,
    store::{Changes, GrantRow},
};

/// Grants of one holder by tool, each oldest first.
type ByTool = HashMap<String, Vec<GrantRow>>;

/// A team as of a revision.
#[derive(Debug)]
pub(super) struct Index {
    revision: i64,
    daily_micro_usd: i64,
    agents: HashMap<String, AgentFacts>,
    of_agents: HashMap<String, ByTool>,
    of_specializations: HashMap<String, ByTool>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            revision: -1,
            daily_micro_usd: 0,
            agents: HashMap::new(),
            of_agents: HashMap::new(),
            of_specializations: HashMap::new(),
        }
    }
}

impl Index {
    /// Everything up to this revision is known; -1: nothing is.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// Takes changes in. They must follow on a revision that was known; older news is dropped.
    pub(super) fn apply(&mut self, changes: Changes) {
        if changes.revision <= self.revision {
            return;
        }
        self.revision = changes.revision;
        self.daily_micro_usd = changes.daily_micro_usd;
        for agent in changes.agents {
            self.agents.insert(agent.name.clone(), agent);
        }
        for grant in changes.grants {
            self.apply_grant(grant);
        }
    }

    fn apply_grant(&mut self, grant: GrantRow) {
        let (by_holder, holder) = match (&grant.agent_id, &grant.specialization) {
            (Some(agent), _) => (&mut self.of_agents, agent),
            (None, Some(specialization)) => (&mut self.of_specializations, specialization),
            (None, None) => return,
        };
        let by_tool = by_holder.entry(holder.clone()).or_default();
        let grants = by_tool.entry(grant.tool_name.clone()).or_default();
        // Ids are ordered by the time they were made.
        match grants.binary_search_by_key(&grant.grant_id, |there| there.grant_id) {
            Ok(at) if grant.revoke_time.is_some() => drop(grants.remove(at)),
            Err(at) if grant.revoke_time.is_none() => grants.insert(at, grant),
            Ok(_) | Err(_) => {}
        }
    }

    /// Where an agent stands with a tool; `None` when there is no such agent.
    pub(super) fn standing(&self, agent: &str, tool: &str) -> Option<Standing> {
        let agent = self.agents.get(agent)?;
        let of = |by_holder: &HashMap<String, ByTool>, holder: &str| -> Vec<Candidate> {
            let grants = by_holder.get(holder).and_then(|by_tool| by_tool.get(tool));
            grants.into_iter().flatten().map(|grant| Candidate { grant: grant.clone(), used: 0 }).collect()
        };
        let mut candidates = of(&self.of_agents, &agent.name);
        candidates.extend(of(&self.of_specializations, &agent.specialization));
        Some(Standing { agent: agent.clone(), candidates, daily_micro_usd: self.daily_micro_usd })
    }
}
