//! How one past call would be decided with the team's policies as they are, and as they would be. Pure. What depends on
//! something that is not kept of the call is not decided.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use super::past::PastCall;
use crate::{
    decide::{Candidate, Decided, decide},
    policies::{
        Budget, Call, Policies, ToolFacts,
        team::{TeamPolicies, TeamPolicy},
        unknown::Unknown,
    },
    store::{GrantRow, Used},
    teams::Standing,
};

/// What the policy would change of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing, or nothing that the trail could tell.
    Same,
    /// It depends on what is not known.
    Undecided,
    /// It would be decided otherwise, by these policies.
    Otherwise(Vec<String>),
}

/// The policies to compare.
pub(super) struct Trial {
    before: TeamPolicies,
    after: TeamPolicies,
    /// The policy as it is and as it would be, as far as there is one.
    versions: Vec<TeamPolicy>,
    /// Those that ask what is not known, failing where they do, by what is not known: each on its own.
    failing: HashMap<Unknown, Failing>,
}

#[derive(Default)]
struct Failing {
    of_versions: Vec<TeamPolicies>,
    of_all: Vec<TeamPolicies>,
}

impl Trial {
    pub(super) fn new(before: TeamPolicies, after: TeamPolicies, versions: Vec<TeamPolicy>) -> Self {
        Self { before, after, versions, failing: HashMap::new() }
    }

    /// What would be otherwise of a call.
    pub(super) fn decide(
        &mut self,
        policies: &Policies,
        past: &PastCall,
        tool: &ToolFacts,
        standing: &Standing,
    ) -> Outcome {
        let call =
            Call { user: "", arguments: past.arguments.as_ref(), budget: Budget::NONE, now: past.time };
        let sides = (&standing.agent, tool);
        let mut candidates: Vec<_> = standing.grants.iter().map(unlimited).collect();
        let asks = |failing: &[TeamPolicies], candidates: &[Candidate]| {
            failing.iter().any(|failing| match policies.asking(sides.0, sides.1, call, Some(failing)) {
                Some(asking) => {
                    asking.errs(None) || candidates.iter().any(|candidate| asking.errs(Some(candidate)))
                }
                None => true,
            })
        };
        let unknown = Unknown::of(past.arguments.as_ref());
        let failing = match self.failing.entry(unknown) {
            Entry::Occupied(there) => there.into_mut(),
            Entry::Vacant(room) => {
                let failing = Failing::new(room.key(), &self.versions, &self.before);
                room.insert(failing)
            }
        };
        if asks(&failing.of_versions, &candidates) {
            return Outcome::Undecided;
        }
        let mut before = decide(policies, sides, call, Some(&self.before), &candidates);
        if past.was_allowed && !is_allowed(&before) {
            // Something allowed it then that may not be there any more.
            let holder = (Some(standing.agent.name.clone()), None);
            let plain = GrantRow::plain(&standing.agent.team, holder, &tool.name, ("", past.time));
            candidates.push(unlimited(&Arc::new(plain)));
            before = decide(policies, sides, call, Some(&self.before), &candidates);
        }
        if is_allowed(&before) != past.was_allowed {
            // What was decided then is not what would be decided now, with this policy or without it.
            return if asks(&failing.of_all, &candidates) { Outcome::Undecided } else { Outcome::Same };
        }
        match decide(policies, sides, call, Some(&self.after), &candidates) {
            after if is_allowed(&after) == past.was_allowed => Outcome::Same,
            Decided::Allowed { policies, .. } | Decided::Denied { policies, .. } => {
                Outcome::Otherwise(policies)
            }
        }
    }
}

impl Failing {
    fn new(unknown: &Unknown, versions: &[TeamPolicy], all: &TeamPolicies) -> Self {
        let alone = |policy: TeamPolicy| TeamPolicies::new(std::iter::once(&policy), Vec::new());
        let failing = |policy: &TeamPolicy| unknown.fail(policy).map(alone);
        Self {
            of_versions: versions.iter().filter_map(failing).collect(),
            of_all: all.iter().filter_map(|policy| failing(&policy)).collect(),
        }
    }
}

fn is_allowed(decided: &Decided) -> bool {
    matches!(decided, Decided::Allowed { .. })
}

/// A grant without what limits how often, when and with what it may be used.
fn unlimited(grant: &Arc<GrantRow>) -> Candidate {
    let grant = GrantRow {
        max_per_hour: 0,
        max_per_day: 0,
        max_total: 0,
        expire_time: None,
        approver_role: None,
        ..GrantRow::clone(grant)
    };
    Candidate {
        grant: Arc::new(grant),
        used: Used::default(),
        within_hours: true,
        unmet: Vec::new(),
        approval: None,
        is_approval: false,
    }
}
