//! What happened to executions while they ran.

use ::store::Error;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use super::ProgressEvent;
use crate::progress::EPOCH;

/// Writes events; one that stands already is left as it is. One of a run that has ended, or that another process
/// has taken over, or that was erased, is not written: whoever has seen the end has seen all.
pub(crate) async fn progress_insert(
    connection: &mut PgConnection,
    events: &[&ProgressEvent],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO executor.progress (team_id, execution_id, sequence, kind, body_json, create_time)
         SELECT r.team_id, r.execution_id, r.sequence, r.kind, r.body_json, r.create_time
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, execution_id uuid, sequence bigint, kind text, body_json text, create_time timestamptz)
         JOIN executor.execution e ON e.team_id = r.team_id AND e.id = r.execution_id
         WHERE e.status = 'running' AND e.lease_epoch = r.sequence / $2 AND NOT e.erased
         ON CONFLICT DO NOTHING",
        Json(events) as _,
        EPOCH,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The status of an execution and its lease epoch: all that tells whether it has changed.
pub(crate) async fn execution_standing(
    pool: &PgPool,
    team: &str,
    id: Uuid,
) -> Result<Option<(String, i32)>, Error> {
    let row = sqlx::query!(
        "SELECT status, lease_epoch FROM executor.execution WHERE team_id = $1 AND id = $2",
        team,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (row.status, row.lease_epoch)))
}

/// Events of an execution after a sequence number, in order.
pub(crate) async fn progress_list(
    pool: &PgPool,
    team: &str,
    execution: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<ProgressEvent>, Error> {
    let rows = sqlx::query_as!(
        ProgressEvent,
        "SELECT team_id, execution_id, sequence, kind, body_json, create_time FROM executor.progress
         WHERE team_id = $1 AND execution_id = $2 AND sequence > $3
         ORDER BY sequence LIMIT $4",
        team,
        execution,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Forgets events older than a week, at most so many at once; tells how many there were.
pub(crate) async fn progress_purge(pool: &PgPool, limit: i64) -> Result<u64, Error> {
    let purged = sqlx::query!(
        "DELETE FROM executor.progress p USING (
             SELECT team_id, execution_id, sequence FROM executor.progress
             WHERE create_time < now() - interval '7 days' LIMIT $1) old
         WHERE p.team_id = old.team_id AND p.execution_id = old.execution_id AND p.sequence = old.sequence",
        limit,
    )
    .execute(pool)
    .await?;
    Ok(purged.rows_affected())
}
