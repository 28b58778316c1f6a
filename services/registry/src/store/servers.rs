//! MCP servers: what is known of each, and which process discovers it.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, types::Json};
use types::{Category, Sensitivity, UnknownWord};
use uuid::Uuid;

use super::{CHANNEL, Write};
use crate::{
    definition::CredentialUse,
    trail::{self, Event},
};

/// State of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// Not asked yet.
    Pending,
    /// Answers.
    Healthy,
    /// Answers, but too few of the last times.
    Degraded,
    /// Did not answer the last time.
    Unavailable,
}

impl ServerState {
    const ALL: [Self; 4] = [Self::Pending, Self::Healthy, Self::Degraded, Self::Unavailable];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unavailable => "unavailable",
        }
    }
}

impl std::str::FromStr for ServerState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| UnknownWord::new("server state", word))
    }
}

impl From<String> for ServerState {
    /// A word that a newer version wrote says nothing to this one.
    fn from(word: String) -> Self {
        word.parse().unwrap_or(Self::Pending)
    }
}

/// What is assumed of a server's tools where the server does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Defaults {
    pub category: Option<Category>,
    pub capabilities: Vec<String>,
    pub sensitivity: Option<Sensitivity>,
    pub timeout_ms: i64,
    pub trust_annotations: bool,
}

/// Which server: a name alone could be one that was removed and registered again.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ServerKey {
    pub team_id: String,
    pub id: Uuid,
}

/// A server and what its last discovery said.
#[derive(Debug, Clone)]
pub(crate) struct ServerRow {
    pub team_id: String,
    pub name: String,
    pub id: Uuid,
    pub transport: Json<mcp::Transport>,
    pub defaults: Json<Defaults>,
    pub credentials: Json<Vec<CredentialUse>>,
    pub state: ServerState,
    pub last_error: String,
    pub last_seen_time: Option<DateTime<Utc>>,
    pub discovery_ms: i64,
    pub server_version: String,
    pub protocol_version: String,
    pub rejected_tools: Vec<String>,
    pub refresh_wanted: i64,
    pub refresh_done: i64,
    pub failures: i32,
    /// The last probes and discoveries, oldest first: milliseconds until the answer, or -1 without one.
    pub answers: Vec<i32>,
    pub last_probe_time: Option<DateTime<Utc>>,
    pub next_time: DateTime<Utc>,
    pub tool_count: i64,
    /// Tools of it that wait for approval, new and changed ones.
    pub pending_count: i64,
    /// Milliseconds until the next discovery is due; 0 or less when it is.
    pub due_in_ms: i64,
    /// The same of the next probe.
    pub probe_in_ms: i64,
}

impl ServerRow {
    /// Which server this is.
    pub(crate) fn key(&self) -> ServerKey {
        ServerKey { team_id: self.team_id.clone(), id: self.id }
    }

    /// Whether a discovery is due.
    pub(crate) fn is_due(&self) -> bool {
        self.refresh_wanted > self.refresh_done || self.due_in_ms <= 0
    }
}

/// What a process must know of each server that it keeps.
#[derive(Debug, Clone)]
pub(crate) struct ServerEntry {
    pub team_id: String,
    pub id: Uuid,
    pub refresh_wanted: i64,
}

/// Renews the leases of this process that are due, takes every server that no process keeps, and gives all
/// that it keeps now.
pub(crate) async fn servers_claim(
    pool: &PgPool,
    owner: Uuid,
    lease: Duration,
    renew_below: Duration,
) -> Result<Vec<ServerEntry>, Error> {
    let entries = sqlx::query_as!(
        ServerEntry,
        r#"WITH due AS (
             SELECT id FROM registry.server
             WHERE lease_until IS NULL OR lease_until < now()
                OR (lease_owner = $1 AND lease_until < now() + make_interval(secs => $3))
             ORDER BY id FOR UPDATE SKIP LOCKED),
           taken AS (
             UPDATE registry.server s SET lease_owner = $1, lease_until = now() + make_interval(secs => $2)
             FROM due WHERE s.id = due.id RETURNING s.id)
           SELECT team_id, id, refresh_wanted FROM registry.server
           WHERE (lease_owner = $1 AND lease_until > now()) OR id IN (SELECT id FROM taken)
           ORDER BY id"#,
        owner,
        lease.as_secs_f64(),
        renew_below.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    Ok(entries)
}

/// One server by its name.
pub(crate) async fn server_find(pool: &PgPool, team: &str, name: &str) -> Result<Option<ServerRow>, Error> {
    let row = sqlx::query_as!(
        ServerRow,
        r#"SELECT team_id, name, id, transport AS "transport: _", defaults AS "defaults: _",
                  credentials AS "credentials: _", state, last_error,
                  last_seen_time, discovery_ms, server_version, protocol_version, rejected_tools,
                  refresh_wanted, refresh_done, failures, answers, last_probe_time, next_time,
                  counts.tools AS "tool_count!", counts.pending AS "pending_count!",
                  (extract(epoch FROM next_time - now()) * 1000)::bigint AS "due_in_ms!",
                  (extract(epoch FROM next_probe_time - now()) * 1000)::bigint AS "probe_in_ms!"
           FROM registry.server s CROSS JOIN LATERAL (
             SELECT count(*) AS tools, count(*) FILTER (WHERE pending_id IS NOT NULL OR NOT approved) AS pending
             FROM registry.tool t
             WHERE t.team_id = s.team_id AND t.server_name = s.name AND NOT t.withdrawn) counts
           WHERE team_id = $1 AND name = $2"#,
        team,
        name,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// The servers of a team, in order of name.
pub(crate) async fn server_list(pool: &PgPool, team: &str) -> Result<Vec<ServerRow>, Error> {
    let rows = sqlx::query_as!(
        ServerRow,
        r#"SELECT team_id, name, id, transport AS "transport: _", defaults AS "defaults: _",
                  credentials AS "credentials: _", state, last_error,
                  last_seen_time, discovery_ms, server_version, protocol_version, rejected_tools,
                  refresh_wanted, refresh_done, failures, answers, last_probe_time, next_time,
                  counts.tools AS "tool_count!", counts.pending AS "pending_count!",
                  (extract(epoch FROM next_time - now()) * 1000)::bigint AS "due_in_ms!",
                  (extract(epoch FROM next_probe_time - now()) * 1000)::bigint AS "probe_in_ms!"
           FROM registry.server s CROSS JOIN LATERAL (
             SELECT count(*) AS tools, count(*) FILTER (WHERE pending_id IS NOT NULL OR NOT approved) AS pending
             FROM registry.tool t
             WHERE t.team_id = s.team_id AND t.server_name = s.name AND NOT t.withdrawn) counts
           WHERE team_id = $1 ORDER BY name"#,
        team,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Adds a server, and has the trail told; `false` when the name is taken.
pub(crate) async fn server_insert(
    pool: &PgPool,
    team: &str,
    name: &str,
    transport: &mcp::Transport,
    defaults: &Defaults,
    credentials: &[CredentialUse],
    told: &Event,
) -> Result<bool, Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query!(
        "WITH added AS (
             INSERT INTO registry.server (team_id, name, id, transport, defaults, credentials)
             VALUES ($1, $2, $3, $4, $5, $7)
             ON CONFLICT (team_id, name) DO NOTHING RETURNING id)
         SELECT pg_notify($6, '') FROM added",
        team,
        name,
        types::new_id(),
        Json(transport) as _,
        Json(defaults) as _,
        CHANNEL,
        Json(credentials) as _,
    )
    .fetch_all(&mut *transaction)
    .await?;
    if done.is_empty() {
        return Ok(false);
    }
    trail::record(&mut transaction, std::slice::from_ref(told)).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Asks for a discovery, and gives its number.
pub(crate) async fn server_refresh(pool: &PgPool, team: &str, name: &str) -> Result<Option<i64>, Error> {
    let wanted = sqlx::query_scalar!(
        "WITH asked AS (
             UPDATE registry.server SET refresh_wanted = refresh_wanted + 1
             WHERE team_id = $1 AND name = $2 RETURNING refresh_wanted)
         SELECT refresh_wanted FROM asked, pg_notify($3, '')",
        team,
        name,
        CHANNEL,
    )
    .fetch_optional(pool)
    .await?;
    Ok(wanted)
}

/// Removes a server; gives whether there was one.
pub(crate) async fn server_delete(write: &mut Write, team: &str, name: &str) -> Result<bool, Error> {
    let gone = sqlx::query!(
        "WITH gone AS (DELETE FROM registry.server WHERE team_id = $1 AND name = $2 RETURNING id)
         SELECT pg_notify($3, '') FROM gone",
        team,
        name,
        CHANNEL,
    )
    .fetch_all(&mut *write.transaction)
    .await?;
    Ok(!gone.is_empty())
}

/// A server that this process keeps; `None` when it does not any more, or it is gone. Its tools are not counted.
pub(crate) async fn server_kept(
    pool: &PgPool,
    key: &ServerKey,
    owner: Uuid,
) -> Result<Option<ServerRow>, Error> {
    let row = sqlx::query_as!(
        ServerRow,
        r#"SELECT team_id, name, id, transport AS "transport: _", defaults AS "defaults: _",
                  credentials AS "credentials: _", state, last_error,
                  last_seen_time, discovery_ms, server_version, protocol_version, rejected_tools,
                  refresh_wanted, refresh_done, failures, answers, last_probe_time, next_time,
                  0::bigint AS "tool_count!", 0::bigint AS "pending_count!",
                  (extract(epoch FROM next_time - now()) * 1000)::bigint AS "due_in_ms!",
                  (extract(epoch FROM next_probe_time - now()) * 1000)::bigint AS "probe_in_ms!"
           FROM registry.server s WHERE team_id = $1 AND id = $2 AND lease_owner = $3"#,
        key.team_id,
        key.id,
        owner,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Gives the lease back, so that another process need not wait for its end.
pub(crate) async fn lease_release(pool: &PgPool, key: &ServerKey, owner: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "WITH freed AS (
             UPDATE registry.server SET lease_owner = NULL, lease_until = NULL
             WHERE team_id = $1 AND id = $2 AND lease_owner = $3 RETURNING id)
         SELECT pg_notify($4, '') FROM freed",
        key.team_id,
        key.id,
        owner,
        CHANNEL,
    )
    .fetch_all(pool)
    .await?;
    Ok(())
}

/// Whether the lease is still this process's; holds the row until the transaction ends.
pub(crate) async fn server_is_held(write: &mut Write, key: &ServerKey, owner: Uuid) -> Result<bool, Error> {
    let row = sqlx::query!(
        "SELECT id FROM registry.server WHERE team_id = $1 AND id = $2 AND lease_owner = $3 FOR UPDATE",
        key.team_id,
        key.id,
        owner,
    )
    .fetch_optional(&mut *write.transaction)
    .await?;
    Ok(row.is_some())
}

/// How a server is reached, and with which credentials.
#[derive(Debug)]
pub(crate) struct ServerPlace {
    pub transport: Json<mcp::Transport>,
    pub credentials: Json<Vec<CredentialUse>>,
}

/// Where the server of this name is; `None`: there is none.
pub(crate) async fn server_place(
    write: &mut Write,
    team: &str,
    name: &str,
) -> Result<Option<ServerPlace>, Error> {
    let place = sqlx::query_as!(
        ServerPlace,
        r#"SELECT transport AS "transport: _", credentials AS "credentials: _"
           FROM registry.server WHERE team_id = $1 AND name = $2"#,
        team,
        name,
    )
    .fetch_optional(&mut *write.transaction)
    .await?;
    Ok(place)
}

/// Whether there is a server of this name.
pub(crate) async fn server_exists(write: &mut Write, team: &str, name: &str) -> Result<bool, Error> {
    let exists = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM registry.server WHERE team_id = $1 AND name = $2) AS "exists!""#,
        team,
        name,
    )
    .fetch_one(&mut *write.transaction)
    .await?;
    Ok(exists)
}
