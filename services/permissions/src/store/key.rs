//! API keys, of which only a digest is here. A key is never deleted, only revoked.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

/// A key to keep.
#[derive(Debug, Clone)]
pub(crate) struct NewKeyRow {
    pub key_id: String,
    pub agent_id: String,
    /// HMAC-SHA-256 of the whole key under the pepper, in hex.
    pub digest: String,
    /// Words of `types::Scope`; none: all that the agent's role may.
    pub scopes: Vec<String>,
    pub note: String,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    pub expire_time: Option<DateTime<Utc>>,
}

/// Whom a key belongs to, and what could make it invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyOwner {
    pub team_id: String,
    pub agent_id: String,
    pub specialization: String,
    pub role: String,
    pub disabled: bool,
    pub digest: String,
    pub scopes: Vec<String>,
    pub expire_time: Option<DateTime<Utc>>,
    pub revoke_time: Option<DateTime<Utc>>,
}

/// A key as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub key_id: String,
    pub agent_id: String,
    pub scopes: Vec<String>,
    pub note: String,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    pub expire_time: Option<DateTime<Utc>>,
    pub revoke_time: Option<DateTime<Utc>>,
    pub last_use_time: Option<DateTime<Utc>>,
    pub replaced_by: Option<String>,
}

/// A key that is about to be rotated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeldKey {
    pub agent_id: String,
    pub scopes: Vec<String>,
    pub note: String,
    pub create_time: DateTime<Utc>,
    pub expire_time: Option<DateTime<Utc>>,
    pub revoke_time: Option<DateTime<Utc>>,
    /// How long it was valid from its issue, in seconds, 0 for no end; `None` while its end was never moved.
    pub life_s: Option<i64>,
    pub replaced_by: Option<String>,
}

/// Which keys to list.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyFilter {
    pub agent_id: Option<String>,
    pub include_ended: bool,
}

/// Keeps a new key.
pub(crate) async fn key_insert(
    connection: &mut PgConnection,
    team: &str,
    key: &NewKeyRow,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH directory AS (
             INSERT INTO permissions.api_key_team (key_id, team_id) VALUES ($2, $1)
         )
         INSERT INTO permissions.api_key
             (team_id, key_id, agent_id, digest, scopes, note, created_by, create_time, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        team,
        key.key_id,
        key.agent_id,
        key.digest,
        &key.scopes,
        key.note,
        key.created_by,
        key.create_time,
        key.expire_time,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Whom a key belongs to. The one question that is asked before the team is known.
pub(crate) async fn key_owner_get(pool: &PgPool, key_id: &str) -> Result<Option<KeyOwner>, Error> {
    let owner = sqlx::query_as!(
        KeyOwner,
        "SELECT a.team_id, a.agent_id, a.specialization, a.role, a.disabled, k.digest, k.scopes,
                k.expire_time, k.revoke_time
         FROM permissions.api_key_team t
         JOIN permissions.api_key k ON k.team_id = t.team_id AND k.key_id = t.key_id
         JOIN permissions.agent a ON a.team_id = k.team_id AND a.agent_id = k.agent_id
         WHERE t.key_id = $1",
        key_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(owner)
}

/// Revokes a key; gives its agent and whether it was revoked only now. `None` when the team has no such key.
pub(crate) async fn key_revoke(
    connection: &mut PgConnection,
    team: &str,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<Option<(String, bool)>, Error> {
    let row = sqlx::query!(
        "WITH held AS (
             SELECT key_id, agent_id, revoke_time FROM permissions.api_key
             WHERE team_id = $1 AND key_id = $2 FOR UPDATE
         ), revoked AS (
             UPDATE permissions.api_key k SET revoke_time = $3 FROM held
             WHERE k.team_id = $1 AND k.key_id = held.key_id AND held.revoke_time IS NULL
         )
         SELECT agent_id, revoke_time IS NULL AS \"now!\" FROM held",
        team,
        key_id,
        now,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.agent_id, row.now)))
}

/// A key to rotate, locked until the transaction ends.
pub(crate) async fn key_hold(
    connection: &mut PgConnection,
    team: &str,
    key_id: &str,
) -> Result<Option<HeldKey>, Error> {
    let held = sqlx::query_as!(
        HeldKey,
        "SELECT agent_id, scopes, note, create_time, expire_time, revoke_time, life_s, replaced_by
         FROM permissions.api_key WHERE team_id = $1 AND key_id = $2 FOR UPDATE",
        team,
        key_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(held)
}

/// Whether a key of a team is neither revoked nor ended. Asked apart from `key_hold`: a statement that waited for a lock
/// sees the locked row as it is now, and every other one as it was.
pub(crate) async fn key_is_live(
    connection: &mut PgConnection,
    team: &str,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let is_live = sqlx::query_scalar!(
        "SELECT EXISTS (
             SELECT FROM permissions.api_key
             WHERE team_id = $1 AND key_id = $2 AND revoke_time IS NULL
               AND (expire_time IS NULL OR expire_time > $3)
         ) AS \"is_live!\"",
        team,
        key_id,
        now,
    )
    .fetch_one(connection)
    .await?;
    Ok(is_live)
}

/// Says which key takes a key's place, when it ends now, and how long it was valid before.
pub(crate) async fn key_replace(
    connection: &mut PgConnection,
    team: &str,
    key_id: &str,
    replaced_by: &str,
    expire_time: DateTime<Utc>,
    life_s: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE permissions.api_key SET replaced_by = $3, expire_time = $4, life_s = $5
         WHERE team_id = $1 AND key_id = $2",
        team,
        key_id,
        replaced_by,
        expire_time,
        life_s,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keys of a team, newest first, from behind the one that was made at a time and has an id.
pub(crate) async fn key_list(
    pool: &PgPool,
    team: &str,
    filter: &KeyFilter,
    now: DateTime<Utc>,
    behind: Option<(DateTime<Utc>, String)>,
    limit: i64,
) -> Result<Vec<KeyRow>, Error> {
    let (behind_time, behind_id) = behind.unzip();
    let rows = sqlx::query_as!(
        KeyRow,
        "SELECT k.key_id, k.agent_id, k.scopes, k.note, k.created_by, k.create_time, k.expire_time,
                k.revoke_time, u.last_use_time AS \"last_use_time?\", k.replaced_by
         FROM permissions.api_key k
         LEFT JOIN permissions.api_key_use u ON u.team_id = k.team_id AND u.key_id = k.key_id
         WHERE k.team_id = $1
           AND ($2::text IS NULL OR k.agent_id = $2)
           AND ($3 OR (k.revoke_time IS NULL AND (k.expire_time IS NULL OR k.expire_time > $4)))
           AND ($5::timestamptz IS NULL OR (k.create_time, k.key_id) < ($5, $6))
         ORDER BY k.create_time DESC, k.key_id DESC
         LIMIT $7",
        team,
        filter.agent_id,
        filter.include_ended,
        now,
        behind_time,
        behind_id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Writes when keys were last used, each with its team; an earlier use than what is known changes nothing.
pub(crate) async fn key_uses_write(
    pool: &PgPool,
    teams: &[String],
    keys: &[String],
    times: &[DateTime<Utc>],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.api_key_use AS u (team_id, key_id, last_use_time)
         SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[])
         ON CONFLICT (team_id, key_id) DO UPDATE SET last_use_time = excluded.last_use_time
         WHERE u.last_use_time < excluded.last_use_time",
        teams,
        keys,
        times,
    )
    .execute(pool)
    .await?;
    Ok(())
}
