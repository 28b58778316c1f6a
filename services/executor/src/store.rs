//! The SQL of the executor service.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, SubsecRound, Utc};
use serde::Serialize;
use sqlx::{PgPool, Postgres, Transaction, types::Json};
use uuid::Uuid;

/// One accepted call, from intent to outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Execution {
    pub team_id: String,
    pub id: Uuid,
    pub tool_name: String,
    pub tool_version: String,
    pub tool_digest: String,
    pub effect: String,
    pub sensitivity: String,
    pub agent_id: String,
    pub task_id: String,
    pub request_id: String,
    pub selection_id: String,
    pub trace_id: String,
    pub decision_id: Option<Uuid>,
    pub arguments_json: String,
    pub arguments_digest: String,
    pub status: String,
    pub result_json: String,
    pub result_digest: String,
    pub error_json: String,
    pub cost_micro_usd: i64,
    pub create_time: DateTime<Utc>,
    pub end_time: Option<DateTime<Utc>>,
    pub owner: Uuid,
    pub lease_epoch: i32,
}

/// What must be on disk before a tool runs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Intent {
    #[serde(flatten)]
    pub execution: Execution,
    /// SHA-256 of the request's body, to know the same request again.
    pub body_digest: String,
}

/// How an execution ended, with the events that tell of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Outcome {
    pub team_id: String,
    pub id: Uuid,
    pub lease_epoch: i32,
    pub status: String,
    pub result_json: String,
    pub result_digest: String,
    pub error_json: String,
    pub cost_micro_usd: i64,
    pub end_time: DateTime<Utc>,
    pub events: Vec<OutboxEvent>,
}

/// An event on its way to another service.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OutboxEvent {
    pub destination: &'static str,
    /// The encoded message, in PostgreSQL's hex form.
    pub payload: String,
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub tool_name: Option<String>,
    pub agent_id: Option<String>,
    pub task_id: Option<String>,
    pub status: Option<String>,
}

/// Now, as finely as the database keeps it: an answer tells the same times as the record.
pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

/// Begins a transaction; one that is not `durable` does not wait for the disk, and survives the death of
/// any process but not of the machine.
pub(crate) async fn begin(pool: &PgPool, durable: bool) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = pool.begin().await?;
    if !durable {
        sqlx::query!("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
    }
    Ok(transaction)
}

/// Writes intents and gives the ids of those written: one whose request id is taken is left out.
pub(crate) async fn intents_insert_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    intents: &[&Intent],
) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "WITH intent AS (
             SELECT * FROM jsonb_to_recordset($1::jsonb) AS r (
                 team_id text, id uuid, tool_name text, tool_version text, tool_digest text, effect text,
                 sensitivity text, agent_id text, task_id text, request_id text, selection_id text,
                 trace_id text, decision_id uuid, arguments_json text, arguments_digest text, status text,
                 create_time timestamptz, owner uuid, lease_epoch integer, body_digest text)
         ), request AS (
             INSERT INTO executor.request (team_id, request_id, execution_id, body_digest)
             SELECT team_id, request_id, id, body_digest FROM intent WHERE request_id <> ''
             ON CONFLICT DO NOTHING
             RETURNING execution_id
         )
         INSERT INTO executor.execution (
             team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
             request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
             create_time, owner, lease_epoch)
         SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
             request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
             create_time, owner, lease_epoch
         FROM intent WHERE request_id = '' OR id IN (SELECT execution_id FROM request)
         RETURNING id",
        Json(intents) as _,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids)
}

/// Writes outcomes and the events that tell of them, and gives the ids of those written: an outcome with
/// an old lease epoch, or of an execution that ended already, touches nothing.
pub(crate) async fn outcomes_update_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    outcomes: &[&Outcome],
) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "WITH outcome AS (
             SELECT * FROM jsonb_to_recordset($1::jsonb) AS r (
                 team_id text, id uuid, lease_epoch integer, status text, result_json text,
                 result_digest text, error_json text, cost_micro_usd bigint, end_time timestamptz,
                 events jsonb)
         ), ended AS (
             UPDATE executor.execution e
             SET status = o.status, result_json = o.result_json, result_digest = o.result_digest,
                 error_json = o.error_json, cost_micro_usd = o.cost_micro_usd, end_time = o.end_time
             FROM outcome o
             WHERE e.team_id = o.team_id AND e.id = o.id AND e.lease_epoch = o.lease_epoch
               AND e.status = 'running'
             RETURNING e.id
         ), told AS (
             INSERT INTO executor.outbox (destination, payload)
             SELECT event.destination, event.payload
             FROM outcome o JOIN ended USING (id),
                  jsonb_to_recordset(o.events) AS event (destination text, payload bytea)
         )
         SELECT id FROM ended",
        Json(outcomes) as _,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids)
}

/// The ids of those outcomes that stand already: only their writer knows the lease epoch under which the
/// execution ended.
pub(crate) async fn outcomes_recorded_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    outcomes: &[&Outcome],
) -> Result<Vec<Uuid>, Error> {
    let teams: Vec<String> = outcomes.iter().map(|outcome| outcome.team_id.clone()).collect();
    let ids: Vec<Uuid> = outcomes.iter().map(|outcome| outcome.id).collect();
    let epochs: Vec<i32> = outcomes.iter().map(|outcome| outcome.lease_epoch).collect();
    let ids = sqlx::query_scalar!(
        "SELECT e.id
         FROM executor.execution e
         JOIN unnest($1::text[], $2::uuid[], $3::integer[]) AS o (team_id, id, lease_epoch)
           ON e.team_id = o.team_id AND e.id = o.id AND e.lease_epoch = o.lease_epoch
         WHERE e.status <> 'running'",
        &teams,
        &ids,
        &epochs,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(ids)
}

/// Writes events that belong to no execution.
pub(crate) async fn events_insert_in_txn(
    transaction: &mut Transaction<'static, Postgres>,
    events: &[&OutboxEvent],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO executor.outbox (destination, payload)
         SELECT destination, payload FROM jsonb_to_recordset($1::jsonb) AS r (destination text, payload bytea)",
        Json(events) as _,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// The execution and body digest of a request id.
pub(crate) async fn request_get(
    pool: &PgPool,
    team: &str,
    request_id: &str,
) -> Result<Option<(Uuid, String)>, Error> {
    let row = sqlx::query!(
        "SELECT execution_id, body_digest FROM executor.request WHERE team_id = $1 AND request_id = $2",
        team,
        request_id,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| (row.execution_id, row.body_digest)))
}

/// One execution.
pub(crate) async fn execution_get(pool: &PgPool, team: &str, id: Uuid) -> Result<Option<Execution>, Error> {
    let row = sqlx::query_as!(
        Execution,
        "SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
                request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
                result_json, result_digest, error_json, cost_micro_usd, create_time, end_time, owner,
                lease_epoch
         FROM executor.execution WHERE team_id = $1 AND id = $2",
        team,
        id
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Executions of a team below an id, newest first, without their results.
pub(crate) async fn execution_list(
    pool: &PgPool,
    team: &str,
    filter: &Filter,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<Execution>, Error> {
    let rows = sqlx::query_as!(
        Execution,
        "SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
                request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
                '' AS \"result_json!\", result_digest, error_json, cost_micro_usd, create_time, end_time,
                owner, lease_epoch
         FROM executor.execution
         WHERE team_id = $1
           AND ($2::uuid IS NULL OR id < $2)
           AND ($3::text IS NULL OR tool_name = $3)
           AND ($4::text IS NULL OR agent_id = $4)
           AND ($5::text IS NULL OR task_id = $5)
           AND ($6::text IS NULL OR status = $6)
         ORDER BY id DESC
         LIMIT $7",
        team,
        before,
        filter.tool_name,
        filter.agent_id,
        filter.task_id,
        filter.status,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

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
                    OR (e.owner = $2 AND e.id <> ALL ($3) AND e.create_time < now() - make_interval(secs => $1)))
             ORDER BY e.id LIMIT $4
             FOR UPDATE OF e SKIP LOCKED
         )
         UPDATE executor.execution e SET lease_epoch = e.lease_epoch + 1
         FROM orphan o WHERE e.team_id = o.team_id AND e.id = o.id
         RETURNING e.team_id, e.id, e.tool_name, e.tool_version, e.tool_digest, e.effect, e.sensitivity,
             e.agent_id, e.task_id, e.request_id, e.selection_id, e.trace_id, e.decision_id,
             e.arguments_json, e.arguments_digest, e.status, e.result_json, e.result_digest, e.error_json,
             e.cost_micro_usd, e.create_time, e.end_time, e.owner, e.lease_epoch",
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
