//! Ends reservations: settled, or past their time. A place and a cost are given back once at most, and a
//! call is charged once. Like taking, not waited for until it reaches the disk.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

/// The end of one reservation.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Settlement {
    pub team_id: String,
    pub decision_id: Uuid,
    /// Whether the call was made.
    pub committed: bool,
    /// What it did cost, in micro USD.
    pub cost_micro_usd: i64,
}

/// Ends reservations of different decisions, and tells for each, in the order of the batch, whether there
/// is such a reservation at all. One that ended stays as it is; but a call that was made after its time
/// was over still counts and is charged, unless its execution holds another reservation that does. A
/// conflict means that another process took one in the meantime; then nothing is done.
pub(crate) async fn reservations_settle(
    connection: &mut PgConnection,
    batch: &[&Settlement],
) -> Result<Vec<bool>, Error> {
    let rows = sqlx::query_file_scalar!("src/store/reservations_settle.sql", Json(batch) as _,)
        .fetch_all(connection)
        .await?;
    Ok(rows)
}

/// Ends at most `limit` reservations past their time, of every team, gives their places and costs back,
/// and tells how many there were. One process sweeps at a time; for another there is nothing to do.
pub(crate) async fn reservations_expire(pool: &PgPool, now: DateTime<Utc>, limit: i64) -> Result<i64, Error> {
    let mut transaction = pool.begin().await?;
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtext('permissions.reservations_expire')) AS \"alone!\""
    )
    .fetch_one(&mut *transaction)
    .await?;
    if !alone {
        return Ok(0);
    }
    let expired = sqlx::query_scalar!(
        "WITH late AS (
             SELECT team_id, decision_id FROM permissions.reservation
             WHERE state = 'reserved' AND expire_time <= $1
             LIMIT $2 FOR UPDATE SKIP LOCKED
         ), expired AS (
             UPDATE permissions.reservation r SET state = 'expired' FROM late l
             WHERE r.team_id = l.team_id AND r.decision_id = l.decision_id
             RETURNING r.team_id, r.grant_id, r.agent_id, r.window_start, r.quota_limit, r.day,
                       r.cost_micro_usd
         ), counters AS (
             SELECT k.*
             FROM (
                 SELECT team_id, grant_id, agent_id, window_start, count(*) AS places
                 FROM expired WHERE quota_limit > 0 GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
             ) k
             CROSS JOIN LATERAL (
                 SELECT 1 FROM permissions.counter l
                 WHERE l.team_id = k.team_id AND l.grant_id = k.grant_id AND l.agent_id = k.agent_id
                   AND l.window_start = k.window_start
                 FOR UPDATE
             ) c
         ), counted AS (
             UPDATE permissions.counter c SET used = greatest(c.used - k.places, 0) FROM counters k
             WHERE c.team_id = k.team_id AND c.grant_id = k.grant_id AND c.agent_id = k.agent_id
               AND c.window_start = k.window_start
         ), spends AS (
             SELECT k.*
             FROM (
                 SELECT team_id, day, sum(cost_micro_usd)::bigint AS given_back
                 FROM expired WHERE day IS NOT NULL AND (SELECT count(*) FROM counters) >= 0
                 GROUP BY 1, 2 ORDER BY 1, 2
             ) k
             CROSS JOIN LATERAL (
                 SELECT 1 FROM permissions.spend l WHERE l.team_id = k.team_id AND l.day = k.day FOR UPDATE
             ) s
         ), given_back AS (
             UPDATE permissions.spend s
             SET reserved_micro_usd = greatest(s.reserved_micro_usd - k.given_back, 0)
             FROM spends k WHERE s.team_id = k.team_id AND s.day = k.day
         )
         SELECT count(*) AS \"expired!\" FROM expired",
        now,
        limit,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(expired)
}

/// Deletes reservations that ended, and windows and days that began before a time, of every team.
pub(crate) async fn past_delete(pool: &PgPool, before: DateTime<Utc>) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM permissions.reservation r USING permissions.team t
         WHERE r.team_id = t.team_id AND r.decision_id < $1 AND r.state <> 'reserved'",
        first_id_of(before),
    )
    .execute(pool)
    .await?;
    sqlx::query!("DELETE FROM permissions.counter WHERE window_start < $1", before).execute(pool).await?;
    sqlx::query!("DELETE FROM permissions.spend WHERE day < $1", before.date_naive()).execute(pool).await?;
    Ok(())
}

/// The smallest UUIDv7 of a time: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
fn first_id_of(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u64_pair(milliseconds << 16, 0)
}
