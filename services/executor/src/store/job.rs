//! The queue: calls that were accepted and have not ended. Rows are locked execution first, then job; whoever locks
//! a job first does not wait for its execution. A put-back carries its lease epoch, as an outcome does.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::Execution;

/// A call that a process has taken, and what it needs to run it.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub execution: Execution,
    /// Sealed.
    pub payload: Vec<u8>,
}

/// What a process runs already of each tool of a team: three columns of one table.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub teams: Vec<String>,
    pub tools: Vec<String>,
    pub counts: Vec<i64>,
}

/// What became of a call that was to go back to the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PutBack {
    /// It waits.
    Queued,
    /// A caller wants it to end; it was not put back.
    Cancelled,
    /// It is not this process's any more.
    Overtaken,
}

/// Takes calls that are due for `owner`, by priority and then in the order in which they were accepted: at most as
/// many as `room` has places, and of one tool of a team at most as many as it says, with those that `load` counts.
pub(crate) async fn jobs_claim_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    owner: Uuid,
    load: &Load,
    room: (usize, usize),
) -> Result<Vec<Claimed>, Error> {
    let (free, most_of_one) = (number(room.0), number(room.1));
    let mut executions = sqlx::query_as!(
        Execution,
        "WITH load AS (
             SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS l (team_id, tool_name, running)
         ), due AS (
             SELECT j.team_id, j.id, j.tool_name, j.priority FROM executor.job j
             WHERE j.owner IS NULL AND j.not_before <= now()
               AND NOT EXISTS (SELECT FROM load l WHERE l.team_id = j.team_id AND l.tool_name = j.tool_name
                                  AND l.running >= $6)
             ORDER BY j.priority DESC, j.id LIMIT $5
             FOR UPDATE SKIP LOCKED
         ), waiting AS (
             SELECT d.* FROM due d
             CROSS JOIN LATERAL (
                 SELECT FROM executor.execution e
                 WHERE e.team_id = d.team_id AND e.id = d.id AND e.status = 'queued'
                 FOR UPDATE SKIP LOCKED
             ) locked
         ), placed AS (
             SELECT w.team_id, w.id, coalesce(l.running, 0) + row_number() OVER (
                        PARTITION BY w.team_id, w.tool_name ORDER BY w.priority DESC, w.id) AS place
             FROM waiting w LEFT JOIN load l ON l.team_id = w.team_id AND l.tool_name = w.tool_name
         ), taken AS (
             UPDATE executor.job j SET owner = $1
             FROM placed p WHERE p.place <= $6 AND j.team_id = p.team_id AND j.id = p.id
         )
         UPDATE executor.execution e
         SET status = 'running', owner = $1, lease_epoch = e.lease_epoch + 1, deliveries = e.deliveries + 1,
             start_time = $7
         FROM placed p WHERE p.place <= $6 AND e.team_id = p.team_id AND e.id = p.id
         RETURNING e.team_id, e.id, e.tool_name, e.tool_version, e.tool_digest, e.effect, e.sensitivity, e.agent_id, e.task_id, e.request_id,
             e.selection_id, e.trace_id, e.decision_id, e.arguments_json, e.arguments_digest, e.status, e.result_json, e.result_digest,
             e.error_json, e.cost_micro_usd, e.create_time, e.end_time, e.owner, e.lease_epoch, e.attempts_json, e.retries, e.source,
             e.cache_age_ms, e.warnings_json, e.input_tokens, e.output_tokens, e.asynchronous, e.priority, e.not_before,
             e.start_time, e.deliveries, e.max_deliveries, e.reserved",
        owner,
        &load.teams,
        &load.tools,
        &load.counts,
        free,
        most_of_one,
        super::now(),
    )
    .fetch_all(&mut **transaction)
    .await?;
    executions.sort_by_key(|execution| (std::cmp::Reverse(execution.priority), execution.id));
    with_payloads(transaction, executions).await
}

async fn with_payloads(
    transaction: &mut Transaction<'static, Postgres>,
    executions: Vec<Execution>,
) -> Result<Vec<Claimed>, Error> {
    if executions.is_empty() {
        return Ok(Vec::new());
    }
    let (teams, ids) = keys(&executions.iter().collect::<Vec<_>>());
    let rows = sqlx::query!(
        "SELECT j.id, j.payload
         FROM unnest($1::text[], $2::uuid[]) AS c (team_id, id)
         JOIN executor.job j ON j.team_id = c.team_id AND j.id = c.id",
        &teams,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    let mut payloads: std::collections::HashMap<_, _> =
        rows.into_iter().map(|row| (row.id, row.payload)).collect();
    let claimed = executions.into_iter().map(|execution| {
        let payload = payloads.remove(&execution.id).unwrap_or_default();
        Claimed { execution, payload }
    });
    Ok(claimed.collect())
}

/// Puts a call back that was not begun, so that this delivery does not count; it waits until `not_before`, or not
/// at all.
pub(crate) async fn job_put_back(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    lease_epoch: i32,
    not_before: Option<DateTime<Utc>>,
) -> Result<PutBack, Error> {
    let cancel_requested = sqlx::query_scalar!(
        "WITH held AS (
             SELECT e.cancel_requested FROM executor.execution e
             WHERE e.team_id = $1 AND e.id = $2 AND e.lease_epoch = $3 AND e.status = 'running'
             FOR UPDATE
         ), back AS (
             UPDATE executor.execution e
             SET status = 'queued', owner = $5, start_time = NULL, deliveries = e.deliveries - 1
             FROM held h WHERE e.team_id = $1 AND e.id = $2 AND NOT h.cancel_requested
             RETURNING e.id
         ), waiting AS (
             UPDATE executor.job j SET owner = NULL, not_before = coalesce($4, now())
             FROM back b WHERE j.team_id = $1 AND j.id = b.id
         )
         SELECT cancel_requested FROM held",
        team,
        id,
        lease_epoch,
        not_before,
        Uuid::nil(),
    )
    .fetch_optional(pool)
    .await?;
    Ok(match cancel_requested {
        None => PutBack::Overtaken,
        Some(true) => PutBack::Cancelled,
        Some(false) => PutBack::Queued,
    })
}

/// Puts calls back whose process died, and gives the ids of those that wait now. Their executions are locked.
pub(crate) async fn jobs_put_back_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    executions: &[&Execution],
) -> Result<Vec<Uuid>, Error> {
    let (teams, ids) = keys(executions);
    let ids = sqlx::query_scalar!(
        "WITH back AS (
             UPDATE executor.job j SET owner = NULL, not_before = now()
             FROM unnest($1::text[], $2::uuid[]) AS o (team_id, id)
             WHERE j.team_id = o.team_id AND j.id = o.id
             RETURNING j.team_id, j.id
         )
         UPDATE executor.execution e SET status = 'queued', owner = $3, start_time = NULL
         FROM back b WHERE e.team_id = b.team_id AND e.id = b.id
         RETURNING e.id",
        &teams,
        &ids,
        Uuid::nil(),
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids)
}

/// Writes the decision under which a taken call runs; `false` when the call is not this process's any more.
pub(crate) async fn job_decide(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    lease_epoch: i32,
    (decision, reserved): (Option<Uuid>, bool),
) -> Result<bool, Error> {
    let decided = sqlx::query!(
        "UPDATE executor.execution SET decision_id = $4, reserved = $5
         WHERE team_id = $1 AND id = $2 AND lease_epoch = $3 AND status = 'running'",
        team,
        id,
        lease_epoch,
        decision,
        reserved,
    )
    .execute(pool)
    .await?;
    Ok(decided.rows_affected() == 1)
}

/// Whether a caller wants a running execution to end.
pub(crate) async fn job_is_cancelled(pool: &PgPool, team: &str, id: Uuid) -> Result<bool, Error> {
    let requested = sqlx::query_scalar!(
        "SELECT cancel_requested FROM executor.execution WHERE team_id = $1 AND id = $2",
        team,
        id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(requested.unwrap_or(false))
}

/// Those of the executions that a caller wants to end.
pub(crate) async fn jobs_cancelled_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    executions: &[&Execution],
) -> Result<Vec<Uuid>, Error> {
    let (teams, ids) = keys(executions);
    let ids = sqlx::query_scalar!(
        "SELECT e.id FROM executor.execution e
         JOIN unnest($1::text[], $2::uuid[]) AS o (team_id, id) ON e.team_id = o.team_id AND e.id = o.id
         WHERE e.cancel_requested",
        &teams,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids)
}

fn keys(executions: &[&Execution]) -> (Vec<String>, Vec<Uuid>) {
    executions.iter().map(|execution| (execution.team_id.clone(), execution.id)).unzip()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
