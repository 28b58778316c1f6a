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
    let expired = sqlx::query_file_scalar!("src/store/reservations_expire.sql", now, limit)
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
    // What counts for all time has the window of 1970, and stays.
    sqlx::query!("DELETE FROM permissions.tally WHERE window_start < $1 AND window_start > 'epoch'", before)
        .execute(pool)
        .await?;
    sqlx::query!("DELETE FROM permissions.spend WHERE day < $1", before.date_naive()).execute(pool).await?;
    sqlx::query!("DELETE FROM permissions.budget_alert WHERE day < $1", before.date_naive())
        .execute(pool)
        .await?;
    Ok(())
}

/// The smallest UUIDv7 of a time: its first 48 bits are milliseconds since 1970 (RFC 9562, section 5.7).
fn first_id_of(at: DateTime<Utc>) -> Uuid {
    let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or(0);
    Uuid::from_u64_pair(milliseconds << 16, 0)
}
