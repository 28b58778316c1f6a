//! Makes an agent of a team. Making the same one again answers the one that is there.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::Role;

use crate::{
    Error, names,
    store::{self, AgentRow},
    teams::Teams,
};

/// Makes the agent; `agent.create_time` counts only when it is new.
pub(crate) async fn create_agent(
    database: &Database,
    teams: &Teams,
    team: &str,
    agent: (&str, &str, Role),
    now: DateTime<Utc>,
) -> Result<AgentRow, Error> {
    let (name, specialization, role) = agent;
    names::name("agent.id", name)?;
    names::specialization("agent.specialization", specialization)?;
    let wanted = AgentRow {
        agent_id: name.to_owned(),
        specialization: specialization.to_owned(),
        role: role.as_str().to_owned(),
        disabled: false,
        create_time: now,
    };
    let pool = database.pool()?;
    let revision = store::agent_insert(pool, team, &wanted).await?;
    teams.changed(team, revision);
    let there = store::agent_get(pool, team, name).await?.ok_or_else(|| Error::no_agent(name))?;
    if there.specialization != wanted.specialization || there.role != wanted.role {
        return Err(Error::AgentExists { agent: name.to_owned() });
    }
    Ok(there)
}
