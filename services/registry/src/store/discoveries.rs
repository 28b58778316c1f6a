//! What probes and discoveries show of MCP servers. Every write is bound to the lease of the process that asked.

use std::time::Duration;

use ::store::Error;
use sqlx::PgPool;
use uuid::Uuid;

use super::{CHANNEL, ServerKey, ServerState, Write};

/// What the last question to a server showed of it.
#[derive(Debug, Clone)]
pub(crate) struct Sign {
    pub answers: Vec<i32>,
    pub state: ServerState,
    pub last_error: String,
    /// Whether it answered just now.
    pub is_seen: bool,
}

/// What a discovery that worked said of the server itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub discovery_ms: i64,
    pub server_version: String,
    pub protocol_version: String,
    pub rejected_tools: Vec<String>,
}

/// Writes what the last question showed of a server, and when it is probed next. Its state is
/// another one than before: the server's tools get a new revision, so that every
/// watcher hears of it.
pub(crate) async fn server_move(
    pool: &PgPool,
    key: &ServerKey,
    owner: Uuid,
    next_probe_in: Duration,
    sign: &Sign,
) -> Result<(), Error> {
    let mut write = Write::begin(pool).await?;
    server_show(&mut *write.transaction, key, owner, next_probe_in, sign).await?;
    sqlx::query!(
        "WITH changed AS (
             UPDATE registry.tool t SET revision = $4
             FROM registry.server s
             WHERE s.team_id = $1 AND s.id = $2 AND s.lease_owner = $3
               AND t.team_id = s.team_id AND t.server_name = s.name AND NOT t.withdrawn
             RETURNING t.name)
         SELECT count(*), pg_notify($5, '') FROM changed",
        key.team_id,
        key.id,
        owner,
        write.revision,
        CHANNEL,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    write.commit().await
}

/// Writes what the last question showed of a server whose state is as before, and when it is probed next.
pub(crate) async fn server_show(
    executor: impl sqlx::PgExecutor<'_>,
    key: &ServerKey,
    owner: Uuid,
    next_probe_in: Duration,
    sign: &Sign,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.server
         SET answers = $5, state = $6, last_error = $7, last_probe_time = now(),
             last_seen_time = CASE WHEN $8 THEN now() ELSE last_seen_time END,
             next_probe_time = now() + make_interval(secs => $4)
         WHERE team_id = $1 AND id = $2 AND lease_owner = $3",
        key.team_id,
        key.id,
        owner,
        next_probe_in.as_secs_f64(),
        &sign.answers,
        sign.state.as_str(),
        sign.last_error,
        sign.is_seen,
    )
    .execute(executor)
    .await?;
    Ok(())
}

/// Writes what a discovery that worked said, and when the next one is due.
pub(crate) async fn server_succeed(
    pool: &PgPool,
    key: &ServerKey,
    owner: Uuid,
    answered: i64,
    next_in: Duration,
    outcome: &Outcome,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH done AS (
             UPDATE registry.server
             SET failures = 0, discovery_ms = $6, server_version = $7, protocol_version = $8,
                 rejected_tools = $9, refresh_done = greatest(refresh_done, $4),
                 next_time = now() + make_interval(secs => $5)
             WHERE team_id = $1 AND id = $2 AND lease_owner = $3 RETURNING id)
         SELECT pg_notify($10, '') FROM done",
        key.team_id,
        key.id,
        owner,
        answered,
        next_in.as_secs_f64(),
        outcome.discovery_ms,
        outcome.server_version,
        outcome.protocol_version,
        &outcome.rejected_tools,
        CHANNEL,
    )
    .fetch_all(pool)
    .await?;
    Ok(())
}

/// Writes that a discovery failed for good, and when the next one is due.
pub(crate) async fn server_fail(
    pool: &PgPool,
    key: &ServerKey,
    owner: Uuid,
    answered: i64,
    next_in: Duration,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH done AS (
             UPDATE registry.server
             SET failures = failures + 1, refresh_done = greatest(refresh_done, $4),
                 next_time = now() + make_interval(secs => $5)
             WHERE team_id = $1 AND id = $2 AND lease_owner = $3 RETURNING id)
         SELECT pg_notify($6, '') FROM done",
        key.team_id,
        key.id,
        owner,
        answered,
        next_in.as_secs_f64(),
        CHANNEL,
    )
    .fetch_all(pool)
    .await?;
    Ok(())
}

/// Tools of a team by what may be done with them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ToolCounts {
    pub active: i64,
    pub quarantined: i64,
    pub disabled: i64,
    /// Active ones whose changed definition waits for approval.
    pub pending: i64,
}

/// Counts the tools of a team.
pub(crate) async fn tool_counts(pool: &PgPool, team: &str) -> Result<ToolCounts, Error> {
    let counts = sqlx::query_as!(
        ToolCounts,
        r#"SELECT count(*) FILTER (WHERE effective_status IN ('active', 'deprecated')) AS "active!",
                  count(*) FILTER (WHERE effective_status = 'quarantined') AS "quarantined!",
                  count(*) FILTER (WHERE effective_status = 'disabled') AS "disabled!",
                  count(*) FILTER (WHERE effective_status IN ('active', 'deprecated')
                                     AND pending_id IS NOT NULL) AS "pending!"
           FROM registry.tool WHERE team_id = $1"#,
        team,
    )
    .fetch_one(pool)
    .await?;
    Ok(counts)
}
