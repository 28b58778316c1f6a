//! Makes an agent of a team. Making the same one again answers the one that is there.

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

/// Makes the agent of a name, a specialization and a role in the caller's team.
pub(crate) async fn create_agent(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    agent: (&str, &str, Role),
    now: DateTime<Utc>,
) -> Result<AgentRow, Error> {
    let (name, specialization, role) = agent;
    names::name("agent.id", name)?;
    names::specialization("agent.specialization", specialization)?;
    if role > Role::Agent {
        // Tokens of an issuer open what the agent's role may, without a key that somebody hands out.
        check_bounds(caller, role.as_str(), &[])?;
    }
    let wanted = AgentRow {
        agent_id: name.to_owned(),
        specialization: specialization.to_owned(),
        role: role.as_str().to_owned(),
        disabled: false,
        create_time: now,
    };
    let (team, pool) = (caller.team.as_str(), database.pool()?);
    let mut transaction = pool.begin().await.map_err(::store::Error::from)?;
    let revision = store::revision_next(&mut transaction, team, now).await?;
    if store::agent_add(&mut transaction, team, &wanted, revision).await? {
        let message = format!("agent {name} made: role {}, specialization {specialization:?}", role.as_str());
        trail::record(&mut transaction, &trail::event(Action::IdentityChanged, caller, message)).await?;
        transaction.commit().await.map_err(::store::Error::from)?;
        teams.changed(team, revision);
        return Ok(wanted);
    }
    transaction.rollback().await.map_err(::store::Error::from)?;
    let there = store::agent_get(pool, team, name).await?.ok_or_else(|| Error::no_agent(name))?;
    if there.specialization != wanted.specialization || there.role != wanted.role {
        return Err(Error::AgentExists { agent: name.to_owned() });
    }
    Ok(there)
}
