//! What the ledger writes in groups: intents, outcomes and events. Every write of an outcome carries its lease
//! epoch; one with an old epoch touches nothing.

use ::store::Error;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{Intent, OutboxEvent, Outcome};

/// Writes intents and gives the ids of those written: one whose request id is taken is left out. Request ids are
/// taken in one order, so that two writers with the same ones do not wait for each other in a circle.
pub(crate) async fn intents_insert(
    connection: &mut PgConnection,
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
                 max_deliveries integer, reserved boolean, access_request_id uuid, user_id text, body_digest text, job bytea)
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
             max_deliveries, reserved, access_request_id, user_id)
         SELECT team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity, agent_id, task_id,
             request_id, selection_id, trace_id, decision_id, arguments_json, arguments_digest, status,
             create_time, owner, lease_epoch, asynchronous, priority, not_before, start_time, deliveries,
             max_deliveries, reserved, access_request_id, user_id
         FROM accepted
         RETURNING id",
        Json(intents) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// An execution whose outcome was written.
#[derive(Debug)]
pub(crate) struct Ended {
    pub id: Uuid,
    /// The ids of its events in the outbox, in their order.
    pub events: Vec<i64>,
}

/// Writes outcomes and the events that tell of them, and gives those written: an outcome with an old lease
/// epoch, or of an execution that ended already, touches nothing. Calls that ended leave the queue, and give their
/// request ids back where they may; see `takes_more`.
pub(crate) async fn outcomes_update(
    connection: &mut PgConnection,
    outcomes: &[&Outcome],
) -> Result<Vec<Ended>, Error> {
    let ended = executions_end(connection, outcomes).await?;
    let is_ended = |outcome: &&Outcome| ended.iter().any(|ended| ended.id == outcome.id);
    let ended_where = |which: fn(&Outcome) -> bool| -> Vec<&Outcome> {
        outcomes.iter().copied().filter(|outcome| which(outcome)).filter(is_ended).collect()
    };
    let queued = ended_where(|outcome| outcome.asynchronous);
    if !queued.is_empty() {
        jobs_delete(connection, &queued).await?;
    }
    let released = ended_where(|outcome| outcome.release_request);
    if !released.is_empty() {
        requests_release(connection, &released).await?;
    }
    Ok(ended)
}

/// Whether these outcomes take more than one statement to write, and so a transaction.
pub(crate) fn takes_more(outcomes: &[&Outcome]) -> bool {
    outcomes.iter().any(|outcome| outcome.asynchronous || outcome.release_request)
}

/// Of an execution that was erased with its data subject no text is written.
/// That an execution runs is asked in words that lead by its key, and not through the index of all that run.
async fn executions_end(connection: &mut PgConnection, outcomes: &[&Outcome]) -> Result<Vec<Ended>, Error> {
    let ended = sqlx::query_as!(
        Ended,
        "WITH outcome AS (
             SELECT * FROM jsonb_to_recordset($1::jsonb) AS r (
                 team_id text, id uuid, lease_epoch integer, status text, result_json text,
                 result_digest text, error_json text, cost_micro_usd bigint, end_time timestamptz,
                 attempts_json text, retries integer, source text, cache_age_ms bigint, warnings_json text,
                 error_code text, input_tokens bigint, output_tokens bigint, events jsonb)
         ), ended AS (
             UPDATE executor.execution e
             SET status = o.status, result_json = CASE WHEN e.erased THEN '' ELSE o.result_json END,
                 result_digest = CASE WHEN e.erased THEN '' ELSE o.result_digest END,
                 error_json = CASE WHEN e.erased AND o.error_json <> '' THEN jsonb_build_object(
                     'code', o.error_json::jsonb -> 'code', 'reached', o.error_json::jsonb -> 'reached',
                     'message', 'erased with its data subject')::text ELSE o.error_json END, cost_micro_usd = o.cost_micro_usd, end_time = o.end_time,
                 attempts_json = CASE WHEN e.erased THEN '' ELSE o.attempts_json END, retries = o.retries,
                 source = o.source, cache_age_ms = o.cache_age_ms,
                 warnings_json = CASE WHEN e.erased THEN '' ELSE o.warnings_json END, error_code = o.error_code,
                 input_tokens = o.input_tokens, output_tokens = o.output_tokens
             FROM outcome o
             WHERE e.team_id = o.team_id AND e.id = o.id AND e.lease_epoch = o.lease_epoch
               AND e.end_time IS NULL AND e.status <> 'queued'
             RETURNING e.id, o.events
         ), event AS (
             SELECT id, n, destination, payload,
                 CASE WHEN n > 0 THEN nextval(pg_get_serial_sequence('executor.outbox', 'id')) END AS key
             FROM ended LEFT JOIN LATERAL ROWS FROM (
                 jsonb_to_recordset(events) AS (destination text, payload bytea)
             ) WITH ORDINALITY AS event (destination, payload, n) ON true
         ), told AS (
             INSERT INTO executor.outbox (id, destination, payload) OVERRIDING SYSTEM VALUE
             SELECT key, destination, payload FROM event WHERE n > 0
         )
         SELECT id AS \"id!\", array_remove(array_agg(key ORDER BY n), NULL) AS \"events!\"
         FROM event GROUP BY id",
        Json(outcomes) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(ended)
}

/// Takes ended calls out of the queue.
async fn jobs_delete(connection: &mut PgConnection, outcomes: &[&Outcome]) -> Result<(), Error> {
    let (teams, ids) = keys(outcomes);
    sqlx::query!(
        "DELETE FROM executor.job j USING unnest($1::text[], $2::uuid[]) AS o (team_id, id)
         WHERE j.team_id = o.team_id AND j.id = o.id",
        &teams,
        &ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Lets the request ids of ended calls be used again.
async fn requests_release(connection: &mut PgConnection, outcomes: &[&Outcome]) -> Result<(), Error> {
    let (teams, ids) = keys(outcomes);
    sqlx::query!(
        "DELETE FROM executor.request r
         USING unnest($1::text[], $2::uuid[]) AS o (team_id, id) JOIN executor.execution e USING (team_id, id)
         WHERE r.team_id = e.team_id AND r.request_id = e.request_id AND r.execution_id = e.id",
        &teams,
        &ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

fn keys(outcomes: &[&Outcome]) -> (Vec<String>, Vec<Uuid>) {
    outcomes.iter().map(|outcome| (outcome.team_id.clone(), outcome.id)).unzip()
}

/// The ids of those outcomes that stand already: only their writer knows the lease epoch under which the
/// execution ended.
pub(crate) async fn outcomes_recorded(
    connection: &mut PgConnection,
    outcomes: &[&Outcome],
) -> Result<Vec<Uuid>, Error> {
    let (teams, ids) = keys(outcomes);
    let epochs: Vec<i32> = outcomes.iter().map(|outcome| outcome.lease_epoch).collect();
    let ids = sqlx::query_scalar!(
        "SELECT e.id
         FROM executor.execution e
         JOIN unnest($1::text[], $2::uuid[], $3::integer[]) AS o (team_id, id, lease_epoch)
           ON e.team_id = o.team_id AND e.id = o.id AND e.lease_epoch = o.lease_epoch
         WHERE e.status NOT IN ('running', 'queued', 'waiting_for_approval')",
        &teams,
        &ids,
        &epochs,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}

/// Writes events that belong to no execution, and gives their ids in their order.
pub(crate) async fn events_insert(
    connection: &mut PgConnection,
    events: &[&OutboxEvent],
) -> Result<Vec<i64>, Error> {
    let ids = sqlx::query_scalar!(
        "WITH event AS (
             SELECT nextval(pg_get_serial_sequence('executor.outbox', 'id')) AS key, n, destination, payload
             FROM ROWS FROM (
                 jsonb_to_recordset($1::jsonb) AS (destination text, payload bytea)
             ) WITH ORDINALITY AS event (destination, payload, n)
         ), told AS (
             INSERT INTO executor.outbox (id, destination, payload) OVERRIDING SYSTEM VALUE
             SELECT key, destination, payload FROM event
         )
         SELECT key AS \"key!\" FROM event ORDER BY n",
        Json(events) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(ids)
}
