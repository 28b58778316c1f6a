//! The SQL of reports: which records a report must have, how many, and whether any is missing. What selects a record
//! here must be what `trail::report::Query` says, or no report could be shown to be complete.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::{FindingRow, RecordRow};

/// Which records of a team.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    /// Positions after this one.
    pub after: i64,
    /// The last position.
    pub until: i64,
    pub start: DateTime<Utc>,
    pub end: DateTime<Utc>,
    /// `None`: all.
    pub actions: Option<Vec<String>>,
    /// Also whatever did not succeed.
    pub failures: bool,
    /// Of tools only.
    pub with_tool: bool,
    /// `None`: of whomever.
    pub subjects: Option<Vec<Uuid>>,
}

/// What the records of a tool and a classification have in common.
#[derive(Debug, Clone)]
pub(crate) struct GroupRow {
    pub tool_name: String,
    pub classification: String,
    pub records: i64,
    /// At most 20.
    pub tool_versions: Vec<String>,
    /// At most 20.
    pub agents: Vec<String>,
    /// At most 20.
    pub tasks: Vec<String>,
    pub task_count: i64,
    pub subject_count: i64,
    pub first_time: DateTime<Utc>,
    pub last_time: DateTime<Utc>,
}

macro_rules! selected {
    ($kind:ty, $before:tt, $behind:tt, $team:ident, $selection:ident $(, $more:expr)*) => {
        sqlx::query_as!(
            $kind,
            $before
                + r#" FROM audit.record
                 WHERE team_id = $1 AND sequence > $2 AND sequence <= $3
                   AND event_time >= $4 AND event_time < $5
                   AND ($6::text[] IS NULL OR action = ANY($6) OR ($7 AND result <> 'success'))
                   AND (NOT $8 OR tool_name <> '')
                   AND ($9::uuid[] IS NULL OR subject_id = ANY($9)) "#
                + $behind,
            $team,
            $selection.after,
            $selection.until,
            $selection.start,
            $selection.end,
            $selection.actions.as_deref(),
            $selection.failures,
            $selection.with_tool,
            $selection.subjects.as_deref(),
            $($more,)*
        )
    };
}

/// The next records, in order of position.
pub(crate) async fn report_records(
    pool: &PgPool,
    team: &str,
    selection: &Selection,
    limit: i64,
) -> Result<Vec<RecordRow>, Error> {
    let rows = selected!(
        RecordRow,
        r#"SELECT team_id, id, classification, sequence, event_time, action, result, agent_id, tool_name,
                tool_version, tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd,
                decision_id, intent_time, subject_id, payload_hmac, payload"#,
        "ORDER BY sequence LIMIT $10",
        team,
        selection,
        limit
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

struct Count {
    count: i64,
}

/// How many records there are.
pub(crate) async fn report_count(pool: &PgPool, team: &str, selection: &Selection) -> Result<i64, Error> {
    let row = selected!(Count, r#"SELECT count(*) AS "count!""#, "", team, selection).fetch_one(pool).await?;
    Ok(row.count)
}

/// The records by tool and classification.
pub(crate) async fn report_groups(
    pool: &PgPool,
    team: &str,
    selection: &Selection,
) -> Result<Vec<GroupRow>, Error> {
    let rows = selected!(
        GroupRow,
        r#"SELECT tool_name, classification, count(*) AS "records!",
                coalesce((array_agg(DISTINCT tool_version))[1:20], '{}') AS "tool_versions!",
                coalesce((array_agg(DISTINCT agent_id))[1:20], '{}') AS "agents!",
                coalesce((array_agg(DISTINCT task_id) FILTER (WHERE task_id <> ''))[1:20], '{}') AS "tasks!",
                count(DISTINCT task_id) FILTER (WHERE task_id <> '') AS "task_count!",
                count(DISTINCT subject_id) AS "subject_count!",
                min(event_time) AS "first_time!", max(event_time) AS "last_time!""#,
        "GROUP BY tool_name, classification ORDER BY tool_name, classification",
        team,
        selection
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Erasures of a team by id.
pub(crate) async fn erasures_get(
    pool: &PgPool,
    team: &str,
    ids: &[Uuid],
) -> Result<Vec<super::ErasureRow>, Error> {
    let rows = sqlx::query_as!(
        super::ErasureRow,
        r#"SELECT id, subject_id, sealed_user, user_digest, reason, agent_id, request_id, request_time,
                parts AS "parts: super::Parts", done_time, certificate
         FROM audit.erasure WHERE team_id = $1 AND id = ANY($2)"#,
        team,
        ids,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The positions that are there, of those after one and up to another, in order.
pub(crate) async fn positions_there(
    pool: &PgPool,
    team: &str,
    (after, until): (i64, i64),
) -> Result<Vec<i64>, Error> {
    let rows = sqlx::query_scalar!(
        "SELECT sequence FROM audit.record WHERE team_id = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence",
        team,
        after,
        until,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Whether something that happened before a time is not under the checkpoint of this size.
pub(crate) async fn is_unsigned_before(
    pool: &PgPool,
    team: &str,
    size: i64,
    end: DateTime<Utc>,
) -> Result<bool, Error> {
    let there = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM audit.record WHERE team_id = $1 AND sequence > $2 AND event_time < $3)
              OR EXISTS (SELECT FROM audit.event WHERE team_id = $1 AND event_time < $3) AS "there!""#,
        team,
        size,
        end,
    )
    .fetch_one(pool)
    .await?;
    Ok(there)
}

/// Open findings of executions without their outcome, of executions with these ids; at most so many.
pub(crate) async fn outcomes_missing(
    pool: &PgPool,
    team: &str,
    (from, before): (Uuid, Uuid),
    limit: i64,
) -> Result<Vec<FindingRow>, Error> {
    let rows = sqlx::query_as!(
        FindingRow,
        "SELECT team_id, id, kind, execution_id, message, find_time, resolve_time FROM audit.finding
         WHERE team_id = $1 AND resolve_time IS NULL AND kind = 'OUTCOME_MISSING'
           AND execution_id >= $2 AND execution_id < $3
         ORDER BY execution_id LIMIT $4",
        team,
        from,
        before,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
