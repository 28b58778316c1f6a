//! Grants. A grant never changes once made, except that it is revoked, once.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::agent::revision_next;

/// Lets an agent, or every agent of a specialization, call one tool: exactly one of the two is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantRow {
    pub team_id: String,
    pub grant_id: Uuid,
    pub agent_id: Option<String>,
    pub specialization: Option<String>,
    pub tool_name: String,
    /// Most calls of one agent in a clock hour; 0: no limit.
    pub max_per_hour: i64,
    pub read_only: bool,
    pub max_sensitivity: Option<String>,
    pub expire_time: Option<DateTime<Utc>>,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    pub revoke_time: Option<DateTime<Utc>>,
}

/// A grant as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ListedGrant {
    pub grant: GrantRow,
    /// Calls of all its agents in the window asked for.
    pub used: i64,
    /// Revision of its last change.
    pub revision: i64,
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrantFilter {
    pub grant_id: Option<Uuid>,
    pub agent_id: Option<String>,
    pub specialization: Option<String>,
    pub tool_name: Option<String>,
    pub include_revoked: bool,
    /// Only what applies to this agent: its own grants and those of its specialization.
    pub applies_to: Option<String>,
}

/// Adds a grant and gives the revision from which it stands.
pub(crate) async fn grant_insert(pool: &PgPool, team: &str, grant: &GrantRow) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let revision = revision_next(&mut transaction, team, grant.create_time).await?;
    grant_add(&mut transaction, team, grant, revision).await?;
    transaction.commit().await?;
    Ok(revision)
}

pub(super) async fn grant_add(
    connection: &mut PgConnection,
    team: &str,
    grant: &GrantRow,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.tool_grant (
             team_id, grant_id, agent_id, specialization, tool_name, max_per_hour, read_only,
             max_sensitivity, expire_time, created_by, create_time, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        team,
        grant.grant_id,
        grant.agent_id,
        grant.specialization,
        grant.tool_name,
        grant.max_per_hour,
        grant.read_only,
        grant.max_sensitivity,
        grant.expire_time,
        grant.created_by,
        grant.create_time,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Revokes a grant and gives it, if there is one. One that was revoked before stays as it was.
pub(crate) async fn grant_revoke(
    pool: &PgPool,
    team: &str,
    grant: Uuid,
    now: DateTime<Utc>,
    window_start: DateTime<Utc>,
) -> Result<Option<ListedGrant>, Error> {
    let mut transaction = pool.begin().await?;
    let live = sqlx::query_scalar!(
        "SELECT revoke_time IS NULL AS \"live!\" FROM permissions.tool_grant
         WHERE team_id = $1 AND grant_id = $2 FOR UPDATE",
        team,
        grant,
    )
    .fetch_optional(&mut *transaction)
    .await?;
    if live == Some(true) {
        let revision = revision_next(&mut transaction, team, now).await?;
        sqlx::query!(
            "UPDATE permissions.tool_grant SET revoke_time = $3, revision = $4
             WHERE team_id = $1 AND grant_id = $2",
            team,
            grant,
            now,
            revision,
        )
        .execute(&mut *transaction)
        .await?;
    }
    transaction.commit().await?;
    let filter = GrantFilter { grant_id: Some(grant), include_revoked: true, ..GrantFilter::default() };
    Ok(grant_list(pool, team, &filter, window_start, None, 1).await?.pop())
}

/// Grants of a team below an id, newest first, with what is used of them in a window.
pub(crate) async fn grant_list(
    pool: &PgPool,
    team: &str,
    filter: &GrantFilter,
    window_start: DateTime<Utc>,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedGrant>, Error> {
    let rows = sqlx::query!(
        "SELECT g.*, coalesce((
             SELECT sum(c.used) FROM permissions.counter c
             WHERE c.team_id = g.team_id AND c.grant_id = g.grant_id AND c.window_start = $2
         ), 0)::bigint AS \"used!\"
         FROM permissions.tool_grant g
         WHERE g.team_id = $1
           AND ($3::uuid IS NULL OR g.grant_id < $3)
           AND ($4::text IS NULL OR g.agent_id = $4)
           AND ($5::text IS NULL OR g.specialization = $5)
           AND ($6::text IS NULL OR g.tool_name = $6)
           AND ($7 OR g.revoke_time IS NULL)
           AND ($9::uuid IS NULL OR g.grant_id = $9)
           AND ($8::text IS NULL OR g.agent_id = $8 OR g.specialization = (
               SELECT a.specialization FROM permissions.agent a WHERE a.team_id = $1 AND a.agent_id = $8))
         ORDER BY g.grant_id DESC
         LIMIT $10",
        team,
        window_start,
        before,
        filter.agent_id,
        filter.specialization,
        filter.tool_name,
        filter.include_revoked,
        filter.applies_to,
        filter.grant_id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let listed = rows.into_iter().map(|row| ListedGrant {
        grant: GrantRow {
            team_id: row.team_id,
            grant_id: row.grant_id,
            agent_id: row.agent_id,
            specialization: row.specialization,
            tool_name: row.tool_name,
            max_per_hour: row.max_per_hour,
            read_only: row.read_only,
            max_sensitivity: row.max_sensitivity,
            expire_time: row.expire_time,
            created_by: row.created_by,
            create_time: row.create_time,
            revoke_time: row.revoke_time,
        },
        used: row.used,
        revision: row.revision,
    });
    Ok(listed.collect())
}
