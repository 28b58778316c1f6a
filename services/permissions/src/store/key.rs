//! API keys, of which only a digest is here. A key is never deleted, only revoked.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

/// A key to keep.
#[derive(Debug, Clone)]
pub(crate) struct NewKeyRow {
    pub key_id: String,
    pub agent_id: String,
    /// HMAC-SHA-256 of the whole key under the pepper, in hex.
    pub digest: String,
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
    pub expire_time: Option<DateTime<Utc>>,
    pub revoke_time: Option<DateTime<Utc>>,
}

/// Keeps a new key.
pub(crate) async fn key_insert(pool: &PgPool, team: &str, key: &NewKeyRow) -> Result<(), Error> {
    sqlx::query!(
        "WITH directory AS (
             INSERT INTO permissions.api_key_team (key_id, team_id) VALUES ($2, $1)
         )
         INSERT INTO permissions.api_key
             (team_id, key_id, agent_id, digest, created_by, create_time, expire_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        team,
        key.key_id,
        key.agent_id,
        key.digest,
        key.created_by,
        key.create_time,
        key.expire_time,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Whom a key belongs to. The one question that is asked before the team is known.
pub(crate) async fn key_owner_get(pool: &PgPool, key_id: &str) -> Result<Option<KeyOwner>, Error> {
    let owner = sqlx::query_as!(
        KeyOwner,
        "SELECT a.team_id, a.agent_id, a.specialization, a.role, a.disabled, k.digest, k.expire_time,
                k.revoke_time
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

/// Revokes a key; tells whether the team has it. One that was revoked before stays as it was.
pub(crate) async fn key_revoke(
    pool: &PgPool,
    team: &str,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "UPDATE permissions.api_key SET revoke_time = coalesce(revoke_time, $3)
         WHERE team_id = $1 AND key_id = $2",
        team,
        key_id,
        now,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}
