//! The processes that run executions, and the executions that no one runs any more.

use std::time::Duration;

use ::store::Error;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::Execution;

/// Says that a process lives.
pub(crate) async fn worker_touch(pool: &PgPool, owner: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO executor.worker (owner, last_seen) VALUES ($1, now())
         ON CONFLICT (owner) DO UPDATE SET last_seen = now()",
        owner,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Forgets a process that ended well, and those that are long dead and own nothing.
pub(crate) async fn worker_delete(pool: &PgPool, owner: Uuid) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM executor.worker w
         WHERE (w.owner = $1 OR w.last_seen < now() - interval '1 day')
           AND NOT EXISTS (SELECT FROM executor.execution e WHERE e.owner = w.owner AND e.status = 'running')",
        owner,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Running executions that no one runs, locked: their process is dead, or it is this one and the intent's
/// commit was never confirmed. Each gets a new lease epoch, so that a late write is void.
pub(crate) async fn orphans_take_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    lease: Duration,
    this: (Uuid, &[Uuid]),
    limit: i64,
) -> Result<Vec<Execution>, Error> {
    let (owner, running) = this;
    let rows = sqlx::query_as!(
        Execution,
        "WITH orphan AS (
             SELECT e.team_id, e.id FROM executor.execution e
             WHERE e.status = 'running'
               AND (NOT EXISTS (SELECT FROM executor.worker w WHERE w.owner = e.owner
                                AND w.last_seen > now() - make_interval(secs => $1))
                    OR (e.owner = $2 AND e.id <> ALL ($3) AND coalesce(e.start_time, e.create_time)
                            < now() - make_interval(secs => $1)))
             ORDER BY e.id LIMIT $4
             FOR UPDATE OF e SKIP LOCKED
         )
         UPDATE executor.execution e SET lease_epoch = e.lease_epoch + 1
         FROM orphan o WHERE e.team_id = o.team_id AND e.id = o.id
         RETURNING e.team_id, e.id, e.tool_name, e.tool_version, e.tool_digest, e.effect, e.sensitivity, e.agent_id, e.task_id, e.request_id,
             e.selection_id, e.trace_id, e.decision_id, e.arguments_json, e.arguments_digest, e.status, e.result_json, e.result_digest,
             e.error_json, e.cost_micro_usd, e.create_time, e.end_time, e.owner, e.lease_epoch, e.attempts_json, e.retries, e.source,
             e.cache_age_ms, e.warnings_json, e.input_tokens, e.output_tokens, e.asynchronous, e.priority, e.not_before,
             e.start_time, e.deliveries, e.max_deliveries, e.reserved, e.access_request_id, e.user_id, e.erased",
        lease.as_secs_f64(),
        owner,
        running,
        limit,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows)
}

/// Makes the partitions of this month and the next two.
pub(crate) async fn partitions_ensure(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!("SELECT executor.ensure_partitions(2)").execute(pool).await?;
    Ok(())
}
