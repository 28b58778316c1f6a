//! The SQL of exports: where a time begins and ends in the trail, and what of it is gone.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// A time, and the ids that events of it may have.
#[derive(Debug, Clone)]
pub(crate) struct Time {
    pub ids: (Uuid, Uuid),
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
}

/// Positions whose retention has ended.
#[derive(Debug, Clone)]
pub(crate) struct EndedRow {
    pub first_sequence: i64,
    pub last_sequence: i64,
    /// The event that says so.
    pub event_id: Uuid,
}

/// The first and the last position up to `size` of events of a time; `None`: there is none.
pub(crate) async fn positions_of_time(
    pool: &PgPool,
    team: &str,
    time: &Time,
    size: i64,
) -> Result<Option<(i64, i64)>, Error> {
    let row = sqlx::query!(
        "SELECT min(sequence) AS first, max(sequence) AS last FROM audit.record
         WHERE team_id = $1 AND id >= $2 AND id < $3 AND event_time >= $4 AND event_time < $5 AND sequence <= $6",
        team,
        time.ids.0,
        time.ids.1,
        time.start,
        time.end,
        size,
    )
    .fetch_one(pool)
    .await?;
    Ok(row.first.zip(row.last))
}

/// What has ended of the positions from `first` to `last`, in order.
pub(crate) async fn ended_list(
    pool: &PgPool,
    team: &str,
    (first, last): (i64, i64),
) -> Result<Vec<EndedRow>, Error> {
    // Ranges do not overlap: only the one that begins last before `first` may reach into it, and it is found by the key.
    let rows = sqlx::query_as!(
        EndedRow,
        "SELECT first_sequence, last_sequence, event_id FROM audit.ended
         WHERE team_id = $1 AND first_sequence <= $3 AND last_sequence >= $2 AND first_sequence >= coalesce(
             (SELECT max(first_sequence) FROM audit.ended WHERE team_id = $1 AND first_sequence <= $2), 0)
         ORDER BY first_sequence",
        team,
        first,
        last,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
