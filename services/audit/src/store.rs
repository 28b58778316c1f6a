//! The SQL of the audit service. Rows of `audit.event` are only ever added.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{Connection as _, PgPool, Postgres, Transaction, types::Json};
use uuid::Uuid;

pub(crate) use sqlx::PgConnection as Connection;

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

/// Begins a transaction.
pub(crate) async fn begin(connection: &mut Connection) -> Result<Transaction<'_, Postgres>, Error> {
    Ok(connection.begin().await?)
}

/// An event on its way into the trail.
#[derive(Serialize)]
struct NewEvent<'a> {
    #[serde(flatten)]
    row: &'a EventRow,
    /// Events of its team that come after it in the same statement.
    later: i64,
}

/// Adds events that differ in id, in order of team and id, or none of them: a conflict means that the trail
/// has one already. Moving a team's head locks it, in order of team and over all processes, until the
/// transaction ends; so positions are contiguous. Nothing is read but by the constraints that are kept, so
/// no statistics can make it slow.
pub(crate) async fn events_insert(connection: &mut Connection, events: &[&EventRow]) -> Result<(), Error> {
    let (events, teams, added) = ordered(events);
    sqlx::query!(
        "WITH heads AS (
             INSERT INTO audit.head AS h (team_id, sequence)
             SELECT t.team_id, t.added FROM unnest($2::text[], $3::bigint[]) AS t (team_id, added)
             ORDER BY t.team_id
             ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence + excluded.sequence
             RETURNING h.team_id, h.sequence
         )
         INSERT INTO audit.event (
             team_id, id, sequence, event_time, action, result, agent_id, tool_name, tool_version,
             tool_digest, execution_id, task_id, trace_id, reason, message, arguments_json, arguments_digest,
             result_digest, duration_ms, cost_micro_usd, sensitivity, decision_id)
         SELECT n.team_id, n.id, h.sequence - n.later, n.event_time, n.action, n.result, n.agent_id,
             n.tool_name, n.tool_version, n.tool_digest, n.execution_id, n.task_id, n.trace_id, n.reason,
             n.message, n.arguments_json, n.arguments_digest, n.result_digest, n.duration_ms,
             n.cost_micro_usd, n.sensitivity, n.decision_id
         FROM jsonb_to_recordset($1::jsonb) AS n (
             team_id text, id uuid, later bigint, event_time timestamptz, action text, result text,
             agent_id text, tool_name text, tool_version text, tool_digest text, execution_id uuid,
             task_id text, trace_id text, reason text, message text, arguments_json text,
             arguments_digest text, result_digest text, duration_ms double precision, cost_micro_usd bigint,
             sensitivity text, decision_id uuid)
         JOIN heads h ON h.team_id = n.team_id",
        Json(events) as _,
        &teams as _,
        &added,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Events in order of team and id, with what comes after each; and the teams with their numbers of events.
fn ordered<'a>(events: &[&'a EventRow]) -> (Vec<NewEvent<'a>>, Vec<&'a str>, Vec<i64>) {
    let mut events: Vec<_> = events.iter().map(|&row| NewEvent { row, later: 0 }).collect();
    events.sort_unstable_by_key(|event| (event.row.team_id.as_str(), event.row.id));
    let (mut teams, mut added) = (Vec::new(), Vec::new());
    for team in events.chunk_by_mut(|left, right| left.row.team_id == right.row.team_id) {
        let mut later = 0;
        for event in team.iter_mut().rev() {
            event.later = later;
            later += 1;
        }
        teams.extend(team.first().map(|event| event.row.team_id.as_str()));
        added.push(later);
    }
    (events, teams, added)
}

/// Locks the heads of teams, in order of team, until the transaction ends: none of their events is added
/// by another in the meantime. And has its statements planned anew, for the tables as they are.
pub(crate) async fn heads_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    teams: &[&str],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH locked AS (
             INSERT INTO audit.head AS h (team_id)
             SELECT DISTINCT t.team_id FROM unnest($1::text[]) AS t (team_id) ORDER BY t.team_id
             ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence
         )
         SELECT set_config('plan_cache_mode', 'force_custom_plan', true) AS planned",
        teams as _,
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(())
}

/// Which of these events the trail has. Looked up by the primary key, event by event: `LIMIT` keeps the
/// planner from joining whole partitions, and a plan for the partition as it is from another index.
pub(crate) async fn events_known_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    events: &[&EventRow],
) -> Result<Vec<(String, Uuid)>, Error> {
    let (teams, ids): (Vec<&str>, Vec<Uuid>) =
        events.iter().map(|event| (event.team_id.as_str(), event.id)).unzip();
    let rows = sqlx::query!(
        r#"SELECT a.team_id AS "team_id!", a.id AS "id!"
         FROM unnest($1::text[], $2::uuid[]) AS a (team_id, id)
         CROSS JOIN LATERAL (
             SELECT FROM audit.event e WHERE e.team_id = a.team_id AND e.id = a.id LIMIT 1
         ) known"#,
        &teams as _,
        &ids,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.id)).collect())
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
