//! The SQL of erasures: what goes out of the trail with a data subject, and how far each is.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, Postgres, Transaction, types::Json};
use uuid::Uuid;

use super::Connection;

/// What was erased in one part of the suite.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_field_names, reason = "as the contract names it")]
pub(crate) struct Part {
    pub part: String,
    pub records: i64,
    pub done: bool,
    /// Why it is not done; empty: nothing is wrong.
    #[serde(default)]
    pub failure: String,
}

/// What was erased in every part, as the table keeps it.
pub(crate) type Parts = Json<Vec<Part>>;

/// One erasure. No `Debug` of it shows a name: it is sealed.
#[derive(Debug, Clone)]
pub(crate) struct ErasureRow {
    pub id: Uuid,
    /// `None`: the trail knew nobody of the name.
    pub subject_id: Option<Uuid>,
    /// Until every part is done.
    pub sealed_user: Option<Vec<u8>>,
    pub user_digest: Option<Vec<u8>>,
    pub reason: String,
    pub agent_id: String,
    pub request_id: String,
    pub request_time: DateTime<Utc>,
    pub parts: Parts,
    pub done_time: Option<DateTime<Utc>>,
    pub certificate: String,
}

/// An erasure that goes on, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenErasure {
    pub team_id: String,
    pub id: Uuid,
}

/// One erasure.
pub(crate) async fn erasure_get(
    connection: &mut Connection,
    team: &str,
    id: Uuid,
) -> Result<Option<ErasureRow>, Error> {
    let row = sqlx::query_as!(
        ErasureRow,
        "SELECT id, subject_id, sealed_user, user_digest, reason, agent_id, request_id, request_time,
                parts AS \"parts: Json<Vec<Part>>\", done_time, certificate
         FROM audit.erasure WHERE team_id = $1 AND id = $2",
        team,
        id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// The erasure of a request id, or the one of this user that goes on.
pub(crate) async fn erasure_find(
    connection: &mut Connection,
    team: &str,
    request_id: &str,
    user_digest: &[u8],
) -> Result<Option<ErasureRow>, Error> {
    let row = sqlx::query_as!(
        ErasureRow,
        "SELECT id, subject_id, sealed_user, user_digest, reason, agent_id, request_id, request_time,
                parts AS \"parts: Json<Vec<Part>>\", done_time, certificate
         FROM audit.erasure
         WHERE team_id = $1 AND (request_id = $2 AND $2 <> '' OR done_time IS NULL AND user_digest = $3)
         ORDER BY (request_id = $2 AND $2 <> '') DESC LIMIT 1",
        team,
        request_id,
        user_digest,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// Begins an erasure.
pub(crate) async fn erasure_insert(
    connection: &mut Connection,
    team: &str,
    erasure: &ErasureRow,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.erasure (
             team_id, id, subject_id, sealed_user, user_digest, reason, agent_id, request_id, request_time)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        team,
        erasure.id,
        erasure.subject_id,
        erasure.sealed_user,
        erasure.user_digest,
        erasure.reason,
        erasure.agent_id,
        erasure.request_id,
        erasure.request_time,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Destroys the key of a data subject, and the way from the name to it; names that released holds still show go with it.
pub(crate) async fn subject_destroy_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    subject: Uuid,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH holds AS (
             UPDATE audit.hold SET sealed_user = NULL WHERE team_id = $1 AND subject_id = $2
         )
         UPDATE audit.subject SET wrapped_key = NULL, user_digest = NULL, erase_time = $3
         WHERE team_id = $1 AND subject_id = $2",
        team,
        subject,
        now,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Takes the payloads of at most so many records of a subject after an id, in whichever partition, and gives the last id;
/// `None`: there were none. Nobody can read them any more anyway.
pub(crate) async fn payloads_erase(
    pool: &PgPool,
    team: &str,
    subject: Uuid,
    after: Uuid,
    limit: i64,
) -> Result<Option<Uuid>, Error> {
    let last = sqlx::query_scalar!(
        "WITH found AS (
             SELECT team_id, id, classification FROM audit.record
             WHERE team_id = $1 AND subject_id = $2 AND id > $3
             ORDER BY id LIMIT $4
         ), emptied AS (
             UPDATE audit.record r SET payload = NULL FROM found f
             WHERE r.team_id = f.team_id AND r.id = f.id AND r.classification = f.classification
               AND r.payload IS NOT NULL
         )
         SELECT id FROM found ORDER BY id DESC LIMIT 1",
        team,
        subject,
        after,
        limit,
    )
    .fetch_optional(pool)
    .await?;
    Ok(last)
}

/// How many records of a subject there are, but for the one that tells of its erasure, and how many of them still have a payload.
pub(crate) async fn payloads_count(pool: &PgPool, team: &str, subject: Uuid) -> Result<(i64, i64), Error> {
    let row = sqlx::query!(
        "SELECT count(*) AS \"all!\", count(payload) AS \"left!\" FROM audit.record
         WHERE team_id = $1 AND subject_id = $2 AND action <> 'subject_erased'",
        team,
        subject,
    )
    .fetch_one(pool)
    .await?;
    Ok((row.all, row.left))
}

/// Erasures that are due, at most so many of a team and in all; those that waited longest of every team come first.
pub(crate) async fn erasures_due(pool: &PgPool, of_team: i64, limit: i64) -> Result<Vec<OpenErasure>, Error> {
    let rows = sqlx::query_as!(
        OpenErasure,
        "SELECT team_id, id FROM (
             SELECT team_id, id, next_try_time,
                    row_number() OVER (PARTITION BY team_id ORDER BY next_try_time, id) AS place
             FROM audit.erasure WHERE done_time IS NULL AND next_try_time <= now()
         ) due
         WHERE place <= $1 ORDER BY place, next_try_time LIMIT $2",
        of_team,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// In how many milliseconds the next one is due, 0 where one is already; `None`: none goes on.
pub(crate) async fn erasures_next_ms(pool: &PgPool) -> Result<Option<i64>, Error> {
    let ms = sqlx::query_scalar!(
        "SELECT greatest(extract(epoch FROM next_try_time - now()) * 1000, 0)::bigint AS \"ms!\"
         FROM audit.erasure WHERE done_time IS NULL ORDER BY next_try_time LIMIT 1",
    )
    .fetch_optional(pool)
    .await?;
    Ok(ms)
}

/// Puts the next try off: 200 ms after the first, twice as long after each, 30 s at most.
pub(crate) async fn erasure_put_off(pool: &PgPool, team: &str, id: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE audit.erasure
         SET tries = least(tries + 1, 30),
             next_try_time = now() + least(interval '200 ms' * (1 << least(tries, 8)), interval '30 s')
         WHERE team_id = $1 AND id = $2 AND done_time IS NULL",
        team,
        id,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes an erasure for this process until the transaction ends; `false`: another one has it.
pub(crate) async fn erasure_lock(connection: &mut Connection, id: Uuid) -> Result<bool, Error> {
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('audit.erasure:' || $1::uuid::text, 0)) AS \"alone!\"",
        id,
    )
    .fetch_one(connection)
    .await?;
    Ok(alone)
}

/// Notes how far an erasure is.
pub(crate) async fn erasure_note(pool: &PgPool, team: &str, id: Uuid, parts: &[Part]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE audit.erasure SET parts = $3 WHERE team_id = $1 AND id = $2 AND done_time IS NULL",
        team,
        id,
        Json(parts) as _,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Ends an erasure: the name leaves it. What the name is known by stays for a while, so that events that are late do not
/// bring it back (`erased_forget`).
pub(crate) async fn erasure_end(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    certificate: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE audit.erasure SET done_time = $4, certificate = $3, sealed_user = NULL
         WHERE team_id = $1 AND id = $2 AND done_time IS NULL",
        team,
        id,
        certificate,
        now,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// The position of a record; `None`: it is not there.
pub(crate) async fn record_position(pool: &PgPool, team: &str, id: Uuid) -> Result<Option<i64>, Error> {
    let position =
        sqlx::query_scalar!("SELECT sequence FROM audit.record WHERE team_id = $1 AND id = $2", team, id,)
            .fetch_optional(pool)
            .await?;
    Ok(position)
}
