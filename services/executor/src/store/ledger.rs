//! What the ledger writes in groups: intents, outcomes and events. Every write of an outcome carries its lease
//! epoch; one with an old epoch touches nothing.

use ::store::Error;
use sqlx::{Postgres, Transaction, types::Json};
use uuid::Uuid;

use super::{Intent, OutboxEvent, Outcome};

/// Writes intents and gives the ids of those written: one whose request id is taken is left out. Request ids are
/// taken in one order, so that two writers with the same ones do not wait for each other in a circle.
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
                 create_time timestamptz, owner uuid, lease_epoch integer, asynchronous boolean,
                 priority smallint, not_before timestamptz, start_time timestamptz, deliveries integer,
                 max_deliveries integer, reserved boolean, body_digest text, job bytea)
         ), request AS (
             INSERT INTO executor.request (team_id, request_id, execution_id, body_digest)
             SELECT team_id, request_id, id, body_digest FROM intent WHERE request_id <> ''
             ORDER BY team_id, request_id
             ON CONFLICT DO NOTHING
             RETURNING execution_id
         ), accepted AS (
             SELECT * FROM intent WHERE request_id = '' OR id IN (SELECT execution_id FROM request)
         ), queued AS (
             INSERT INTO executor.job (team_id, id, tool_name, priority, not_before, payload)
             SELECT team_id, id, tool_name, priority, coalesce(not_before, create_time), job
             FROM accepted WHERE job IS NOT NULL
         )
         INSERT INTO executor.execution (
             team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
             request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
             create_time, owner, lease_epoch, asynchronous, priority, not_before, start_time, deliveries,
             max_deliveries, reserved)
         SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
             request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
             create_time, owner, lease_epoch, asynchronous, priority, not_before, start_time, deliveries,
             max_deliveries, reserved
         FROM accepted
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
                 attempts_json text, retries integer, source text, cache_age_ms bigint, warnings_json text,
                 error_code text, input_tokens bigint, output_tokens bigint, asynchronous boolean,
                 release_request boolean, events jsonb)
         ), ended AS (
             UPDATE executor.execution e
             SET status = o.status, result_json = o.result_json, result_digest = o.result_digest,
                 error_json = o.error_json, cost_micro_usd = o.cost_micro_usd, end_time = o.end_time,
                 attempts_json = o.attempts_json, retries = o.retries, source = o.source,
                 cache_age_ms = o.cache_age_ms, warnings_json = o.warnings_json, error_code = o.error_code,
                 input_tokens = o.input_tokens, output_tokens = o.output_tokens
             FROM outcome o
             WHERE e.team_id = o.team_id AND e.id = o.id AND e.lease_epoch = o.lease_epoch
               AND e.status = 'running'
             RETURNING e.id
         ), left_queue AS (
             DELETE FROM executor.job j USING outcome o JOIN ended USING (id)
             WHERE o.asynchronous AND j.team_id = o.team_id AND j.id = o.id
         ), released AS (
             DELETE FROM executor.request r
             USING outcome o JOIN ended USING (id) JOIN executor.execution e USING (team_id, id)
             WHERE o.release_request AND r.team_id = e.team_id AND r.request_id = e.request_id
               AND r.execution_id = e.id
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
         WHERE e.status NOT IN ('running', 'queued')",
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
