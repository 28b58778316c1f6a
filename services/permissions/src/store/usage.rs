//! What allowed calls were made under, by the hour. Only ever added to, and deleted when no report reaches so far
//! back. Must never be read by a decision.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

/// Calls of one kind in one hour.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub(crate) struct UseKey {
    pub team_id: String,
    /// Start of the clock hour (UTC).
    pub hour: DateTime<Utc>,
    pub agent_id: String,
    pub tool_name: String,
    /// `grant`, `approval` or `policy`.
    pub basis_kind: &'static str,
    /// What allowed the calls: an id, or a policy's name.
    pub basis: String,
    pub effect: &'static str,
    /// 0 (public) to 3 (restricted).
    pub sensitivity: i16,
}

/// How many of them there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UseRow {
    #[serde(flatten)]
    pub key: UseKey,
    pub calls: i64,
}

/// How one grant was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GrantUse {
    pub grant_id: Uuid,
    pub calls: i64,
    /// Start of the last hour with a call.
    pub last_hour: DateTime<Utc>,
    /// In their order.
    pub tools: Vec<String>,
}

/// How an agent used a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ToolUse {
    pub agent_id: String,
    pub tool_name: String,
    pub calls: i64,
    /// Whether every call was of read-only effect.
    pub is_read_only: bool,
    /// The most sensitive there was, 0 to 3.
    pub sensitivity: i16,
    /// Most calls in one clock hour (UTC).
    pub most_in_hour: i64,
    /// Most calls on one day (UTC).
    pub most_in_day: i64,
    /// The grants that allowed calls, and whether these were all that did.
    pub grants: Vec<Uuid>,
    pub by_grants_alone: bool,
}

/// Adds calls. The rows must be in the order of their keys, so that two processes never wait for each other in a
/// circle, and no key may be there twice.
pub(crate) async fn use_add(pool: &PgPool, rows: &[UseRow]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.tool_use (
             team_id, hour, agent_id, tool_name, basis_kind, basis, effect, sensitivity, calls)
         SELECT team_id, hour, agent_id, tool_name, basis_kind, basis, effect, sensitivity, calls
         FROM jsonb_to_recordset($1) AS new (
             team_id text, hour timestamptz, agent_id text, tool_name text, basis_kind text, basis text,
             effect text, sensitivity smallint, calls bigint)
         ON CONFLICT (team_id, hour, agent_id, tool_name, basis_kind, basis, effect, sensitivity)
         DO UPDATE SET calls = tool_use.calls + excluded.calls",
        Json(rows) as _,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Deletes some calls before a time, of every team, and tells how many rows there were.
pub(crate) async fn use_delete(pool: &PgPool, before: DateTime<Utc>, most: i64) -> Result<u64, Error> {
    let deleted = sqlx::query!(
        "DELETE FROM permissions.tool_use WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM permissions.tool_use WHERE hour < $1 LIMIT $2))",
        before,
        most,
    )
    .execute(pool)
    .await?;
    Ok(deleted.rows_affected())
}

/// Since when calls are counted.
pub(crate) async fn use_since(pool: &PgPool) -> Result<DateTime<Utc>, Error> {
    Ok(sqlx::query_scalar!("SELECT began FROM permissions.tool_use_since").fetch_one(pool).await?)
}

/// How the grants of a team were used since a time, by one agent or by all.
pub(crate) async fn use_by_grant(
    pool: &PgPool,
    team: &str,
    agent: Option<&str>,
    since: DateTime<Utc>,
) -> Result<Vec<GrantUse>, Error> {
    let rows = sqlx::query_as!(
        GrantUse,
        "SELECT basis::uuid AS \"grant_id!\", sum(calls)::bigint AS \"calls!\", max(hour) AS \"last_hour!\",
                array_agg(DISTINCT tool_name ORDER BY tool_name) AS \"tools!\"
         FROM permissions.tool_use
         WHERE team_id = $1 AND hour >= $2 AND basis_kind = 'grant' AND ($3::text IS NULL OR agent_id = $3)
         GROUP BY basis",
        team,
        since,
        agent,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// What the agents of a team, or one of them, called since a time, by agent and tool; at most so many.
pub(crate) async fn use_by_tool(
    pool: &PgPool,
    team: &str,
    agent: Option<&str>,
    since: DateTime<Utc>,
    most: i64,
) -> Result<Vec<ToolUse>, Error> {
    let rows = sqlx::query_as!(
        ToolUse,
        "WITH used AS MATERIALIZED (
             SELECT * FROM permissions.tool_use
             WHERE team_id = $1 AND hour >= $2 AND ($3::text IS NULL OR agent_id = $3)
         ), total AS (
             SELECT agent_id, tool_name, sum(calls)::bigint AS calls, bool_and(effect = 'read_only') AS is_read_only,
                    max(sensitivity) AS sensitivity, bool_and(basis_kind = 'grant') AS by_grants_alone,
                    coalesce(array_agg(DISTINCT basis::uuid) FILTER (WHERE basis_kind = 'grant'), '{}') AS grants
             FROM used GROUP BY agent_id, tool_name
         ), hourly AS (
             SELECT agent_id, tool_name, hour, sum(calls)::bigint AS calls FROM used GROUP BY 1, 2, 3
         ), daily AS (
             SELECT agent_id, tool_name, sum(calls)::bigint AS calls, max(calls) AS most_in_hour
             FROM hourly GROUP BY 1, 2, (hour AT TIME ZONE 'UTC')::date
         ), greatest AS (
             SELECT agent_id, tool_name, max(most_in_hour) AS most_in_hour, max(calls) AS most_in_day
             FROM daily GROUP BY 1, 2
         )
         SELECT t.agent_id AS \"agent_id!\", t.tool_name AS \"tool_name!\", t.calls AS \"calls!\",
                t.is_read_only AS \"is_read_only!\", t.sensitivity AS \"sensitivity!\", t.grants AS \"grants!\",
                t.by_grants_alone AS \"by_grants_alone!\", g.most_in_hour AS \"most_in_hour!\",
                g.most_in_day AS \"most_in_day!\"
         FROM total t JOIN greatest g USING (agent_id, tool_name)
         ORDER BY t.agent_id, t.tool_name
         LIMIT $4",
        team,
        since,
        agent,
        most,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
