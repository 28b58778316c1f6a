//! Versions that may be used, and the OAuth 2.0 tokens fetched with them, which all processes share. One fetch of a
//! version's token is under way at a time: it holds no connection, but a mark with an end.

use std::time::Duration;

use ::store::Error;
use sqlx::PgPool;
use uuid::Uuid;

use crate::credentials::State;

/// A version with what is sealed in it. Times are in milliseconds from now, by the database's clock.
pub(crate) struct LiveVersion {
    pub kind: String,
    pub version: i32,
    pub state: State,
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
    pub sealed: Vec<u8>,
    /// Until it ends; `None`: never.
    pub left_ms: Option<i64>,
    pub token: Option<Vec<u8>>,
    /// Until the token ends, since it was fetched, and from the one to the other.
    pub token_left_ms: Option<i64>,
    pub token_life_ms: Option<i64>,
    /// Until a token may be fetched again after a failure.
    pub fetch_wait_ms: Option<i64>,
    pub fetch_failures: i32,
    pub fetch_error: String,
    /// Whether nothing says that it was used in this minute.
    pub unmarked: bool,
}

/// The versions of a credential that may be used now, the active one first; or a pending one, if it is named.
pub(crate) async fn version_live(
    pool: &PgPool,
    team: &str,
    name: &str,
    pending: Option<i32>,
) -> Result<Vec<LiveVersion>, Error> {
    let rows = sqlx::query_as!(
        LiveVersion,
        r#"SELECT c.kind, v.version, v.state, v.key_id AS "key_id!", v.wrapped_key AS "wrapped_key!",
                  v.sealed AS "sealed!",
                  (extract(epoch FROM least(v.expire_time, v.retire_time) - now()) * 1000)::bigint AS left_ms,
                  v.token,
                  (extract(epoch FROM v.token_end_time - now()) * 1000)::bigint AS token_left_ms,
                  (extract(epoch FROM v.token_end_time - v.token_time) * 1000)::bigint AS token_life_ms,
                  (extract(epoch FROM v.next_fetch_time - now()) * 1000)::bigint AS fetch_wait_ms,
                  v.fetch_failures, v.fetch_error,
                  (v.last_used_time IS NULL OR v.last_used_time < date_trunc('minute', now())) AS "unmarked!"
           FROM registry.credential c
           JOIN registry.credential_version v ON v.team_id = c.team_id AND v.name = c.name
           WHERE c.team_id = $1 AND c.name = $2
             AND (v.state IN ('active', 'retiring') OR (v.state = 'pending' AND v.version = $3))
             AND (v.expire_time IS NULL OR v.expire_time > now())
             AND (v.retire_time IS NULL OR v.retire_time > now())
           ORDER BY v.state <> 'active'"#,
        team,
        name,
        pending,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Says that a version was used in this minute.
pub(crate) async fn version_mark_used(
    pool: &PgPool,
    team: &str,
    name: &str,
    version: i32,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.credential_version SET last_used_time = date_trunc('minute', now())
         WHERE team_id = $1 AND name = $2 AND version = $3
           AND (last_used_time IS NULL OR last_used_time < date_trunc('minute', now()))",
        team,
        name,
        version,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets a token that was refused, unless it is so new that another one must have been.
pub(crate) async fn token_drop(
    pool: &PgPool,
    team: &str,
    name: &str,
    version: i32,
    newer_than: Duration,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "UPDATE registry.credential_version SET token = NULL, token_time = NULL, token_end_time = NULL
         WHERE team_id = $1 AND name = $2 AND version = $3 AND token IS NOT NULL
           AND token_time <= now() - make_interval(secs => $4)",
        team,
        name,
        version,
        newer_than.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Marks a fetch as under way; `false`: another one is, the next may not be made yet, or the version is gone.
pub(crate) async fn token_claim(
    pool: &PgPool,
    (team, name, version): (&str, &str, i32),
    fetch: Uuid,
    time: Duration,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "UPDATE registry.credential_version
         SET fetch_id = $4, fetch_until = now() + make_interval(secs => $5)
         WHERE team_id = $1 AND name = $2 AND version = $3 AND state <> 'revoked'
           AND (fetch_until IS NULL OR fetch_until <= now())
           AND (next_fetch_time IS NULL OR next_fetch_time <= now())",
        team,
        name,
        version,
        fetch,
        time.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps a token, and with it in one statement the secret where the server has replaced it. `false`: the version
/// has ended, or its fetch was taken for dead and another one begun.
pub(crate) async fn token_keep(
    pool: &PgPool,
    (team, name, version): (&str, &str, i32),
    fetch: Uuid,
    (token, life): (&[u8], Duration),
    replaced: Option<&[u8]>,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "UPDATE registry.credential_version
         SET token = $5, token_time = now(), token_end_time = now() + make_interval(secs => $6),
             sealed = coalesce($7, sealed), fetch_id = NULL, fetch_until = NULL, fetch_failures = 0,
             fetch_error = '', next_fetch_time = NULL
         WHERE team_id = $1 AND name = $2 AND version = $3 AND fetch_id = $4 AND state <> 'revoked'",
        team,
        name,
        version,
        fetch,
        token,
        life.as_secs_f64(),
        replaced,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes why a fetch failed, and when the next may be made.
pub(crate) async fn token_fail(
    pool: &PgPool,
    (team, name, version): (&str, &str, i32),
    fetch: Uuid,
    error: &str,
    pause: Duration,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.credential_version
         SET fetch_id = NULL, fetch_until = NULL, fetch_failures = fetch_failures + 1, fetch_error = $5,
             next_fetch_time = now() + make_interval(secs => $6)
         WHERE team_id = $1 AND name = $2 AND version = $3 AND fetch_id = $4 AND state <> 'revoked'",
        team,
        name,
        version,
        fetch,
        error,
        pause.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(())
}
