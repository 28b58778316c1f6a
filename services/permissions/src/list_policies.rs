//! Lists a team's policies, and tells which of those in force cannot be read any more.

use ::store::Database;

use crate::{
    Error, names,
    policies::team::{TeamPolicy, schema},
    put_policy::no_policy,
    store::{self, PolicyRow},
};

/// A policy as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedPolicy {
    pub policy: PolicyRow,
    /// Why it cannot be read though it is in force; empty otherwise.
    pub fault: String,
}

impl From<PolicyRow> for ListedPolicy {
    fn from(policy: PolicyRow) -> Self {
        let fault = if policy.remove_time.is_some() { String::new() } else { fault(&policy) };
        Self { policy, fault }
    }
}

fn fault(policy: &PolicyRow) -> String {
    let Some(schema) = schema() else { return "the schema cannot be read".into() };
    let read = TeamPolicy::parse(schema, &policy.name, &policy.policy_text);
    read.map_or_else(|fault| fault.to_string(), |_| String::new())
}

/// All versions of one policy, newest first, or the newest of each, by name.
pub(crate) async fn list_policies(
    database: &Database,
    team: &str,
    name: &str,
    include_removed: bool,
) -> Result<Vec<ListedPolicy>, Error> {
    let pool = database.pool()?;
    let rows = if name.is_empty() {
        store::policy_list(pool, team, include_removed).await?
    } else {
        names::name("name", name)?;
        let versions = store::policy_versions(pool, team, name).await?;
        if versions.is_empty() {
            return Err(no_policy(name));
        }
        versions
    };
    Ok(rows.into_iter().map(ListedPolicy::from).collect())
}
