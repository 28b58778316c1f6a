//! The SQL of moving what older processes wrote: out of `audit.event`, into `audit.record`.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{Connection as _, Postgres, Transaction};
use uuid::Uuid;

use super::{Connection, RecordRow};

/// An event as it was written before records.
pub(crate) struct OldEventRow {
    pub team_id: String,
    pub id: Uuid,
    pub sequence: i64,
    pub event_time: DateTime<Utc>,
    pub action: String,
    pub result: String,
    pub agent_id: String,
    pub tool_name: String,
    pub tool_version: String,
    pub tool_digest: String,
    pub execution_id: Option<Uuid>,
    pub task_id: String,
    pub trace_id: String,
    pub reason: String,
    pub message: String,
    pub arguments_json: String,
    pub arguments_digest: String,
    pub result_digest: String,
    pub duration_ms: f64,
    pub cost_micro_usd: i64,
    pub sensitivity: String,
    pub decision_id: Option<Uuid>,
}

/// Teams that have such events.
pub(crate) async fn old_teams(connection: &mut Connection, limit: i64) -> Result<Vec<String>, Error> {
    // Nearly always there is none at all: then no team is asked for.
    let teams = sqlx::query_scalar!(
        "SELECT h.team_id FROM audit.head h
         WHERE EXISTS (SELECT FROM audit.event)
           AND EXISTS (SELECT FROM audit.event e WHERE e.team_id = h.team_id)
         LIMIT $1",
        limit,
    )
    .fetch_all(connection)
    .await?;
    Ok(teams)
}

/// Takes the oldest of a team out of the old table; they are gone when the transaction is committed.
pub(crate) async fn old_events_take_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    limit: i64,
) -> Result<Vec<OldEventRow>, Error> {
    let rows = sqlx::query_as!(
        OldEventRow,
        "DELETE FROM audit.event e
         USING (
             SELECT team_id, id FROM audit.event
             WHERE team_id = $1
               AND sequence > coalesce((SELECT size FROM audit.tree WHERE team_id = $1), 0)
             ORDER BY sequence
             LIMIT $2
             FOR UPDATE
         ) oldest
         WHERE e.team_id = oldest.team_id AND e.id = oldest.id
         RETURNING e.team_id, e.id, e.sequence, e.event_time, e.action, e.result, e.agent_id, e.tool_name,
             e.tool_version, e.tool_digest, e.execution_id, e.task_id, e.trace_id, e.reason, e.message,
             e.arguments_json, e.arguments_digest, e.result_digest, e.duration_ms, e.cost_micro_usd,
             e.sensitivity, e.decision_id",
        team,
        limit,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows)
}

/// Adds records with the positions that they have.
pub(crate) async fn records_adopt_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    records: &[RecordRow],
) -> Result<(), Error> {
    let texts = |of: fn(&RecordRow) -> &str| records.iter().map(of).collect::<Vec<_>>();
    let numbers = |of: fn(&RecordRow) -> i64| records.iter().map(of).collect::<Vec<_>>();
    let ids = |of: fn(&RecordRow) -> Option<Uuid>| records.iter().map(of).collect::<Vec<_>>();
    let times: Vec<DateTime<Utc>> = records.iter().map(|row| row.event_time).collect();
    let hmacs: Vec<&[u8]> = records.iter().map(|row| row.payload_hmac.as_slice()).collect();
    let payloads: Vec<Option<&[u8]>> = records.iter().map(|row| row.payload.as_deref()).collect();
    sqlx::query!(
        "INSERT INTO audit.record (
             team_id, id, sequence, classification, event_time, action, result, agent_id, tool_name, tool_version,
             tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd, decision_id,
             payload_hmac, payload)
         SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::timestamptz[], $6::text[],
             $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::uuid[], $13::text[], $14::text[],
             $15::text[], $16::bigint[], $17::bigint[], $18::uuid[], $19::bytea[], $20::bytea[])",
        &texts(|row| &row.team_id) as _,
        &ids(|row| Some(row.id)) as _,
        &numbers(|row| row.sequence),
        &texts(|row| &row.classification) as _,
        &times,
        &texts(|row| &row.action) as _,
        &texts(|row| &row.result) as _,
        &texts(|row| &row.agent_id) as _,
        &texts(|row| &row.tool_name) as _,
        &texts(|row| &row.tool_version) as _,
        &texts(|row| &row.tool_digest) as _,
        &ids(|row| row.execution_id) as _,
        &texts(|row| &row.task_id) as _,
        &texts(|row| &row.trace_id) as _,
        &texts(|row| &row.reason) as _,
        &numbers(|row| row.duration_us),
        &numbers(|row| row.cost_micro_usd),
        &ids(|row| row.decision_id) as _,
        &hmacs as _,
        &payloads as _,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Gives the old table's pages back, where it is empty and nobody uses it right now: what was deleted from it stands
/// there in the clear until then. Gives whether it is clear.
pub(crate) async fn old_events_clear(connection: &mut Connection) -> Result<bool, Error> {
    let mut transaction = connection.begin().await?;
    let locked = sqlx::query!("LOCK TABLE audit.event IN ACCESS EXCLUSIVE MODE NOWAIT")
        .execute(&mut *transaction)
        .await;
    if let Err(sqlx::Error::Database(error)) = &locked
        && error.code().is_some_and(|code| code == "55P03")
    {
        return Ok(false);
    }
    locked?;
    let is_empty = sqlx::query_scalar!(r#"SELECT NOT EXISTS (SELECT FROM audit.event) AS "empty!""#)
        .fetch_one(&mut *transaction)
        .await?;
    if is_empty {
        sqlx::query!("TRUNCATE audit.event").execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(is_empty)
}
