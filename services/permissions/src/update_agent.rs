//! Changes an agent. A disabled one is nobody within a second, by any key or token: whoever authenticates or decides
//! looks here. A team is never left without an admin that is enabled.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Role};

use crate::{
    Error,
    issue_key::check_bounds,
    names,
    store::{self, AgentRow},
    teams::Teams,
    trail::{self, Action},
};

/// What is to be changed; what is not set stays.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentChange {
    pub specialization: Option<String>,
    pub role: Option<Role>,
    pub disabled: Option<bool>,
}

/// Changes an agent of the caller's team; gives it and the revision from which every decision knows it.
pub(crate) async fn update_agent(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    name: &str,
    change: AgentChange,
    now: DateTime<Utc>,
) -> Result<(AgentRow, i64), Error> {
    if let Some(specialization) = &change.specialization {
        names::specialization("specialization", specialization)?;
    }
    if let Some(role) = change.role.filter(|role| *role > caller.role) {
        return Err(Error::RoleExceeded { needed: role.as_str().to_owned() });
    }
    let team = caller.team.as_str();
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    store::team_hold(&mut transaction, team).await?;
    let held = store::agent_hold(&mut transaction, team, name).await?;
    let (before, revision) = held.ok_or_else(|| Error::no_agent(name))?;
    let after = changed(&before, change);
    if after == before {
        return Ok((before, revision));
    }
    let rank = |agent: &AgentRow| agent.role.parse::<Role>().ok();
    if rank(&after) > rank(&before) || (before.disabled && !after.disabled) {
        // The keys that the agent has open what its role may: as much as the caller may hand out.
        check_bounds(caller, &after.role, &[])?;
    }
    if is_admin(&before)
        && !is_admin(&after)
        && !store::other_admin_exists(&mut transaction, team, name).await?
    {
        return Err(Error::LastAdmin { agent: name.to_owned() });
    }
    let revision = store::revision_next(&mut transaction, team, now).await?;
    store::agent_update(&mut transaction, team, &after, revision).await?;
    let event = trail::event(Action::IdentityChanged, caller, told(&before, &after));
    trail::record(&mut transaction, &event).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(team, revision);
    Ok((after, revision))
}

fn changed(before: &AgentRow, change: AgentChange) -> AgentRow {
    AgentRow {
        specialization: change.specialization.unwrap_or_else(|| before.specialization.clone()),
        role: change.role.map_or_else(|| before.role.clone(), |role| role.as_str().to_owned()),
        disabled: change.disabled.unwrap_or(before.disabled),
        ..before.clone()
    }
}

fn is_admin(agent: &AgentRow) -> bool {
    agent.role == Role::Admin.as_str() && !agent.disabled
}

/// What changed, for the trail.
fn told(before: &AgentRow, after: &AgentRow) -> String {
    let mut changes = Vec::new();
    if before.specialization != after.specialization {
        changes.push(format!(
            "specialization {:?} instead of {:?}",
            after.specialization, before.specialization
        ));
    }
    if before.role != after.role {
        changes.push(format!("role {} instead of {}", after.role, before.role));
    }
    if before.disabled != after.disabled {
        changes.push(if after.disabled { "disabled" } else { "enabled again" }.to_owned());
    }
    format!("agent {} changed: {}", after.agent_id, changes.join(", "))
}
