//! What patterns of use are computed from: equal calls, where tasks stand, and which tool follows which.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgPool, types::Json};

use super::{Connection, OutcomeRow};
use crate::patterns::{Failures, Made};

/// Days that equal calls are kept.
const REPEAT_DAYS: i32 = 30;
/// Days after which a sequence that was not seen again is forgotten: what it weighs has halved nine times.
pub(crate) const TRANSITION_DAYS: i32 = 63;

/// A task of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names of the columns")]
pub(crate) struct Task {
    pub team_id: String,
    pub agent_id: String,
    pub task_id: String,
}

/// The last tool of a task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TraceRow {
    #[serde(flatten)]
    pub task: Task,
    pub tool_name: String,
    pub last_time: DateTime<Utc>,
}

/// So many steps of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct StepRow {
    pub team_id: String,
    pub from_tool: String,
    pub to_tool: String,
    pub agent_id: String,
    pub count: i64,
}

/// All steps of one kind that an agent has made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TransitionRow {
    pub team_id: String,
    pub from_tool: String,
    pub to_tool: String,
    pub agent_id: String,
    pub made: Made,
}

#[cfg(test)]
impl TransitionRow {
    /// One whose steps were all made at one time.
    pub(crate) fn new(
        team: &str,
        (from, to): (&str, &str),
        agent: &str,
        count: i64,
        time: DateTime<Utc>,
    ) -> Self {
        let made = Made { count, weight: count as f64, decay_time: time };
        let [team_id, from_tool, to_tool, agent_id] = [team, from, to, agent].map(str::to_owned);
        Self { team_id, from_tool, to_tool, agent_id, made }
    }
}

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! transition {
    ($row:ident) => {
        TransitionRow {
            team_id: $row.team_id,
            from_tool: $row.from_tool,
            to_tool: $row.to_tool,
            agent_id: $row.agent_id,
            made: Made { count: $row.count, weight: $row.weight, decay_time: $row.decay_time },
        }
    };
}

/// Counts the calls of tools without side effects that succeeded, by their arguments: no other answers are ever kept.
pub(crate) async fn repeats_add(connection: &mut Connection, outcomes: &[&OutcomeRow]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO selector.repeat AS r (
             team_id, tool_name, day, arguments_hash, calls, cached, duration_ms)
         SELECT team_id, tool_name, (event_time AT TIME ZONE 'UTC')::date, arguments_hash, count(*),
             count(*) FILTER (WHERE cached), coalesce(sum(duration_ms) FILTER (WHERE NOT cached), 0)
         FROM jsonb_to_recordset($1::jsonb) AS o (
             team_id text, tool_name text, event_time timestamptz, arguments_hash text, cached boolean,
             duration_ms double precision, effect text, succeeded boolean)
         WHERE succeeded AND arguments_hash <> '' AND effect IN ('read_only', 'idempotent')
         GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
         ON CONFLICT (team_id, tool_name, day, arguments_hash) DO UPDATE SET
             calls = r.calls + excluded.calls, cached = r.cached + excluded.cached,
             duration_ms = r.duration_ms + excluded.duration_ms",
        Json(outcomes) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Where these tasks stand; no other transaction moves them on before this one has ended. Tasks must come in order, so
/// that two calls with the same ones do not wait for each other.
pub(crate) async fn traces_lock(connection: &mut Connection, tasks: &[Task]) -> Result<Vec<TraceRow>, Error> {
    let rows = sqlx::query!(
        "SELECT t.team_id, t.agent_id, t.task_id, t.tool_name, t.last_time
         FROM selector.trace t
         JOIN jsonb_to_recordset($1::jsonb) AS r (team_id text, agent_id text, task_id text)
             USING (team_id, agent_id, task_id)
         ORDER BY t.team_id, t.agent_id, t.task_id
         FOR UPDATE OF t",
        Json(tasks) as _,
    )
    .fetch_all(connection)
    .await?;
    let trace = rows.into_iter().map(|row| TraceRow {
        task: Task { team_id: row.team_id, agent_id: row.agent_id, task_id: row.task_id },
        tool_name: row.tool_name,
        last_time: row.last_time,
    });
    Ok(trace.collect())
}

/// Notes where tasks stand, in order; what stands later already stays.
pub(crate) async fn traces_put(connection: &mut Connection, traces: &[TraceRow]) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO selector.trace AS t (team_id, agent_id, task_id, tool_name, last_time)
         SELECT team_id, agent_id, task_id, tool_name, last_time
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, agent_id text, task_id text, tool_name text, last_time timestamptz)
         ORDER BY team_id, agent_id, task_id
         ON CONFLICT (team_id, agent_id, task_id) DO UPDATE SET
             tool_name = excluded.tool_name, last_time = excluded.last_time
         WHERE t.last_time <= excluded.last_time",
        Json(traces) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds steps, in order, and gives all of their kinds as they are now.
pub(crate) async fn transitions_add(
    connection: &mut Connection,
    steps: &[StepRow],
) -> Result<Vec<TransitionRow>, Error> {
    if steps.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query!(
        "INSERT INTO selector.transition AS t (
             team_id, from_tool, to_tool, agent_id, count, weight, decay_time, changed_in)
         SELECT team_id, from_tool, to_tool, agent_id, count, count, now(), pg_current_xact_id()::text::bigint
         FROM jsonb_to_recordset($1::jsonb) AS r (
             team_id text, from_tool text, to_tool text, agent_id text, count bigint)
         ORDER BY team_id, from_tool, to_tool, agent_id
         ON CONFLICT (team_id, from_tool, to_tool, agent_id) DO UPDATE SET
             count = t.count + excluded.count,
             weight = t.weight * selector.decay(t.decay_time) + excluded.weight,
             decay_time = greatest(t.decay_time, excluded.decay_time),
             changed_in = excluded.changed_in
         RETURNING team_id, from_tool, to_tool, agent_id, count, weight, decay_time",
        Json(steps) as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| transition!(row)).collect())
}

/// Transitions written since a horizon, and the horizon to ask from next, as for the history.
pub(crate) async fn transitions_changed(
    pool: &PgPool,
    since: i64,
) -> Result<(i64, Vec<TransitionRow>), Error> {
    let horizon =
        sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "horizon!""#)
            .fetch_one(pool)
            .await?;
    let rows = sqlx::query!(
        "SELECT team_id, from_tool, to_tool, agent_id, count, weight, decay_time
         FROM selector.transition WHERE changed_in >= $1",
        since,
    )
    .fetch_all(pool)
    .await?;
    Ok((horizon, rows.into_iter().map(|row| transition!(row)).collect()))
}

/// Calls of a tool in one hour that ended alike, of all agents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HourRow {
    pub tool_name: String,
    pub hour: DateTime<Utc>,
    /// Empty: they succeeded.
    pub failure_reason: String,
    pub calls: i64,
    pub cached: i64,
}

/// A team's calls since a time.
pub(crate) async fn hours_read(
    pool: &PgPool,
    team: &str,
    since: DateTime<Utc>,
) -> Result<Vec<HourRow>, Error> {
    let rows = sqlx::query_as!(
        HourRow,
        r#"SELECT tool_name, hour, failure_reason, sum(calls)::bigint AS "calls!", sum(cached)::bigint AS "cached!"
         FROM selector.hour WHERE team_id = $1 AND hour >= $2
         GROUP BY tool_name, hour, failure_reason"#,
        team,
        since,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// A team's failures since a time, by tool, hour and reason.
pub(crate) async fn failures_read(
    pool: &PgPool,
    team: &str,
    since: DateTime<Utc>,
) -> Result<Vec<Failures>, Error> {
    let rows = sqlx::query_as!(
        Failures,
        r#"SELECT tool_name, failure_reason, hour, sum(calls - cached)::bigint AS "calls!",
             array_agg(DISTINCT agent_id) AS "agents!", min(first_time) AS "first_time!",
             max(last_time) AS "last_time!"
         FROM selector.hour
         WHERE team_id = $1 AND hour >= $2 AND failure_reason <> '' AND calls > cached
         GROUP BY tool_name, failure_reason, hour"#,
        team,
        since,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Calls of a tool that took about as long and ended alike.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DurationRow {
    pub tool_name: String,
    /// Empty: they succeeded.
    pub failure_reason: String,
    /// Of the histogram.
    pub bucket: usize,
    pub calls: i64,
}

/// The durations of a team's calls since a time.
pub(crate) async fn durations_read(
    pool: &PgPool,
    team: &str,
    since: DateTime<Utc>,
) -> Result<Vec<DurationRow>, Error> {
    let rows = sqlx::query!(
        r#"SELECT tool_name, failure_reason, place AS "place!", sum(number)::bigint AS "calls!"
         FROM selector.hour, unnest(durations) WITH ORDINALITY AS d (number, place)
         WHERE team_id = $1 AND hour >= $2 AND number > 0
         GROUP BY tool_name, failure_reason, place"#,
        team,
        since,
    )
    .fetch_all(pool)
    .await?;
    let duration = rows.into_iter().map(|row| DurationRow {
        tool_name: row.tool_name,
        failure_reason: row.failure_reason,
        bucket: usize::try_from(row.place - 1).unwrap_or(0),
        calls: row.calls,
    });
    Ok(duration.collect())
}

/// Calls of a tool by how often the same was asked on one day.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RepeatSum {
    pub tool_name: String,
    pub calls: i64,
    /// Those that came after an equal one.
    pub repeated: i64,
    /// Those that a cache answered.
    pub cached: i64,
}

/// How often a team's calls were repeated, from a day on.
pub(crate) async fn repeats_read(
    pool: &PgPool,
    team: &str,
    since: NaiveDate,
) -> Result<Vec<RepeatSum>, Error> {
    let rows = sqlx::query_as!(
        RepeatSum,
        r#"SELECT tool_name, sum(calls)::bigint AS "calls!", sum(cached)::bigint AS "cached!",
             coalesce(sum(calls - 1) FILTER (WHERE arguments_hash <> ''), 0)::bigint AS "repeated!"
         FROM selector.repeat WHERE team_id = $1 AND day >= $2 GROUP BY tool_name"#,
        team,
        since,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// An alarm that is on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlarmRow {
    pub tool_name: String,
    pub start_time: DateTime<Utc>,
    pub rate_before: f64,
    pub rate_since: f64,
    pub failure_reason: String,
}

/// A team's alarms that are on, by tool.
pub(crate) async fn alarms_on(pool: &PgPool, team: &str) -> Result<Vec<AlarmRow>, Error> {
    let rows = sqlx::query_as!(
        AlarmRow,
        "SELECT tool_name, start_time, rate_before, rate_since, failure_reason
         FROM selector.alarm WHERE team_id = $1 AND end_time IS NULL ORDER BY tool_name",
        team,
    );
    Ok(rows.fetch_all(pool).await?)
}

/// Deletes what is past its time. Of past days, the calls that no other was equal to become one row a tool: they are
/// many, and only their number counts.
pub(crate) async fn patterns_delete_expired(pool: &PgPool) -> Result<(), Error> {
    sqlx::query!("DELETE FROM selector.trace WHERE last_time < now() - interval '1 day'")
        .execute(pool)
        .await?;
    sqlx::query!(
        "DELETE FROM selector.transition WHERE decay_time < now() - make_interval(days => $1)",
        TRANSITION_DAYS
    )
    .execute(pool)
    .await?;
    sqlx::query!("DELETE FROM selector.repeat WHERE day < current_date - $1::integer", REPEAT_DAYS)
        .execute(pool)
        .await?;
    sqlx::query!(
        "WITH single AS (
             DELETE FROM selector.repeat
             WHERE day < (now() AT TIME ZONE 'UTC')::date - 1 AND calls = 1 AND arguments_hash <> ''
             RETURNING team_id, tool_name, day, calls, cached, duration_ms
         )
         INSERT INTO selector.repeat AS r (team_id, tool_name, day, arguments_hash, calls, cached, duration_ms)
         SELECT team_id, tool_name, day, '', sum(calls), sum(cached), sum(duration_ms)
         FROM single GROUP BY team_id, tool_name, day
         ON CONFLICT (team_id, tool_name, day, arguments_hash) DO UPDATE SET
             calls = r.calls + excluded.calls, cached = r.cached + excluded.cached,
             duration_ms = r.duration_ms + excluded.duration_ms"
    )
    .execute(pool)
    .await?;
    Ok(())
}
