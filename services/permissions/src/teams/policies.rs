//! The policies of one team that are in force, as of a revision: read once when they change. Pure. One that cannot be
//! read is never left out: it is kept as broken, and denies.

use std::collections::BTreeMap;

use crate::{
    policies::team::{TeamPolicies, TeamPolicy, id, schema},
    store::PolicyRow,
};

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Policies {
    by_name: BTreeMap<String, Kept>,
    current: TeamPolicies,
}

/// A policy in force.
#[derive(Debug)]
struct Kept {
    version: i64,
    /// `None`: it cannot be read any more.
    policy: Option<TeamPolicy>,
}

impl Policies {
    /// Takes changes in, each policy's versions in their order. The same change may come again.
    pub(super) fn apply(&mut self, changes: Vec<PolicyRow>) {
        if changes.is_empty() {
            return;
        }
        for row in changes {
            let kept = self.by_name.get(&row.name).map_or(0, |kept| kept.version);
            if row.remove_time.is_some() && row.version >= kept {
                self.by_name.remove(&row.name);
            } else if row.remove_time.is_none() && row.version > kept {
                let kept = Kept { version: row.version, policy: read(&row) };
                self.by_name.insert(row.name, kept);
            }
        }
        let policies = self.by_name.values().filter_map(|kept| kept.policy.as_ref());
        let broken = self.by_name.iter().filter(|(_, kept)| kept.policy.is_none());
        let broken = broken.map(|(name, _)| id(name).to_string()).collect();
        self.current = TeamPolicies::new(policies, broken);
    }

    /// Ready to be asked.
    pub(super) fn current(&self) -> &TeamPolicies {
        &self.current
    }
}

/// What was valid when it was written may not be so for a later schema.
fn read(row: &PolicyRow) -> Option<TeamPolicy> {
    match TeamPolicy::parse(schema()?, &row.name, &row.policy_text) {
        Ok(policy) => Some(policy),
        Err(fault) => {
            tracing::error!(
                policy.name = row.name,
                policy.version = row.version,
                %fault,
                "a team's policy cannot be read any more: every call of the team is denied until an admin writes it \
                 anew or removes it"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;

    fn row(name: &str, version: i64, text: &str, removed: bool) -> PolicyRow {
        PolicyRow {
            name: name.into(),
            version,
            policy_text: text.into(),
            created_by: "root".into(),
            create_time: DateTime::UNIX_EPOCH,
            remove_time: removed.then(Utc::now),
            revision: 1,
        }
    }

    fn texts(policies: &Policies) -> Vec<(String, String)> {
        let mut texts: Vec<_> = policies
            .current()
            .set()
            .policies()
            .map(|policy| (policy.id().to_string(), policy.to_string()))
            .collect();
        texts.sort();
        texts
    }

    const FORBID: &str = "forbid(principal, action, resource);";
    const PERMIT: &str = "permit(principal, action, resource);";

    #[test]
    fn the_newest_version_is_in_force_and_a_removed_one_is_not() {
        let mut policies = Policies::default();
        assert!(policies.current().is_empty());
        policies.apply(vec![row("a", 1, FORBID, false), row("b", 1, FORBID, false)]);
        assert_eq!(texts(&policies).len(), 2);
        let replaced = vec![row("a", 1, FORBID, true), row("a", 2, PERMIT, false), row("b", 1, FORBID, true)];
        policies.apply(replaced.clone());
        let expected = vec![("team/a".to_owned(), PERMIT.to_owned())];
        assert_eq!(texts(&policies), expected);
        // The same again, and older news, change nothing.
        policies.apply(replaced);
        policies.apply(vec![row("a", 1, FORBID, false)]);
        policies.apply(vec![row("a", 1, FORBID, true)]);
        assert_eq!(texts(&policies), expected);
        policies.apply(vec![row("a", 2, PERMIT, true)]);
        assert!(policies.current().is_empty());
    }

    #[test]
    fn one_that_cannot_be_read_is_kept_as_broken_until_it_is_written_anew_or_removed() {
        let mut policies = Policies::default();
        policies.apply(vec![row("a", 1, "forbid (principal", false), row("b", 1, FORBID, false)]);
        assert_eq!(policies.current().broken(), ["team/a"]);
        assert!(!policies.current().is_empty());
        policies.apply(vec![row("a", 1, "forbid (principal", true), row("a", 2, PERMIT, false)]);
        assert!(policies.current().broken().is_empty());
        assert_eq!(texts(&policies).len(), 2);
    }
}
