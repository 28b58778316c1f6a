//! Teams and their agents.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::{
    CHANNEL,
    grant::{GrantRow, grant_add},
};

/// A member of a team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AgentRow {
    pub agent_id: String,
    pub specialization: String,
    pub role: String,
    pub disabled: bool,
    pub create_time: DateTime<Utc>,
}

/// The agent of this name.
pub(crate) async fn agent_get(pool: &PgPool, team: &str, agent: &str) -> Result<Option<AgentRow>, Error> {
    let row = sqlx::query_as!(
        AgentRow,
        "SELECT agent_id, specialization, role, disabled, create_time
         FROM permissions.agent WHERE team_id = $1 AND agent_id = $2",
        team,
        agent,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// The agent of this name and the revision of its last change, locked until the transaction ends. Whoever changes
/// agents holds the team by `team_hold` first.
pub(crate) async fn agent_hold(
    connection: &mut PgConnection,
    team: &str,
    agent: &str,
) -> Result<Option<(AgentRow, i64)>, Error> {
    let row = sqlx::query!(
        "SELECT agent_id, specialization, role, disabled, create_time, revision
         FROM permissions.agent WHERE team_id = $1 AND agent_id = $2 FOR UPDATE",
        team,
        agent,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let agent = AgentRow {
            agent_id: row.agent_id,
            specialization: row.specialization,
            role: row.role,
            disabled: row.disabled,
            create_time: row.create_time,
        };
        (agent, row.revision)
    }))
}

/// Locks a team until the transaction ends: its agents and grants change one after the other.
pub(crate) async fn team_hold(connection: &mut PgConnection, team: &str) -> Result<(), Error> {
    sqlx::query!("SELECT revision FROM permissions.team WHERE team_id = $1 FOR UPDATE", team)
        .fetch_optional(connection)
        .await?;
    Ok(())
}

/// Whether the team has an admin that is enabled, besides this agent.
pub(crate) async fn other_admin_exists(
    connection: &mut PgConnection,
    team: &str,
    agent: &str,
) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        "SELECT EXISTS (
             SELECT FROM permissions.agent
             WHERE team_id = $1 AND agent_id <> $2 AND role = 'admin' AND NOT disabled
         ) AS \"exists!\"",
        team,
        agent,
    )
    .fetch_one(connection)
    .await?;
    Ok(exists)
}

/// Changes an agent to what is given, as of a revision.
pub(crate) async fn agent_update(
    connection: &mut PgConnection,
    team: &str,
    agent: &AgentRow,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE permissions.agent SET specialization = $3, role = $4, disabled = $5, revision = $6
         WHERE team_id = $1 AND agent_id = $2",
        team,
        agent.agent_id,
        agent.specialization,
        agent.role,
        agent.disabled,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Agents of a team by name, from behind this one.
pub(crate) async fn agent_list(
    pool: &PgPool,
    team: &str,
    specialization: Option<&str>,
    behind: Option<&str>,
    limit: i64,
) -> Result<Vec<AgentRow>, Error> {
    let rows = sqlx::query_as!(
        AgentRow,
        "SELECT agent_id, specialization, role, disabled, create_time FROM permissions.agent
         WHERE team_id = $1 AND ($2::text IS NULL OR specialization = $2)
           AND ($3::text IS NULL OR agent_id > $3)
         ORDER BY agent_id LIMIT $4",
        team,
        specialization,
        behind,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Makes a team with an agent and grants, in one transaction: what is there already stays as it is, and
/// a grant that its `created_by` made before is not made again, even if it was revoked since.
pub(crate) async fn team_bootstrap(
    pool: &PgPool,
    team: &str,
    agent: &AgentRow,
    grants: &[GrantRow],
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let revision = revision_next(&mut transaction, team, agent.create_time).await?;
    agent_add(&mut transaction, team, agent, revision).await?;
    for grant in grants {
        let there = sqlx::query_scalar!(
            "SELECT EXISTS (
                 SELECT FROM permissions.tool_grant
                 WHERE team_id = $1 AND agent_id IS NOT DISTINCT FROM $2
                   AND specialization IS NOT DISTINCT FROM $3 AND tool_name = $4 AND created_by = $5
             ) AS \"there!\"",
            team,
            grant.agent_id,
            grant.specialization,
            grant.tool_name,
            grant.created_by,
        )
        .fetch_one(&mut *transaction)
        .await?;
        if !there {
            grant_add(&mut transaction, team, grant, revision).await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

/// The team's next revision, told to every process with the commit; makes the team if it is not there.
/// Locks the team's row, so that revisions become visible in their order.
pub(crate) async fn revision_next(
    connection: &mut PgConnection,
    team: &str,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let revision = sqlx::query_scalar!(
        "WITH next AS (
             INSERT INTO permissions.team AS t (team_id, revision, create_time) VALUES ($1, 1, $2)
             ON CONFLICT (team_id) DO UPDATE SET revision = t.revision + 1
             RETURNING revision
         ), told AS (SELECT pg_notify($3, revision || ' ' || $1) FROM next)
         SELECT revision FROM next, told",
        team,
        now,
        CHANNEL,
    )
    .fetch_one(connection)
    .await?;
    Ok(revision)
}

/// Adds an agent as of a revision, and tells whether it is new: one of its name stays as it is.
pub(crate) async fn agent_add(
    connection: &mut PgConnection,
    team: &str,
    agent: &AgentRow,
    revision: i64,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "INSERT INTO permissions.agent
             (team_id, agent_id, specialization, role, disabled, create_time, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        team,
        agent.agent_id,
        agent.specialization,
        agent.role,
        agent.disabled,
        agent.create_time,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() > 0)
}
