//! One team's agents and grants, arranged for the question of a call. Pure.

use std::{collections::HashMap, sync::Arc};

use super::{Standing, policies::Policies};
use crate::{
    access_requests::Approval,
    pattern,
    policies::{AgentFacts, team::TeamPolicies},
    store::{AccessRequestRow, Changes, GrantRow},
};

/// Grants of one holder by the tool or the pattern that they name, each oldest first.
type ByTool = HashMap<String, Vec<Arc<GrantRow>>>;

/// A team as of a revision.
#[derive(Debug)]
pub(super) struct Index {
    revision: i64,
    daily_micro_usd: i64,
    agents: HashMap<String, AgentFacts>,
    of_agents: HashMap<String, ByTool>,
    of_specializations: HashMap<String, ByTool>,
    /// Approvals that may serve, by agent, each oldest first.
    approvals: HashMap<String, Vec<Approval>>,
    policies: Policies,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            revision: -1,
            daily_micro_usd: 0,
            agents: HashMap::new(),
            of_agents: HashMap::new(),
            of_specializations: HashMap::new(),
            approvals: HashMap::new(),
            policies: Policies::default(),
        }
    }
}

impl Index {
    /// Everything up to this revision is known; -1: nothing is.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    /// The team's own policies that are in force.
    pub(super) fn policies(&self) -> &TeamPolicies {
        self.policies.current()
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
        self.policies.apply(changes.policies);
        for row in changes.approvals {
            self.apply_approval(row);
        }
    }

    fn apply_approval(&mut self, row: AccessRequestRow) {
        let approvals = self.approvals.entry(row.agent_id.clone()).or_default();
        approvals.retain(|there| there.id != row.request_id);
        if let Some(approval) = Approval::of(row) {
            let at = approvals.partition_point(|there| there.id < approval.id);
            approvals.insert(at, approval);
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
            Err(at) if grant.revoke_time.is_none() => grants.insert(at, Arc::new(grant)),
            Ok(_) | Err(_) => {}
        }
    }

    /// Where an agent stands with a tool; `None` when there is no such agent.
    pub(super) fn standing(&self, agent: &str, tool: &str) -> Option<Standing> {
        let agent = self.agents.get(agent)?;
        let names: Vec<String> = pattern::groups(tool).chain([tool.to_owned()]).collect();
        let of = |by_holder: &HashMap<String, ByTool>, holder: &str| -> Vec<Arc<GrantRow>> {
            let Some(by_tool) = by_holder.get(holder) else { return Vec::new() };
            let mut grants: Vec<_> =
                names.iter().filter_map(|name| by_tool.get(name)).flatten().cloned().collect();
            grants.sort_unstable_by_key(|grant| grant.grant_id);
            grants
        };
        let mut grants = of(&self.of_agents, &agent.name);
        grants.extend(of(&self.of_specializations, &agent.specialization));
        let approvals = self.approvals.get(&agent.name).into_iter().flatten();
        Some(Standing {
            agent: agent.clone(),
            grants,
            approvals: approvals.filter(|approval| approval.tool_name == tool).cloned().collect(),
            daily_micro_usd: self.daily_micro_usd,
            policies: self.policies.current().clone(),
            revision: self.revision,
        })
    }
}
