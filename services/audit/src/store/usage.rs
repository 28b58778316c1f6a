//! The SQL of use and costs: `audit.usage_day` and `audit.task_cost`. Sums are only ever added to, by whoever sequences,
//! and end at the largest bigint: one that overflows would keep a team's records from being signed.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};

use super::Connection;

/// What is counted of calls.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub calls: i64,
    pub successes: i64,
    pub failures: i64,
    pub unknown: i64,
    pub denials: i64,
    pub cache_hits: i64,
    pub cache_misses: i64,
    /// Of all calls together.
    pub duration_us: i64,
    pub cost_micro_usd: i64,
}

/// What one day, tool, agent and classification has more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DayUse {
    pub day: NaiveDate,
    pub tool_name: String,
    pub agent_id: String,
    pub classification: String,
    #[serde(flatten)]
    pub counts: Counts,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

/// What one task of an agent has more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct TaskUse {
    pub task_id: String,
    pub agent_id: String,
    pub calls: i64,
    pub failures: i64,
    pub cost_micro_usd: i64,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

/// Adds to the days of a team; no two of the same key.
pub(crate) async fn usage_add(connection: &mut Connection, team: &str, days: &[DayUse]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.usage_day AS u (
             team_id, day, tool_name, agent_id, classification, calls, successes, failures, unknown, denials,
             cache_hits, cache_misses, duration_us, cost_micro_usd, first_time, last_time)
         SELECT $1, n.* FROM jsonb_to_recordset($2::jsonb) AS n (
             day date, tool_name text, agent_id text, classification text, calls bigint, successes bigint,
             failures bigint, unknown bigint, denials bigint, cache_hits bigint, cache_misses bigint,
             duration_us bigint, cost_micro_usd bigint, first_time timestamptz, last_time timestamptz)
         ON CONFLICT (team_id, day, tool_name, agent_id, classification) DO UPDATE
         SET calls = u.calls + excluded.calls, successes = u.successes + excluded.successes,
             failures = u.failures + excluded.failures, unknown = u.unknown + excluded.unknown,
             denials = u.denials + excluded.denials, cache_hits = u.cache_hits + excluded.cache_hits,
             cache_misses = u.cache_misses + excluded.cache_misses,
             duration_us = least(u.duration_us::numeric + excluded.duration_us, 9223372036854775807)::bigint,
             cost_micro_usd = least(u.cost_micro_usd::numeric + excluded.cost_micro_usd, 9223372036854775807)::bigint,
             first_time = least(u.first_time, excluded.first_time),
             last_time = greatest(u.last_time, excluded.last_time)",
        team,
        Json(days) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds to the tasks of a team; no two of the same key.
pub(crate) async fn task_costs_add(
    connection: &mut Connection,
    team: &str,
    tasks: &[TaskUse],
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.task_cost AS t (
             team_id, task_id, agent_id, calls, failures, cost_micro_usd, first_time, last_time)
         SELECT $1, n.* FROM jsonb_to_recordset($2::jsonb) AS n (
             task_id text, agent_id text, calls bigint, failures bigint, cost_micro_usd bigint,
             first_time timestamptz, last_time timestamptz)
         ON CONFLICT (team_id, task_id, agent_id) DO UPDATE
         SET calls = t.calls + excluded.calls, failures = t.failures + excluded.failures,
             cost_micro_usd = least(t.cost_micro_usd::numeric + excluded.cost_micro_usd, 9223372036854775807)::bigint,
             first_time = least(t.first_time, excluded.first_time),
             last_time = greatest(t.last_time, excluded.last_time)",
        team,
        Json(tasks) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Which days, and of whom.
#[derive(Debug, Clone)]
pub(crate) struct Period {
    pub start: NaiveDate,
    /// The last day.
    pub end: NaiveDate,
    pub tool_name: Option<String>,
    pub agent_id: Option<String>,
    pub task_id: Option<String>,
}

/// What tells rows of use apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "any of them may go with any other")]
pub(crate) struct Grouping {
    pub day: bool,
    pub tool: bool,
    pub agent: bool,
    pub classification: bool,
}

/// Use, as grouped; what is not told apart is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct UseRow {
    /// As YYYY-MM-DD.
    pub day: String,
    pub tool_name: String,
    pub agent_id: String,
    pub classification: String,
    pub calls: i64,
    pub successes: i64,
    pub failures: i64,
    pub unknown: i64,
    pub denials: i64,
    pub cache_hits: i64,
    pub cache_misses: i64,
    pub duration_us: i64,
    pub cost_micro_usd: i64,
}

/// The place after which rows of use go on: day, tool, agent, classification.
pub(crate) type UseCursor = (String, String, String, String);

/// Use of a team, in order of day, tool, agent and classification.
pub(crate) async fn usage_list(
    pool: &PgPool,
    team: &str,
    period: &Period,
    by: Grouping,
    after: Option<&UseCursor>,
    limit: i64,
) -> Result<Vec<UseRow>, Error> {
    let rows = sqlx::query_as!(
        UseRow,
        r#"SELECT * FROM (
             SELECT CASE WHEN $6 THEN to_char(day, 'YYYY-MM-DD') ELSE '' END AS "day!",
                    CASE WHEN $7 THEN tool_name ELSE '' END AS "tool_name!",
                    CASE WHEN $8 THEN agent_id ELSE '' END AS "agent_id!",
                    CASE WHEN $9 THEN classification ELSE '' END AS "classification!",
                    sum(calls)::bigint AS "calls!", sum(successes)::bigint AS "successes!",
                    sum(failures)::bigint AS "failures!", sum(unknown)::bigint AS "unknown!",
                    sum(denials)::bigint AS "denials!", sum(cache_hits)::bigint AS "cache_hits!",
                    sum(cache_misses)::bigint AS "cache_misses!",
                    least(sum(duration_us), 9223372036854775807)::bigint AS "duration_us!",
                    least(sum(cost_micro_usd), 9223372036854775807)::bigint AS "cost_micro_usd!"
             FROM audit.usage_day
             WHERE team_id = $1 AND day BETWEEN $2 AND $3
               AND ($4::text IS NULL OR tool_name = $4) AND ($5::text IS NULL OR agent_id = $5)
             GROUP BY 1, 2, 3, 4
         ) AS g
         WHERE $10::text IS NULL
            OR (g."day!", g."tool_name!", g."agent_id!", g."classification!") > ($10, $11, $12, $13)
         ORDER BY 1, 2, 3, 4
         LIMIT $14"#,
        team,
        period.start,
        period.end,
        period.tool_name,
        period.agent_id,
        by.day,
        by.tool,
        by.agent,
        by.classification,
        after.map(|after| after.0.as_str()),
        after.map(|after| after.1.as_str()),
        after.map(|after| after.2.as_str()),
        after.map(|after| after.3.as_str()),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// By what costs are told apart, where days are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CostKey {
    Agent,
    Tool,
    Day,
}

/// What one task, agent, tool or day cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CostRow {
    pub key: String,
    /// By what rows are in order, before their key: the cost, negative; 0 for days.
    pub rank: i64,
    pub cost_micro_usd: i64,
    pub calls: i64,
    pub failures: i64,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

/// The place after which costs go on: rank and key.
pub(crate) type CostCursor = (i64, String);

/// Costs by agent, tool or day: dearest first, days in order.
pub(crate) async fn cost_list(
    pool: &PgPool,
    team: &str,
    period: &Period,
    by: CostKey,
    after: Option<&CostCursor>,
    limit: i64,
) -> Result<Vec<CostRow>, Error> {
    let rows = sqlx::query_as!(
        CostRow,
        r#"SELECT key AS "key!", rank AS "rank!", cost AS "cost_micro_usd!", calls AS "calls!",
                failures AS "failures!", first_time AS "first_time!", last_time AS "last_time!"
         FROM (
             SELECT CASE WHEN $5 THEN agent_id WHEN $6 THEN tool_name ELSE to_char(day, 'YYYY-MM-DD') END AS key,
                    CASE WHEN $5 OR $6 THEN -least(sum(cost_micro_usd), 9223372036854775807)::bigint ELSE 0 END AS rank,
                    least(sum(cost_micro_usd), 9223372036854775807)::bigint AS cost, sum(calls)::bigint AS calls,
                    sum(failures)::bigint AS failures, min(first_time) AS first_time, max(last_time) AS last_time
             FROM audit.usage_day
             WHERE team_id = $1 AND day BETWEEN $2 AND $3 AND ($4::text IS NULL OR agent_id = $4) AND calls > 0
             GROUP BY 1
         ) AS g
         WHERE $7::bigint IS NULL OR (rank, key) > ($7, $8::text)
         ORDER BY rank, key
         LIMIT $9"#,
        team,
        period.start,
        period.end,
        period.agent_id,
        by == CostKey::Agent,
        by == CostKey::Tool,
        after.map(|after| after.0),
        after.map(|after| after.1.as_str()),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Costs by task, or by agent where a task is asked for, dearest first: of tasks that were active in the time, whole.
pub(crate) async fn task_cost_list(
    pool: &PgPool,
    team: &str,
    period: &Period,
    by_agent: bool,
    after: Option<&CostCursor>,
    limit: i64,
) -> Result<Vec<CostRow>, Error> {
    let rows = sqlx::query_as!(
        CostRow,
        r#"SELECT key AS "key!", rank AS "rank!", -rank AS "cost_micro_usd!", calls AS "calls!",
                failures AS "failures!", first_time AS "first_time!", last_time AS "last_time!"
         FROM (
             SELECT CASE WHEN $6 THEN agent_id ELSE task_id END AS key,
                    -least(sum(cost_micro_usd), 9223372036854775807)::bigint AS rank,
                    sum(calls)::bigint AS calls, sum(failures)::bigint AS failures,
                    min(first_time) AS first_time, max(last_time) AS last_time
             FROM audit.task_cost
             WHERE team_id = $1
               AND last_time >= $2::date::timestamp AT TIME ZONE 'UTC'
               AND first_time < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'
               AND ($4::text IS NULL OR agent_id = $4) AND ($5::text IS NULL OR task_id = $5)
             GROUP BY 1
         ) AS g
         WHERE $7::bigint IS NULL OR (rank, key) > ($7, $8::text)
         ORDER BY rank, key
         LIMIT $9"#,
        team,
        period.start,
        period.end,
        period.agent_id,
        period.task_id,
        by_agent,
        after.map(|after| after.0),
        after.map(|after| after.1.as_str()),
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// What all rows of the tasks that `task_cost_list` lists cost together.
pub(crate) async fn task_cost_sum(pool: &PgPool, team: &str, period: &Period) -> Result<i64, Error> {
    let sum = sqlx::query_scalar!(
        r#"SELECT least(coalesce(sum(cost_micro_usd), 0), 9223372036854775807)::bigint AS "sum!"
         FROM audit.task_cost
         WHERE team_id = $1
           AND last_time >= $2::date::timestamp AT TIME ZONE 'UTC'
           AND first_time < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'
           AND ($4::text IS NULL OR agent_id = $4) AND ($5::text IS NULL OR task_id = $5)"#,
        team,
        period.start,
        period.end,
        period.agent_id,
        period.task_id,
    )
    .fetch_one(pool)
    .await?;
    Ok(sum)
}
