//! The SQL of the audit service. Rows of `audit.event` are only ever added.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

/// One event of the trail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct EventRow {
    pub id: Uuid,
    pub team_id: String,
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

/// What a query asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    pub agent_id: Option<String>,
    pub tool_name: Option<String>,
    pub task_id: Option<String>,
    pub execution_id: Option<Uuid>,
    pub action: Option<String>,
    pub result: Option<String>,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
}

/// Adds the events that are new and gives their number. Locks each team's head, in order of team, so
/// that positions are contiguous and two calls with the same event cannot both add it.
pub(crate) async fn events_insert(pool: &PgPool, events: &[EventRow]) -> Result<usize, Error> {
    let mut teams: Vec<String> = events.iter().map(|event| event.team_id.clone()).collect();
    teams.sort_unstable();
    teams.dedup();
    let mut transaction = pool.begin().await?;
    sqlx::query!("INSERT INTO audit.head (team_id) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING", &teams)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "SELECT team_id FROM audit.head WHERE team_id = ANY($1) ORDER BY team_id FOR UPDATE",
        &teams
    )
    .fetch_all(&mut *transaction)
    .await?;
    let inserted = sqlx::query!(
        "WITH new AS (
             SELECT r.* FROM jsonb_to_recordset($1::jsonb) AS r (
                 id uuid, team_id text, event_time timestamptz, action text, result text, agent_id text,
                 tool_name text, tool_version text, tool_digest text, execution_id uuid, task_id text,
                 trace_id text, reason text, message text, arguments_json text, arguments_digest text,
                 result_digest text, duration_ms double precision, cost_micro_usd bigint, sensitivity text,
                 decision_id uuid)
             WHERE NOT EXISTS (SELECT FROM audit.event e WHERE e.team_id = r.team_id AND e.id = r.id)
         ), inserted AS (
             INSERT INTO audit.event (
                 team_id, id, sequence, event_time, action, result, agent_id, tool_name, tool_version,
                 tool_digest, execution_id, task_id, trace_id, reason, message, arguments_json,
                 arguments_digest, result_digest, duration_ms, cost_micro_usd, sensitivity, decision_id)
             SELECT n.team_id, n.id, h.sequence + row_number() OVER (PARTITION BY n.team_id ORDER BY n.id),
                 n.event_time, n.action, n.result, n.agent_id, n.tool_name, n.tool_version, n.tool_digest,
                 n.execution_id, n.task_id, n.trace_id, n.reason, n.message, n.arguments_json,
                 n.arguments_digest, n.result_digest, n.duration_ms, n.cost_micro_usd, n.sensitivity,
                 n.decision_id
             FROM new n JOIN audit.head h USING (team_id)
             RETURNING team_id
         ), counted AS (
             SELECT team_id, count(*) AS added FROM inserted GROUP BY team_id
         ), moved AS (
             UPDATE audit.head h SET sequence = h.sequence + c.added FROM counted c WHERE h.team_id = c.team_id
         )
         SELECT coalesce(sum(added), 0)::bigint AS \"added!\" FROM counted",
        Json(events) as _,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(usize::try_from(inserted.added).unwrap_or(0))
}

/// Events of a team below a position, newest first.
pub(crate) async fn event_list(
    pool: &PgPool,
    team: &str,
    filter: &Filter,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<EventRow>, Error> {
    let rows = sqlx::query_as!(
        EventRow,
        "SELECT id, team_id, sequence, event_time, action, result, agent_id, tool_name, tool_version,
                tool_digest, execution_id, task_id, trace_id, reason, message, arguments_json,
                arguments_digest, result_digest, duration_ms, cost_micro_usd, sensitivity, decision_id
         FROM audit.event
         WHERE team_id = $1
           AND ($2::bigint IS NULL OR sequence < $2)
           AND ($3::text IS NULL OR agent_id = $3)
           AND ($4::text IS NULL OR tool_name = $4)
           AND ($5::text IS NULL OR task_id = $5)
           AND ($6::uuid IS NULL OR execution_id = $6)
           AND ($7::text IS NULL OR action = $7)
           AND ($8::text IS NULL OR result = $8)
           AND ($9::timestamptz IS NULL OR event_time >= $9)
           AND ($10::timestamptz IS NULL OR event_time < $10)
         ORDER BY sequence DESC
         LIMIT $11",
        team,
        before,
        filter.agent_id,
        filter.tool_name,
        filter.task_id,
        filter.execution_id,
        filter.action,
        filter.result,
        filter.start_time,
        filter.end_time,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Makes the partitions of this month and the next two.
pub(crate) async fn partitions_ensure(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!("SELECT audit.ensure_partitions(2)").execute(pool).await?;
    Ok(())
}
