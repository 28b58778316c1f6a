//! The queue: calls that were accepted and have not ended. Rows are locked execution first, then job; whoever locks
//! a job first does not wait for its execution. A put-back carries its lease epoch, as an outcome does. What was
//! taken and what has begun are told apart by `unbegun_epoch`: the epoch of a taking until it begins.

use std::{collections::HashMap, time::Duration};

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

/// What became of a new decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decided {
    /// The call runs under it.
    Taken,
    /// The call is not this process's any more. It goes on, and ends with this decision: permissions gives an
    /// execution no other while it holds.
    Overtaken,
    /// The call has ended, with another one.
    Ended,
}

/// What is known of an execution whose process died.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    /// A caller wants it to end.
    pub is_cancelled: bool,
    /// It was taken from the queue, and its tool was surely not asked under that taking.
    pub is_unbegun: bool,
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
    // The arrays say what the joins beside them say: with them the rows are found by their keys, also where the
    // planner takes a queue that was just filled for an empty one.
    let mut executions = sqlx::query_as!(
        Execution,
        "WITH load AS (
             SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS l (team_id, tool_name, running)
         ), due AS (
             SELECT j.team_id, j.id, j.tool_name, j.priority FROM executor.job j
             WHERE j.owner IS NULL AND NOT j.aside AND j.not_before <= now()
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
             FROM placed p
             WHERE p.place <= $6 AND j.team_id = p.team_id AND j.id = p.id
               AND j.team_id = ANY (ARRAY(SELECT team_id FROM placed)) AND j.id = ANY (ARRAY(SELECT id FROM placed))
         )
         UPDATE executor.execution e
         SET status = 'running', owner = $1, lease_epoch = e.lease_epoch + 1,
             unbegun_epoch = e.lease_epoch + 1, deliveries = e.deliveries + 1, start_time = $7
         FROM placed p
         WHERE p.place <= $6 AND e.team_id = p.team_id AND e.id = p.id
           AND e.team_id = ANY (ARRAY(SELECT team_id FROM placed)) AND e.id = ANY (ARRAY(SELECT id FROM placed))
         RETURNING e.team_id, e.id, e.tool_name, e.tool_version, e.tool_digest, e.effect, e.sensitivity, e.agent_id, e.task_id, e.request_id,
             e.selection_id, e.trace_id, e.decision_id, e.arguments_json, e.arguments_digest, e.status, e.result_json, e.result_digest,
             e.error_json, e.cost_micro_usd, e.create_time, e.end_time, e.owner, e.lease_epoch, e.attempts_json, e.retries, e.source,
             e.cache_age_ms, e.warnings_json, e.input_tokens, e.output_tokens, e.asynchronous, e.priority, e.not_before,
             e.start_time, e.deliveries, e.max_deliveries, e.reserved, e.access_request_id, e.user_id, e.erased",
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
    let mut payloads: HashMap<_, _> = rows.into_iter().map(|row| (row.id, row.payload)).collect();
    let claimed = executions.into_iter().map(|execution| {
        let payload = payloads.remove(&execution.id).unwrap_or_default();
        Claimed { execution, payload }
    });
    Ok(claimed.collect())
}

/// Sets calls aside whose time is further off than this, and calls those back whose time has come: at most so many
/// of each. Gives how many there were.
pub(crate) async fn jobs_set_aside(pool: &PgPool, beyond: Duration, limit: i64) -> Result<u64, Error> {
    let moved = sqlx::query!(
        "WITH later AS (
             SELECT team_id, id FROM executor.job
             WHERE owner IS NULL AND NOT aside AND not_before > now() + make_interval(secs => $1)
             ORDER BY not_before DESC LIMIT $2
             FOR UPDATE SKIP LOCKED
         ), due AS (
             SELECT team_id, id FROM executor.job
             WHERE owner IS NULL AND aside AND not_before <= now()
             ORDER BY not_before LIMIT $2
             FOR UPDATE SKIP LOCKED
         )
         UPDATE executor.job j SET aside = NOT j.aside
         FROM (SELECT * FROM later UNION ALL SELECT * FROM due) m
         WHERE j.team_id = m.team_id AND j.id = m.id",
        beyond.as_secs_f64(),
        limit,
    )
    .execute(pool)
    .await?;
    Ok(moved.rows_affected())
}

/// Records that a taken call begins: from here on its tool may be asked. Tells whether a caller wants it to end;
/// `None`: it is not this process's any more.
pub(crate) async fn job_begin(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    lease_epoch: i32,
) -> Result<Option<bool>, Error> {
    let cancel_requested = sqlx::query_scalar!(
        "UPDATE executor.execution SET unbegun_epoch = 0
         WHERE team_id = $1 AND id = $2 AND lease_epoch = $3 AND status = 'running'
         RETURNING cancel_requested",
        team,
        id,
        lease_epoch,
    )
    .fetch_optional(pool)
    .await?;
    Ok(cancel_requested)
}

/// Puts a call back whose tool was not asked, so that this delivery does not count; it waits until `not_before`, or
/// not at all, and keeps these attempts.
pub(crate) async fn job_put_back(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    lease_epoch: i32,
    (not_before, attempts_json): (Option<DateTime<Utc>>, &str),
) -> Result<PutBack, Error> {
    let cancel_requested = sqlx::query_scalar!(
        "WITH held AS (
             SELECT e.cancel_requested FROM executor.execution e
             WHERE e.team_id = $1 AND e.id = $2 AND e.lease_epoch = $3 AND e.status = 'running'
             FOR UPDATE
         ), back AS (
             UPDATE executor.execution e
             SET status = 'queued', owner = $5, start_time = NULL, deliveries = e.deliveries - 1,
                 attempts_json = $6
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
        attempts_json,
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

/// Writes the decision under which a taken call runs. One that waits again keeps it, whoever took it up: whatever
/// ends it there ends the decision too.
pub(crate) async fn job_decide(
    pool: &PgPool,
    team: &str,
    id: Uuid,
    lease_epoch: i32,
    (decision, reserved): (Option<Uuid>, bool),
) -> Result<Decided, Error> {
    let row = sqlx::query!(
        "WITH decided AS (
             UPDATE executor.execution SET decision_id = $4, reserved = $5
             WHERE team_id = $1 AND id = $2
               AND (status = 'running' AND lease_epoch = $3 OR status = 'queued')
             RETURNING status
         )
         SELECT (SELECT status FROM decided) AS decided,
                EXISTS (SELECT FROM executor.execution
                        WHERE team_id = $1 AND id = $2 AND status IN ('running', 'queued')) AS \"goes_on!\"",
        team,
        id,
        lease_epoch,
        decision,
        reserved,
    )
    .fetch_one(pool)
    .await?;
    Ok(match row.decided.as_deref() {
        Some("running") => Decided::Taken,
        None if !row.goes_on => Decided::Ended,
        Some(_) | None => Decided::Overtaken,
    })
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

/// What is known of executions that were taken over from a dead process a moment ago, each with its id.
pub(crate) async fn jobs_left_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    executions: &[&Execution],
) -> Result<HashMap<Uuid, Left>, Error> {
    let (teams, ids) = keys(executions);
    // Taking them over has raised their epochs.
    let rows = sqlx::query!(
        "SELECT e.id, e.cancel_requested, e.unbegun_epoch = e.lease_epoch - 1 AS \"is_unbegun!\"
         FROM executor.execution e
         JOIN unnest($1::text[], $2::uuid[]) AS o (team_id, id) ON e.team_id = o.team_id AND e.id = o.id",
        &teams,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    let left = |is_cancelled, is_unbegun| Left { is_cancelled, is_unbegun };
    Ok(rows.into_iter().map(|row| (row.id, left(row.cancel_requested, row.is_unbegun))).collect())
}

fn keys(executions: &[&Execution]) -> (Vec<String>, Vec<Uuid>) {
    executions.iter().map(|execution| (execution.team_id.clone(), execution.id)).unzip()
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
