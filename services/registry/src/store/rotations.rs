//! Credentials whose rotation is due, versions whose end has come, and those that an older key wraps.

use std::time::Duration;

use ::store::Error;
use sqlx::PgPool;

use super::CredentialWrite;
use crate::trail::{self, Event};

/// A credential that is to be rotated.
#[derive(Debug, Clone)]
pub(crate) struct DueRotation {
    pub team_id: String,
    pub name: String,
    pub failures: i32,
}

/// A version whose data key is to be wrapped anew.
#[allow(clippy::struct_field_names, reason = "the names of the columns")]
pub(crate) struct WrappedKey {
    pub team_id: String,
    pub name: String,
    pub kind: String,
    pub version: i32,
    pub key_id: String,
    pub wrapped_key: Vec<u8>,
}

/// A credential of a source whose rotation is due. It is due again after `time`, should this process die.
pub(crate) async fn rotation_claim(pool: &PgPool, time: Duration) -> Result<Option<DueRotation>, Error> {
    let row = sqlx::query_as!(
        DueRotation,
        "UPDATE registry.credential SET next_rotation_time = now() + make_interval(secs => $1)
         WHERE (team_id, name) = (
             SELECT team_id, name FROM registry.credential
             WHERE next_rotation_time <= now() AND (source_file IS NOT NULL OR source_url IS NOT NULL)
             ORDER BY next_rotation_time LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING team_id, name, failures",
        time.as_secs_f64(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Notes that a rotation failed, and when it is tried again; the trail is told.
pub(crate) async fn rotation_fail(
    pool: &PgPool,
    due: &DueRotation,
    error: &str,
    pause: Duration,
    told: &Event,
) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    let done = sqlx::query!(
        "UPDATE registry.credential
         SET failures = failures + 1, last_error = $3, next_rotation_time = now() + make_interval(secs => $4)
         WHERE team_id = $1 AND name = $2 AND next_rotation_time IS NOT NULL",
        due.team_id,
        due.name,
        error,
        pause.as_secs_f64(),
    )
    .execute(&mut *transaction)
    .await?;
    if done.rows_affected() > 0 {
        trail::record(&mut transaction, std::slice::from_ref(told)).await?;
    }
    Ok(transaction.commit().await?)
}

/// Notes that the source still gives the same, and when it is asked again.
pub(crate) async fn rotation_skip(pool: &PgPool, due: &DueRotation, pause: Duration) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE registry.credential
         SET failures = 0, last_error = '', next_rotation_time = now() + make_interval(secs => $3)
         WHERE team_id = $1 AND name = $2 AND next_rotation_time IS NOT NULL",
        due.team_id,
        due.name,
        pause.as_secs_f64(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Versions that were kept, fetched a token, and never came to be used.
pub(crate) async fn version_forgotten(
    pool: &PgPool,
    forgotten_after: Duration,
) -> Result<Vec<(String, String, i32)>, Error> {
    let rows = sqlx::query!(
        "SELECT team_id, name, version FROM registry.credential_version
         WHERE state = 'pending' AND token IS NOT NULL
           AND create_time <= now() - make_interval(secs => $1)",
        forgotten_after.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.name, row.version)).collect())
}

/// Ends versions whose time is over, and those that were kept and never came to be used, unless they hold a token:
/// with it they may hold the only refresh token that is still taken. Of one that was never used, no digest stays: its
/// source may give it again. The trail is told of each.
pub(crate) async fn version_end_due(
    pool: &PgPool,
    forgotten_after: Duration,
    told: impl Fn(&str, &str, i32) -> Event,
) -> Result<Vec<(String, String, i32)>, Error> {
    let mut transaction = pool.begin().await?;
    let rows = sqlx::query!(
        "UPDATE registry.credential_version
         SET state = 'revoked', key_id = NULL, wrapped_key = NULL, sealed = NULL, token = NULL,
             token_time = NULL, token_end_time = NULL, fetch_id = NULL, fetch_until = NULL, fetch_error = '',
             digest = CASE WHEN state = 'pending' AND (expire_time > now()) IS NOT FALSE THEN ''::bytea ELSE digest END
         WHERE state <> 'revoked'
           AND (expire_time <= now() OR (state = 'retiring' AND retire_time <= now())
                OR (state = 'pending' AND token IS NULL AND create_time <= now() - make_interval(secs => $1)))
         RETURNING team_id, name, version",
        forgotten_after.as_secs_f64(),
    )
    .fetch_all(&mut *transaction)
    .await?;
    let events: Vec<Event> = rows.iter().map(|row| told(&row.team_id, &row.name, row.version)).collect();
    trail::record(&mut transaction, &events).await?;
    transaction.commit().await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.name, row.version)).collect())
}

/// Ends a version, or all of them, and gives how many there are of it or them, ended before or not. Without a
/// version left, nothing rotates it by itself. The trail is told where one ended now.
pub(crate) async fn credential_revoke(
    pool: &PgPool,
    team: &str,
    name: &str,
    version: Option<i32>,
    told: Event,
) -> Result<i64, Error> {
    let mut write = CredentialWrite::begin(pool, team, name).await?;
    let ended = sqlx::query!(
        "UPDATE registry.credential_version
         SET state = 'revoked', key_id = NULL, wrapped_key = NULL, sealed = NULL, token = NULL,
             token_time = NULL, token_end_time = NULL, fetch_id = NULL, fetch_until = NULL, fetch_error = ''
         WHERE team_id = $1 AND name = $2 AND ($3::integer IS NULL OR version = $3) AND state <> 'revoked'",
        team,
        name,
        version,
    )
    .execute(&mut *write.transaction)
    .await?;
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM registry.credential_version
           WHERE team_id = $1 AND name = $2 AND ($3::integer IS NULL OR version = $3)"#,
        team,
        name,
        version,
    )
    .fetch_one(&mut *write.transaction)
    .await?;
    sqlx::query!(
        "UPDATE registry.credential c SET next_rotation_time = NULL, failures = 0, last_error = ''
         WHERE team_id = $1 AND name = $2 AND NOT EXISTS (
             SELECT 1 FROM registry.credential_version v
             WHERE v.team_id = c.team_id AND v.name = c.name AND v.state <> 'revoked')",
        team,
        name,
    )
    .execute(&mut *write.transaction)
    .await?;
    if ended.rows_affected() > 0 {
        write.tell(told);
    }
    write.commit().await?;
    Ok(count)
}

/// What may be wrapped anew: that which one of these keys wraps, in order from after this version on. Version 0 is
/// the key that digests of a credential are made with.
pub(crate) async fn wrapped_list(
    pool: &PgPool,
    key_ids: &[String],
    (team, name, version): (&str, &str, i32),
    limit: i64,
) -> Result<Vec<WrappedKey>, Error> {
    let rows = sqlx::query_as!(
        WrappedKey,
        r#"SELECT team_id AS "team_id!", name AS "name!", kind AS "kind!", version AS "version!",
                  key_id AS "key_id!", wrapped_key AS "wrapped_key!"
           FROM (SELECT v.team_id, v.name, c.kind, v.version, v.key_id, v.wrapped_key
                 FROM registry.credential_version v
                 JOIN registry.credential c ON c.team_id = v.team_id AND c.name = v.name
                 WHERE v.state <> 'revoked'
                 UNION ALL
                 SELECT team_id, name, 'api_key', 0, digest_key_id, digest_key
                 FROM registry.credential WHERE digest_key IS NOT NULL) wrapped
           WHERE key_id = ANY($1) AND (team_id, name, version) > ($2, $3, $4)
           ORDER BY team_id, name, version LIMIT $5"#,
        key_ids,
        team,
        name,
        version,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Puts a data key that was wrapped anew in the place of the old one, unless that changed meanwhile.
pub(crate) async fn wrapped_replace(
    pool: &PgPool,
    old: &WrappedKey,
    key_id: &str,
    wrapped_key: &[u8],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH digests AS (
             UPDATE registry.credential SET digest_key_id = $4, digest_key = $5
             WHERE team_id = $1 AND name = $2 AND $3::integer = 0 AND digest_key = $6)
         UPDATE registry.credential_version SET key_id = $4, wrapped_key = $5
         WHERE team_id = $1 AND name = $2 AND version = $3 AND wrapped_key = $6",
        old.team_id,
        old.name,
        old.version,
        key_id,
        wrapped_key,
        old.wrapped_key,
    )
    .execute(pool)
    .await?;
    Ok(())
}
