//! The SQL of reviews: which request ids were used, and whether what was looked at is there.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::Connection;

/// A review that was put on record.
#[derive(Debug, Clone)]
pub(crate) struct ReviewRow {
    pub event_id: Uuid,
    pub time: DateTime<Utc>,
    /// SHA-256 of what it said.
    pub digest: Vec<u8>,
}

/// The review of a request id; of none, none.
pub(crate) async fn review_find(
    pool: &PgPool,
    team: &str,
    request_id: &str,
) -> Result<Option<ReviewRow>, Error> {
    let row = sqlx::query_as!(
        ReviewRow,
        "SELECT event_id, review_time AS time, digest FROM audit.review WHERE team_id = $1 AND request_id = $2",
        team,
        request_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Notes the request id of a review; `false`: it is taken.
pub(crate) async fn review_insert(
    connection: &mut Connection,
    team: &str,
    request_id: &str,
    row: &ReviewRow,
) -> Result<bool, Error> {
    let done = sqlx::query!(
        "INSERT INTO audit.review (team_id, request_id, event_id, review_time, digest)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        team,
        request_id,
        row.event_id,
        row.time,
        row.digest,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Which of these events are not in the trail.
pub(crate) async fn records_missing(pool: &PgPool, team: &str, ids: &[Uuid]) -> Result<Vec<Uuid>, Error> {
    let missing = sqlx::query_scalar!(
        r#"SELECT a.id AS "id!" FROM unnest($2::uuid[]) AS a (id)
         WHERE NOT EXISTS (SELECT FROM audit.record r WHERE r.team_id = $1 AND r.id = a.id)
           AND NOT EXISTS (SELECT FROM audit.event e WHERE e.team_id = $1 AND e.id = a.id)"#,
        team,
        ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(missing)
}
