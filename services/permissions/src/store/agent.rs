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

/// Adds an agent unless one of its name is there, and gives the revision from which it stands.
pub(crate) async fn agent_insert(pool: &PgPool, team: &str, agent: &AgentRow) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let revision = revision_next(&mut transaction, team, agent.create_time).await?;
    agent_add(&mut transaction, team, agent, revision).await?;
    transaction.commit().await?;
    Ok(revision)
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
pub(super) async fn revision_next(
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

async fn agent_add(
    connection: &mut PgConnection,
    team: &str,
    agent: &AgentRow,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
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
    Ok(())
}

/// Disables an agent, as no RPC does yet.
#[cfg(test)]
pub(crate) async fn agent_disable(pool: &PgPool, team: &str, agent: &str) {
    let mut transaction = pool.begin().await.unwrap();
    let revision = revision_next(&mut transaction, team, DateTime::UNIX_EPOCH).await.unwrap();
    sqlx::query(
        "UPDATE permissions.agent SET disabled = true, revision = $3 WHERE team_id = $1 AND agent_id = $2",
    )
    .bind(team)
    .bind(agent)
    .bind(revision)
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
}
