//! The SQL of the selector service.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection as _, PgPool, Postgres, Transaction, types::Json};
use types::Caller;
use uuid::Uuid;

pub(crate) use sqlx::PgConnection as Connection;

use crate::{
    history::Counts,
    select::{Choice, Selection, Wanted},
};

/// Days that an outcome's id is remembered: far longer than any outbox delivers again.
const OUTCOME_DAYS: i32 = 14;
/// Days that a selection is kept to learn from.
const SELECTION_DAYS: i32 = 30;

/// What became of one execution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OutcomeRow {
    pub event_id: Uuid,
    pub team_id: String,
    pub agent_id: String,
    pub tool_name: String,
    pub execution_id: Option<Uuid>,
    pub selection_id: Option<Uuid>,
    pub succeeded: bool,
    pub duration_ms: f64,
    pub cost_micro_usd: i64,
    pub event_time: DateTime<Utc>,
}

/// What an agent's calls of a tool came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistoryRow {
    pub team_id: String,
    pub tool_name: String,
    pub agent_id: String,
    pub counts: Counts,
}

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! history_row {
    ($row:ident) => {
        HistoryRow {
            team_id: $row.team_id,
            tool_name: $row.tool_name,
            agent_id: $row.agent_id,
            counts: Counts {
                executions: $row.executions,
                successes: $row.successes,
                weight: $row.weight,
                success_weight: $row.success_weight,
                duration_ms: $row.duration_ms,
                cost_micro_usd: $row.cost_micro_usd,
                decay_time: $row.decay_time,
            },
        }
    };
}

/// One selection. The task is not in it: only its digest and length.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SelectionRow {
    team_id: String,
    id: Uuid,
    agent_id: String,
    task_id: String,
    task_digest: String,
    task_length: i32,
    candidate_count: i32,
    ranked: serde_json::Value,
    create_time: DateTime<Utc>,
}

impl SelectionRow {
    pub(crate) fn new(caller: &Caller, wanted: &Wanted, selection: &Selection, now: DateTime<Utc>) -> Self {
        let ranked = |choice: &Choice| {
            let scores = &choice.scores;
            serde_json::json!({
                "name": choice.name, "match": scores.matching, "suitability": scores.suitability,
                "combined": scores.combined, "capability": scores.capability, "text": scores.text,
            })
        };
        Self {
            team_id: caller.team.clone(),
            id: selection.id,
            agent_id: caller.agent.clone(),
            task_id: wanted.task_id.clone(),
            task_digest: types::digest_bytes(wanted.task.as_bytes()),
            task_length: i32::try_from(wanted.task.len()).unwrap_or(i32::MAX),
            candidate_count: i32::try_from(selection.candidate_count).unwrap_or(i32::MAX),
            ranked: selection.choices.iter().map(ranked).collect(),
            create_time: now,
        }
    }
}

/// Begins a transaction.
pub(crate) async fn begin(connection: &mut Connection) -> Result<Transaction<'_, Postgres>, Error> {
    Ok(connection.begin().await?)
}

/// Adds the outcomes that are new to the history; gives their number and the history rows as they are
/// now. An outcome is counted if and only if its id is remembered. Ids must come in order of team and id, so
/// that two calls with the same ones do not wait for each other. Rows are reached by the constraints that
/// are kept and in no other way, so no statistics can make it slow.
pub(crate) async fn outcomes_insert(
    connection: &mut Connection,
    outcomes: &[&OutcomeRow],
) -> Result<(i64, Vec<HistoryRow>), Error> {
    let rows = sqlx::query!(
        r#"WITH new AS (
             INSERT INTO selector.outcome (
                 team_id, event_id, agent_id, tool_name, execution_id, selection_id, succeeded, duration_ms,
                 cost_micro_usd, event_time)
             SELECT team_id, event_id, agent_id, tool_name, execution_id, selection_id, succeeded,
                 duration_ms, cost_micro_usd, event_time
             FROM jsonb_to_recordset($1::jsonb) AS r (
                 team_id text, event_id uuid, agent_id text, tool_name text, execution_id uuid,
                 selection_id uuid, succeeded boolean, duration_ms double precision, cost_micro_usd bigint,
                 event_time timestamptz)
             ORDER BY team_id, event_id
             ON CONFLICT DO NOTHING
             RETURNING team_id, tool_name, agent_id, succeeded, duration_ms, cost_micro_usd
         ), summed AS (
             SELECT team_id, tool_name, agent_id, count(*) AS executions,
                 count(*) FILTER (WHERE succeeded) AS successes, sum(duration_ms) AS duration_ms,
                 sum(cost_micro_usd)::double precision AS cost_micro_usd
             FROM new GROUP BY team_id, tool_name, agent_id
         ), written AS (
             INSERT INTO selector.history AS h (
                 team_id, tool_name, agent_id, executions, successes, weight, success_weight, duration_ms,
                 cost_micro_usd, decay_time, changed_in)
             SELECT team_id, tool_name, agent_id, executions, successes, executions, successes, duration_ms,
                 cost_micro_usd, now(), pg_current_xact_id()::text::bigint
             FROM summed ORDER BY team_id, tool_name, agent_id
             ON CONFLICT (team_id, tool_name, agent_id) DO UPDATE SET
                 executions = h.executions + excluded.executions,
                 successes = h.successes + excluded.successes,
                 weight = h.weight * selector.decay(h.decay_time) + excluded.weight,
                 success_weight = h.success_weight * selector.decay(h.decay_time) + excluded.success_weight,
                 duration_ms = h.duration_ms * selector.decay(h.decay_time) + excluded.duration_ms,
                 cost_micro_usd = h.cost_micro_usd * selector.decay(h.decay_time) + excluded.cost_micro_usd,
                 decay_time = greatest(h.decay_time, excluded.decay_time),
                 changed_in = excluded.changed_in
             RETURNING *
         )
         SELECT team_id AS "team_id!", tool_name AS "tool_name!", agent_id AS "agent_id!",
             executions AS "executions!", successes AS "successes!", weight AS "weight!",
             success_weight AS "success_weight!", duration_ms AS "duration_ms!",
             cost_micro_usd AS "cost_micro_usd!", decay_time AS "decay_time!",
             (SELECT count(*) FROM new) AS "recorded!"
         FROM written"#,
        Json(outcomes) as _,
    )
    .fetch_all(connection)
    .await?;
    let recorded = rows.first().map_or(0, |row| row.recorded);
    let history = rows.into_iter().map(|row| history_row!(row));
    Ok((recorded, history.collect()))
}

/// History written since a horizon, and the horizon to ask from next: the oldest transaction that still
/// runs, taken before the rows are read, so that none that commits late is missed.
pub(crate) async fn history_changed(pool: &PgPool, since: i64) -> Result<(i64, Vec<HistoryRow>), Error> {
    let horizon =
        sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "horizon!""#)
            .fetch_one(pool)
            .await?;
    let rows = sqlx::query!(
        "SELECT team_id, tool_name, agent_id, executions, successes, weight, success_weight, duration_ms,
             cost_micro_usd, decay_time
         FROM selector.history WHERE changed_in >= $1",
        since,
    )
    .fetch_all(pool)
    .await?;
    let history = rows.into_iter().map(|row| history_row!(row));
    Ok((horizon, history.collect()))
}

/// Adds selections without waiting for the disk: one lost in a crash is no one's loss.
pub(crate) async fn selections_insert(pool: &PgPool, selections: &[SelectionRow]) -> Result<(), Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query!("SELECT set_config('synchronous_commit', 'off', true)").fetch_one(&mut *transaction).await?;
    sqlx::query!(
        "INSERT INTO selector.selection (
             team_id, id, agent_id, task_id, task_digest, task_length, candidate_count, ranked, create_time)
         SELECT team_id, id, agent_id, task_id, task_digest, task_length, candidate_count, ranked, create_time
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, id uuid, agent_id text, task_id text, task_digest text, task_length integer,
             candidate_count integer, ranked jsonb, create_time timestamptz)",
        Json(selections) as _,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

/// Deletes what is past its time. The history stays.
pub(crate) async fn rows_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM selector.outcome WHERE create_time < now() - make_interval(days => $1)",
        OUTCOME_DAYS
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "DELETE FROM selector.selection WHERE create_time < now() - make_interval(days => $1)",
        SELECTION_DAYS
    )
    .execute(pool)
    .await?;
    Ok(())
}
