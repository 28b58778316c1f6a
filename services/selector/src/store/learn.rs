//! What was learned of tools: records, hours, and what is watched. Records are read, changed and written under the lock
//! of their team (`teams_lock`).

use ::store::Error;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};
use types::Category;

use super::Connection;
use crate::learn::{Counts, Drift, Hour, RecordKey, RecordRow, ToolKey, Watch};

/// Days that hours are kept, and tools after their last outcome.
const HOUR_DAYS: i32 = 30;

/// Outcomes of one agent's calls of a tool in one hour that ended alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct HourRow {
    pub team_id: String,
    pub tool_name: String,
    pub agent_id: String,
    #[serde(flatten)]
    pub hour: Hour,
}

/// What is known of a tool from its last outcome, and what it is watched by.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct ToolRow {
    pub team_id: String,
    pub tool_name: String,
    pub timeout_ms: i64,
    pub effect: String,
    pub last_time: DateTime<Utc>,
    pub watch: Watch,
}

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! record_row {
    ($row:ident) => {
        RecordRow {
            team_id: $row.team_id,
            tool_name: $row.tool_name,
            agent_id: $row.agent_id,
            category: category(&$row.category),
            counts: Counts {
                executions: $row.executions,
                successes: $row.successes,
                weight: $row.weight,
                success_weight: $row.success_weight,
                duration_ms: $row.duration_ms,
                cost_micro_usd: $row.cost_micro_usd,
                feedbacks: $row.feedbacks,
                quality_weight: $row.quality_weight,
                quality: $row.quality,
                drift: Drift { fall: $row.fall, rise: $row.rise },
                decay_time: $row.decay_time,
            },
            changed_in: $row.changed_in,
        }
    };
}

/// A category as it was written; a word of a newer version counts as custom.
pub(crate) fn category(word: &str) -> Category {
    word.parse().unwrap_or(Category::Custom)
}

/// Every text of some keys, column by column.
pub(super) fn columns<const N: usize>(keys: impl Iterator<Item = [String; N]>) -> [Vec<String>; N] {
    let mut columns = [const { Vec::new() }; N];
    for key in keys {
        columns.iter_mut().zip(key).for_each(|(column, text)| column.push(text));
    }
    columns
}

/// The records of these keys that are there.
pub(crate) async fn records_get(
    connection: &mut Connection,
    keys: impl Iterator<Item = &RecordKey>,
) -> Result<Vec<RecordRow>, Error> {
    let keys = keys.map(|(team, tool, agent, category)| {
        [team.clone(), tool.clone(), agent.clone(), category.as_str().to_owned()]
    });
    let [teams, tools, agents, categories] = columns(keys);
    let rows = sqlx::query!(
        "SELECT r.team_id, r.tool_name, r.agent_id, r.category, r.executions, r.successes, r.weight,
             r.success_weight, r.duration_ms, r.cost_micro_usd, r.feedbacks, r.quality_weight,
             r.quality, r.fall, r.rise, r.decay_time, r.changed_in
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
             AS k (team_id, tool_name, agent_id, category)
         JOIN selector.record r USING (team_id, tool_name, agent_id, category)",
        &teams,
        &tools,
        &agents,
        &categories,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| record_row!(row)).collect())
}

/// What these tools are watched by, of those that were called before.
pub(crate) async fn watches_get(
    connection: &mut Connection,
    keys: impl Iterator<Item = &ToolKey>,
) -> Result<Vec<(ToolKey, Watch)>, Error> {
    let [teams, tools] = columns(keys.map(|(team, tool)| [team.clone(), tool.clone()]));
    let rows = sqlx::query!(
        r#"SELECT t.team_id, t.tool_name, t.watch AS "watch: Json<Watch>"
         FROM unnest($1::text[], $2::text[]) AS k (team_id, tool_name)
         JOIN selector.tool t USING (team_id, tool_name)"#,
        &teams,
        &tools,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| ((row.team_id, row.tool_name), row.watch.0)).collect())
}

/// Writes records, in the place of what they were.
pub(crate) async fn records_put(
    connection: &mut Connection,
    records: &[(RecordKey, Counts)],
) -> Result<Vec<RecordRow>, Error> {
    let rows: Vec<serde_json::Value> = records.iter().map(record_json).collect();
    let rows = sqlx::query!(
        "INSERT INTO selector.record AS h (
             team_id, tool_name, agent_id, category, executions, successes, weight, success_weight, duration_ms,
             cost_micro_usd, feedbacks, quality_weight, quality, fall, rise, decay_time, changed_in)
         SELECT r.*, pg_current_xact_id()::text::bigint
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, tool_name text, agent_id text, category text, executions bigint, successes bigint,
             weight double precision, success_weight double precision, duration_ms double precision,
             cost_micro_usd double precision, feedbacks bigint, quality_weight double precision,
             quality double precision, fall double precision, rise double precision, decay_time timestamptz)
         ON CONFLICT (team_id, tool_name, agent_id, category) DO UPDATE SET
             executions = excluded.executions, successes = excluded.successes, weight = excluded.weight,
             success_weight = excluded.success_weight, duration_ms = excluded.duration_ms,
             cost_micro_usd = excluded.cost_micro_usd, feedbacks = excluded.feedbacks,
             quality_weight = excluded.quality_weight, quality = excluded.quality, fall = excluded.fall,
             rise = excluded.rise, decay_time = excluded.decay_time, changed_in = excluded.changed_in
         RETURNING h.team_id, h.tool_name, h.agent_id, h.category, h.executions, h.successes, h.weight,
             h.success_weight, h.duration_ms, h.cost_micro_usd, h.feedbacks, h.quality_weight,
             h.quality, h.fall, h.rise, h.decay_time, h.changed_in",
        Json(rows) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| record_row!(row)).collect())
}

fn record_json(((team, tool, agent, category), counts): &(RecordKey, Counts)) -> serde_json::Value {
    serde_json::json!({
        "team_id": team, "tool_name": tool, "agent_id": agent, "category": category.as_str(),
        "executions": counts.executions, "successes": counts.successes, "weight": counts.weight,
        "success_weight": counts.success_weight, "duration_ms": counts.duration_ms,
        "cost_micro_usd": counts.cost_micro_usd, "feedbacks": counts.feedbacks,
        "quality_weight": counts.quality_weight, "quality": counts.quality, "fall": counts.drift.fall,
        "rise": counts.drift.rise, "decay_time": counts.decay_time,
    })
}

/// Adds to the hours, and writes what is known of the tools.
pub(crate) async fn hours_add(
    connection: &mut Connection,
    hours: &[HourRow],
    tools: &[ToolRow],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH tools AS (
             INSERT INTO selector.tool AS t (team_id, tool_name, timeout_ms, effect, last_time, watch)
             SELECT * FROM jsonb_to_recordset($2::jsonb) AS r (
                 team_id text, tool_name text, timeout_ms bigint, effect text, last_time timestamptz, watch jsonb)
             ON CONFLICT (team_id, tool_name) DO UPDATE SET
                 timeout_ms = CASE WHEN excluded.timeout_ms > 0 THEN excluded.timeout_ms ELSE t.timeout_ms END,
                 effect = CASE WHEN excluded.effect <> '' THEN excluded.effect ELSE t.effect END,
                 last_time = greatest(t.last_time, excluded.last_time), watch = excluded.watch
         )
         INSERT INTO selector.hour AS h (
             team_id, tool_name, agent_id, hour, failure_reason, calls, cached, fell_back, log_ms, log_ms_square,
             cost_micro_usd, durations, first_time, last_time)
         SELECT * FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, tool_name text, agent_id text, hour timestamptz, failure_reason text, calls bigint,
             cached bigint, fell_back bigint, log_ms double precision, log_ms_square double precision,
             cost_micro_usd double precision, durations bigint[], first_time timestamptz, last_time timestamptz)
         ON CONFLICT (team_id, tool_name, agent_id, hour, failure_reason) DO UPDATE SET
             calls = h.calls + excluded.calls, cached = h.cached + excluded.cached,
             fell_back = h.fell_back + excluded.fell_back, log_ms = h.log_ms + excluded.log_ms,
             log_ms_square = h.log_ms_square + excluded.log_ms_square,
             cost_micro_usd = h.cost_micro_usd + excluded.cost_micro_usd,
             durations = (
                 SELECT array_agg(coalesce(was, 0) + coalesce(more, 0) ORDER BY place)
                 FROM unnest(h.durations, excluded.durations) WITH ORDINALITY AS d (was, more, place)),
             first_time = least(h.first_time, excluded.first_time),
             last_time = greatest(h.last_time, excluded.last_time)",
        Json(hours) as _,
        Json(tools) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The hours of these tools since a time, of all agents together or of one, without their durations; each with how many
/// rows it was made of.
pub(crate) async fn hours_read(
    pool: &PgPool,
    keys: &[ToolKey],
    since: DateTime<Utc>,
    agent: Option<&str>,
) -> Result<Vec<(ToolKey, Hour, i64)>, Error> {
    let [teams, tools] = columns(keys.iter().map(|(team, tool)| [team.clone(), tool.clone()]));
    let rows = sqlx::query!(
        r#"SELECT h.team_id, h.tool_name, h.hour, h.failure_reason, sum(h.calls)::bigint AS "calls!",
             sum(h.cached)::bigint AS "cached!", sum(h.fell_back)::bigint AS "fell_back!", sum(h.log_ms) AS "log_ms!",
             sum(h.log_ms_square) AS "log_ms_square!", sum(h.cost_micro_usd) AS "cost_micro_usd!",
             min(h.first_time) AS "first_time!", max(h.last_time) AS "last_time!", count(*) AS "rows!"
         FROM unnest($1::text[], $2::text[]) AS k (team_id, tool_name)
         JOIN selector.hour h USING (team_id, tool_name)
         WHERE h.hour >= $3 AND ($4::text IS NULL OR h.agent_id = $4)
         GROUP BY h.team_id, h.tool_name, h.hour, h.failure_reason"#,
        &teams,
        &tools,
        since,
        agent,
    )
    .fetch_all(pool)
    .await?;
    let hours = rows.into_iter().map(|row| {
        let hour = Hour {
            hour: row.hour,
            failure_reason: row.failure_reason,
            calls: row.calls,
            cached: row.cached,
            fell_back: row.fell_back,
            log_ms: row.log_ms,
            log_ms_square: row.log_ms_square,
            cost_micro_usd: row.cost_micro_usd,
            durations: Vec::new(),
            first_time: row.first_time,
            last_time: row.last_time,
        };
        ((row.team_id, row.tool_name), hour, row.rows)
    });
    Ok(hours.collect())
}

/// One agent's calls of a tool that took about as long.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DurationRow {
    pub key: ToolKey,
    pub agent_id: String,
    /// Of the histogram.
    pub bucket: usize,
    pub calls: i64,
}

/// The durations of these tools' calls since a time, by agent, of all agents or one.
pub(crate) async fn durations_read(
    pool: &PgPool,
    keys: &[ToolKey],
    since: DateTime<Utc>,
    agent: Option<&str>,
) -> Result<Vec<DurationRow>, Error> {
    let [teams, tools] = columns(keys.iter().map(|(team, tool)| [team.clone(), tool.clone()]));
    let rows = sqlx::query!(
        r#"SELECT h.team_id, h.tool_name, h.agent_id, d.place AS "place!", sum(d.number)::bigint AS "calls!"
         FROM unnest($1::text[], $2::text[]) AS k (team_id, tool_name)
         JOIN selector.hour h USING (team_id, tool_name)
         CROSS JOIN LATERAL unnest(h.durations) WITH ORDINALITY AS d (number, place)
         WHERE h.hour >= $3 AND ($4::text IS NULL OR h.agent_id = $4) AND d.number > 0
         GROUP BY h.team_id, h.tool_name, h.agent_id, d.place"#,
        &teams,
        &tools,
        since,
        agent,
    )
    .fetch_all(pool)
    .await?;
    let duration = rows.into_iter().map(|row| DurationRow {
        key: (row.team_id, row.tool_name),
        agent_id: row.agent_id,
        bucket: usize::try_from(row.place - 1).unwrap_or(0),
        calls: row.calls,
    });
    Ok(duration.collect())
}

/// Records written since a horizon.
pub(super) async fn records_changed(pool: &PgPool, since: i64) -> Result<Vec<RecordRow>, Error> {
    let rows = sqlx::query!(
        "SELECT team_id, tool_name, agent_id, category, executions, successes, weight, success_weight,
             duration_ms, cost_micro_usd, feedbacks, quality_weight, quality, fall, rise, decay_time,
             changed_in
         FROM selector.record WHERE changed_in >= $1",
        since
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| record_row!(row)).collect())
}

/// Deletes hours and tools that are past their time. Records stay.
pub(super) async fn hours_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!("DELETE FROM selector.hour WHERE hour < now() - make_interval(days => $1)", HOUR_DAYS)
        .execute(pool)
        .await?;
    sqlx::query!("DELETE FROM selector.tool WHERE last_time < now() - make_interval(days => $1)", HOUR_DAYS)
        .execute(pool)
        .await?;
    Ok(())
}
