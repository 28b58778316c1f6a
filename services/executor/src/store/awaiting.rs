//! Calls that wait for an approval. One is looked at by one process at a time, since a look moves the next one on; it
//! enters the queue, or ends, once.

use ::store::Error;
use sqlx::{PgConnection, PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::Execution;

/// A call whose time to be looked at has come.
#[derive(Debug)]
pub(crate) struct Awaiting {
    pub team_id: String,
    pub id: Uuid,
    pub access_request_id: Uuid,
    /// Sealed.
    pub payload: Vec<u8>,
}

/// Notes that an execution, written in the same transaction, waits for this access request.
pub(crate) async fn awaiting_insert(connection: &mut PgConnection, awaiting: &Awaiting) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO executor.awaiting (team_id, id, access_request_id, look_time, payload)
         VALUES ($1, $2, $3, now() + interval '1 second', $4)",
        awaiting.team_id,
        awaiting.id,
        awaiting.access_request_id,
        awaiting.payload,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes at most so many calls that are to be looked at. The next look at each is in an eighth of the time that it has
/// waited, and in 2 to 15 seconds. What does not wait any more is forgotten.
pub(crate) async fn awaiting_take(pool: &PgPool, limit: i64) -> Result<Vec<Awaiting>, Error> {
    let taken = sqlx::query_as!(
        Awaiting,
        "WITH due AS (
             SELECT team_id, id FROM executor.awaiting WHERE look_time <= now()
             ORDER BY look_time LIMIT $1
             FOR UPDATE SKIP LOCKED
         ), waiting AS (
             SELECT d.team_id, d.id, e.create_time FROM due d
             JOIN executor.execution e ON e.team_id = d.team_id AND e.id = d.id
             WHERE e.status = 'waiting_for_approval'
         ), over AS (
             DELETE FROM executor.awaiting a USING due d
             WHERE a.team_id = d.team_id AND a.id = d.id AND NOT EXISTS (
                 SELECT FROM waiting w WHERE w.team_id = d.team_id AND w.id = d.id)
         )
         UPDATE executor.awaiting a
         SET look_time = now()
             + least(greatest((now() - w.create_time) / 8, interval '2 seconds'), interval '15 seconds')
         FROM waiting w WHERE a.team_id = w.team_id AND a.id = w.id
         RETURNING a.team_id, a.id, a.access_request_id, a.payload",
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(taken)
}

/// What a decision on an access request lets go on, or end.
#[derive(Debug, Clone)]
pub(crate) struct Awaited<'a> {
    pub team: &'a str,
    pub access_request_id: Uuid,
    /// Whose calls of which tool it may serve, too; both empty: none.
    pub others: (&'a str, &'a str),
}

/// Takes at most so many calls that wait for a decision that was made just now, above an id and in the order of ids.
/// Several processes hear of it: those that one is taking, another leaves to it.
pub(crate) async fn awaiting_take_decided(
    pool: &PgPool,
    awaited: &Awaited<'_>,
    (after, limit): (Uuid, i64),
) -> Result<Vec<Awaiting>, Error> {
    let mut taken = sqlx::query_as!(
        Awaiting,
        "WITH ids AS (
             SELECT a.id FROM executor.awaiting a WHERE a.team_id = $1 AND a.access_request_id = $2 AND a.id > $5
             UNION
             SELECT a.id FROM executor.awaiting a
             JOIN executor.execution e ON e.team_id = a.team_id AND e.id = a.id
             WHERE $3 <> '' AND a.team_id = $1 AND e.agent_id = $3 AND e.tool_name = $4 AND a.id > $5
         ), due AS (
             SELECT a.id FROM executor.awaiting a JOIN ids USING (id)
             WHERE a.team_id = $1 ORDER BY a.id LIMIT $6
             FOR UPDATE OF a SKIP LOCKED
         )
         UPDATE executor.awaiting a SET look_time = now() + interval '2 seconds'
         FROM due WHERE a.team_id = $1 AND a.id = due.id
         RETURNING a.team_id, a.id, a.access_request_id, a.payload",
        awaited.team,
        awaited.access_request_id,
        awaited.others.0,
        awaited.others.1,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    taken.sort_unstable_by_key(|awaiting| awaiting.id);
    Ok(taken)
}

/// Puts a call into the queue under the decision that allows it; `false` when it does not wait any more.
pub(crate) async fn awaiting_release(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    (decision, reserved): (Option<Uuid>, bool),
) -> Result<bool, Error> {
    let queued = sqlx::query!(
        "WITH released AS (
             UPDATE executor.execution SET status = 'queued', decision_id = $3, reserved = $4
             WHERE team_id = $1 AND id = $2 AND status = 'waiting_for_approval'
             RETURNING team_id, id, tool_name, priority, not_before
         ), over AS (
             DELETE FROM executor.awaiting a USING released r WHERE a.team_id = $1 AND a.id = r.id
             RETURNING a.payload
         )
         INSERT INTO executor.job (team_id, id, tool_name, priority, not_before, payload)
         SELECT r.team_id, r.id, r.tool_name, r.priority, greatest(r.not_before, now()), o.payload
         FROM released r, over o",
        team,
        id,
        decision,
        reserved,
    )
    .execute(pool)
    .await?;
    Ok(queued.rows_affected() > 0)
}

/// Lets a call wait for another access request.
pub(crate) async fn awaiting_renew(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    access_request: Uuid,
) -> Result<(), Error> {
    sqlx::query!(
        "WITH waiting AS (
             UPDATE executor.execution SET access_request_id = $3
             WHERE team_id = $1 AND id = $2 AND status = 'waiting_for_approval'
             RETURNING id
         )
         UPDATE executor.awaiting a SET access_request_id = $3
         FROM waiting w WHERE a.team_id = $1 AND a.id = w.id",
        team,
        id,
        access_request,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Takes a call that waits, to end it within the same transaction; `None` when it does not wait any more.
pub(crate) async fn awaiting_end_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    team: &str,
    id: Uuid,
) -> Result<Option<Execution>, Error> {
    let row = sqlx::query_as!(
        Execution,
        "WITH over AS (DELETE FROM executor.awaiting WHERE team_id = $1 AND id = $2)
         UPDATE executor.execution SET status = 'running'
         WHERE team_id = $1 AND id = $2 AND status = 'waiting_for_approval'
         RETURNING team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id, request_id,
                selection_id, trace_id, decision_id, arguments_json, arguments_digest, status, result_json, result_digest,
                error_json, cost_micro_usd, create_time, end_time, owner, lease_epoch, attempts_json, retries, source,
                cache_age_ms, warnings_json, input_tokens, output_tokens, asynchronous, priority, not_before,
                start_time, deliveries, max_deliveries, reserved, access_request_id, user_id, erased",
        team,
        id,
    )
    .fetch_optional(&mut **transaction)
    .await?;
    Ok(row)
}
