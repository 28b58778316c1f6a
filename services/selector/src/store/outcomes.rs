//! Outcomes of executions: each once, however often it is delivered, and linked to the selection it followed.

use std::collections::HashMap;

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use super::Connection;
use crate::learn::{Says, says};

/// Days that an outcome's id is remembered: far longer than any outbox delivers again.
const OUTCOME_DAYS: i32 = 14;
/// How long the database waits for the next statement of whoever learns: a process that is stopped, or cut off, must not
/// keep its teams from learning.
const SILENCE: &str = "5s";
/// How long anyone waits for a lock: longer than that.
const PATIENCE: &str = "10s";
/// Tells the locks of what teams learn from other advisory locks of the database.
const LOCKS: i64 = 0x006c_6561_726e;

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
    /// The task it belongs to; may be empty.
    pub task_id: String,
    /// Empty when it succeeded, and never otherwise.
    pub failure_reason: String,
    /// Nothing was run: the answer was kept.
    pub cached: bool,
    /// SHA-256 of the canonical arguments; may be empty.
    pub arguments_hash: String,
    /// Longest run of one attempt; 0: not known.
    pub timeout_ms: i64,
    /// Another tool answered in its place.
    pub fell_back: bool,
    /// What the tool does to the world, as a word.
    pub effect: String,
}

impl OutcomeRow {
    /// What it says of the tool.
    pub(crate) fn says(&self) -> Says {
        says(self.succeeded, &self.failure_reason, self.cached)
    }
}

/// What the selection knew that an outcome followed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Followed {
    /// Empty: not known.
    pub category: String,
    /// What the vector was made by.
    pub model_id: String,
    /// `None`: it had none, or has taught already.
    pub task_vector: Option<Vec<u8>>,
}

/// Makes whoever learns for one of these teams wait for the end of this transaction, and gives the time. Always in the
/// same order, so that no two wait for each other. From here on the database ends a transaction that says nothing for
/// five seconds, and one that waits ten for a lock: [`Error::Unavailable`] here, and it may be tried again.
pub(crate) async fn teams_lock(
    connection: &mut Connection,
    teams: &[String],
) -> Result<DateTime<Utc>, Error> {
    let row = sqlx::query!(
        r#"SELECT clock_timestamp() AS "now!", count(pg_advisory_xact_lock(key)) AS locks
         FROM (SELECT set_config('idle_in_transaction_session_timeout', $3, true) AS silent,
                   set_config('lock_timeout', $4, true) AS patient) AS set
         CROSS JOIN (SELECT DISTINCT hashtextextended(team, $2) AS key FROM unnest($1::text[]) AS team ORDER BY key) AS keys"#,
        teams,
        LOCKS,
        SILENCE,
        PATIENCE,
    )
    .fetch_one(connection)
    .await
    .map_err(busy)?;
    Ok(row.now)
}

/// The lock is another's for now: nothing was done.
fn busy(error: sqlx::Error) -> Error {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    // lock_not_available (PostgreSQL, appendix A).
    if code.as_deref() == Some("55P03") { Error::Unavailable(Some(error)) } else { error.into() }
}

/// Remembers the outcomes that are new, and notes on the selections they follow what the first call came to; not
/// whether it succeeded, where that says nothing of the tool. An outcome follows selections of its own team and agent
/// alone. Gives those that are new, each with what its selection knew. The
/// teams must be locked. Rows are reached by the constraints that are kept and in no other way, so no statistics can
/// make it slow.
pub(crate) async fn outcomes_insert(
    connection: &mut Connection,
    outcomes: &[&OutcomeRow],
) -> Result<HashMap<(String, Uuid), Option<Followed>>, Error> {
    let silent = outcomes.iter().filter(|outcome| outcome.says() == Says::Nothing);
    let silent: Vec<Uuid> = silent.map(|outcome| outcome.event_id).collect();
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
             RETURNING team_id, event_id, agent_id, tool_name, execution_id, selection_id, succeeded, event_time
         ), known AS (
             SELECT new.*, s.task_category, s.model_id, s.task_vector
             FROM new JOIN selector.selection s
                 ON s.team_id = new.team_id AND s.id = new.selection_id AND s.agent_id = new.agent_id
         ), first AS (
             SELECT DISTINCT ON (team_id, selection_id) *
             FROM known ORDER BY team_id, selection_id, event_time, event_id
         ), followed AS (
             UPDATE selector.selection s
             SET followed_tool = first.tool_name, execution_id = first.execution_id,
                 succeeded = CASE WHEN first.event_id <> ALL($2) THEN first.succeeded END,
                 follow_time = first.event_time
             FROM first
             WHERE s.team_id = first.team_id AND s.id = first.selection_id AND s.follow_time IS NULL
         )
         SELECT new.team_id AS "team_id!", new.event_id AS "event_id!", known.task_category AS "category?",
             known.model_id AS "model_id?", known.task_vector AS "task_vector?"
         FROM new LEFT JOIN known ON known.team_id = new.team_id AND known.event_id = new.event_id"#,
        Json(outcomes) as _,
        &silent,
    )
    .fetch_all(connection)
    .await?;
    let new = rows.into_iter().map(|row| {
        let followed = row.category.map(|category| Followed {
            category,
            model_id: row.model_id.unwrap_or_default(),
            task_vector: row.task_vector,
        });
        ((row.team_id, row.event_id), followed)
    });
    Ok(new.collect())
}

/// Takes the vectors of their tasks from selections that have taught: none teaches twice. The teams must be locked.
pub(crate) async fn selections_spend(
    connection: &mut Connection,
    selections: Vec<(String, Uuid)>,
) -> Result<(), Error> {
    if selections.is_empty() {
        return Ok(());
    }
    let (teams, ids): (Vec<String>, Vec<Uuid>) = selections.into_iter().unzip();
    sqlx::query!(
        "UPDATE selector.selection s SET task_vector = NULL
         FROM unnest($1::text[], $2::uuid[]) AS k (team_id, id)
         WHERE s.team_id = k.team_id AND s.id = k.id",
        &teams,
        &ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the ids that no outbox delivers again.
pub(crate) async fn outcomes_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM selector.outcome WHERE create_time < now() - make_interval(days => $1)",
        OUTCOME_DAYS
    )
    .execute(pool)
    .await?;
    Ok(())
}
