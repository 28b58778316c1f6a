//! How far executions were compared with the trail, what waits to be looked at again, and what was found.

use std::collections::HashMap;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::Connection;

/// How far a team is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// Executions made before this time were compared.
    pub until_time: DateTime<Utc>,
    /// Records up to this position were looked up.
    pub sequence: i64,
    /// Executions compared in all.
    pub executions: i64,
    pub reconcile_time: DateTime<Utc>,
    /// Why the last turn did not come to its end; empty: it did.
    pub failure: String,
}

/// A record as it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pub sequence: i64,
    pub execution_id: Option<Uuid>,
}

/// What the trail tells of one execution.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traces {
    /// Events that say how it ended.
    pub outcomes: i64,
    /// All events.
    pub events: i64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FindingRow {
    pub team_id: String,
    pub id: Uuid,
    pub kind: String,
    pub execution_id: Uuid,
    pub message: String,
    pub find_time: DateTime<Utc>,
    pub resolve_time: Option<DateTime<Utc>>,
}

/// Waits until no other process reconciles, or gives up at once; the lock ends with the transaction, and with the process.
pub(crate) async fn reconciliation_lock(connection: &mut Connection) -> Result<bool, Error> {
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtext('audit.reconciliation')) AS \"alone!\""
    )
    .fetch_one(connection)
    .await?;
    Ok(alone)
}

/// The teams that have a trail.
pub(crate) async fn trail_teams(pool: &PgPool) -> Result<Vec<String>, Error> {
    let teams =
        sqlx::query_scalar!("SELECT team_id FROM audit.head ORDER BY team_id").fetch_all(pool).await?;
    Ok(teams)
}

/// How far a team is; that of '' is the last turn over all.
pub(crate) async fn watermark_get(pool: &PgPool, team: &str) -> Result<Option<Watermark>, Error> {
    let row = sqlx::query_as!(
        Watermark,
        "SELECT until_time, sequence, executions, reconcile_time, failure FROM audit.reconciliation
         WHERE team_id = $1",
        team,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row)
}

/// Notes how far a team is.
pub(crate) async fn watermark_put(pool: &PgPool, team: &str, watermark: &Watermark) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.reconciliation (team_id, until_time, sequence, executions, reconcile_time, failure)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (team_id) DO UPDATE
         SET until_time = $2, sequence = $3, executions = $4, reconcile_time = $5, failure = $6",
        team,
        watermark.until_time,
        watermark.sequence,
        watermark.executions,
        watermark.reconcile_time,
        watermark.failure,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// From when on every record of a team is there: before that, what is missing was ended by its retention.
pub(crate) async fn records_kept_since(pool: &PgPool, team: &str) -> Result<Option<DateTime<Utc>>, Error> {
    let since = sqlx::query_scalar!(
        "SELECT max(kept_since) AS since FROM audit.kept_since WHERE team_id = $1",
        team,
    )
    .fetch_one(pool)
    .await?;
    Ok(since)
}

/// What the trail tells of these executions; one without an event is left out. An execution ends with exactly one event
/// of these actions that names it: `executor/events.rs`, `invoked`. No event of it is older than `floor`.
pub(crate) async fn traces_get(
    pool: &PgPool,
    team: &str,
    executions: &[Uuid],
    floor: Uuid,
) -> Result<HashMap<Uuid, Traces>, Error> {
    let rows = sqlx::query!(
        "SELECT execution_id AS \"execution_id!\", count(*) AS \"events!\",
                count(*) FILTER (WHERE action IN ('tool_invoked', 'cache_hit', 'error_occurred',
                                                  'permission_checked')) AS \"outcomes!\"
         FROM (SELECT execution_id, action FROM audit.record
               WHERE team_id = $1 AND execution_id = ANY ($2) AND id >= $3
               UNION ALL
               SELECT execution_id, action FROM audit.event
               WHERE team_id = $1 AND execution_id = ANY ($2) AND id >= $3) e
         GROUP BY execution_id",
        team,
        executions,
        floor,
    )
    .fetch_all(pool)
    .await?;
    let traces = |events, outcomes| Traces { outcomes, events };
    Ok(rows.into_iter().map(|row| (row.execution_id, traces(row.events, row.outcomes))).collect())
}

/// The next records after a position and up to another, in order.
pub(crate) async fn records_to_compare(
    pool: &PgPool,
    team: &str,
    (after, until): (i64, i64),
    limit: i64,
) -> Result<Vec<Told>, Error> {
    let rows = sqlx::query_as!(
        Told,
        "SELECT sequence, execution_id FROM audit.record
         WHERE team_id = $1 AND sequence > $2 AND sequence <= $3 ORDER BY sequence LIMIT $4",
        team,
        after,
        until,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// The position before the first record made at or after a time; `None`: there is none.
pub(crate) async fn position_before(
    pool: &PgPool,
    team: &str,
    at: DateTime<Utc>,
) -> Result<Option<i64>, Error> {
    let first = sqlx::query_scalar!(
        "SELECT min(sequence) AS first FROM audit.record WHERE team_id = $1 AND id >= audit.uuid_floor($2)",
        team,
        at,
    )
    .fetch_one(pool)
    .await?;
    Ok(first.map(|first| first - 1))
}

/// Notes executions that are to be looked at again, and gives how many of the team there are.
pub(crate) async fn unended_add(pool: &PgPool, team: &str, executions: &[Uuid]) -> Result<i64, Error> {
    if !executions.is_empty() {
        sqlx::query!(
            "INSERT INTO audit.unended (team_id, execution_id) SELECT $1, unnest($2::uuid[]) ON CONFLICT DO NOTHING",
            team,
            executions,
        )
        .execute(pool)
        .await?;
    }
    let count =
        sqlx::query_scalar!("SELECT count(*) AS \"count!\" FROM audit.unended WHERE team_id = $1", team,)
            .fetch_one(pool)
            .await?;
    Ok(count)
}

/// At most so many of those that were looked at before this, the longest ago first.
pub(crate) async fn unended_take(
    pool: &PgPool,
    team: &str,
    before: DateTime<Utc>,
    limit: i64,
) -> Result<Vec<Uuid>, Error> {
    let ids = sqlx::query_scalar!(
        "UPDATE audit.unended u SET look_time = $2
         FROM (SELECT execution_id FROM audit.unended WHERE team_id = $1 AND look_time < $2
               ORDER BY look_time LIMIT $3) t
         WHERE u.team_id = $1 AND u.execution_id = t.execution_id
         RETURNING u.execution_id",
        team,
        before,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(ids)
}

/// Forgets those that came to their end, or that are found missing.
pub(crate) async fn unended_remove(pool: &PgPool, team: &str, executions: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "DELETE FROM audit.unended WHERE team_id = $1 AND execution_id = ANY ($2)",
        team,
        executions,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Notes a finding; `None`: it stands already. One that was explained and is there again is found anew.
pub(crate) async fn finding_open(
    pool: &PgPool,
    team: &str,
    (kind, execution): (&str, Uuid),
    message: &str,
) -> Result<Option<Uuid>, Error> {
    let id = sqlx::query_scalar!(
        "INSERT INTO audit.finding AS f (team_id, id, kind, execution_id, message) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (team_id, kind, execution_id) DO UPDATE
         SET id = excluded.id, message = excluded.message, find_time = now(), resolve_time = NULL, told = false
         WHERE f.resolve_time IS NOT NULL
         RETURNING id",
        team,
        types::new_id(),
        kind,
        execution,
        message,
    )
    .fetch_optional(pool)
    .await?;
    Ok(id)
}

/// Open findings of a team after an id, in order of ids; of kinds that may be explained by what comes later.
pub(crate) async fn findings_explainable(
    pool: &PgPool,
    team: &str,
    after: Uuid,
    limit: i64,
) -> Result<Vec<FindingRow>, Error> {
    let rows = sqlx::query_as!(
        FindingRow,
        "SELECT team_id, id, kind, execution_id, message, find_time, resolve_time FROM audit.finding
         WHERE team_id = $1 AND resolve_time IS NULL AND kind <> 'OUTCOME_TWICE' AND id > $2
         ORDER BY id LIMIT $3",
        team,
        after,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Notes that findings are explained.
pub(crate) async fn findings_resolve(pool: &PgPool, team: &str, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE audit.finding SET resolve_time = now()
         WHERE team_id = $1 AND id = ANY ($2) AND resolve_time IS NULL",
        team,
        ids,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Open findings of a team, newest first, and how many there are.
pub(crate) async fn findings_list(
    pool: &PgPool,
    team: &str,
    limit: i64,
) -> Result<(Vec<FindingRow>, i64), Error> {
    let rows = sqlx::query_as!(
        FindingRow,
        "SELECT team_id, id, kind, execution_id, message, find_time, resolve_time FROM audit.finding
         WHERE team_id = $1 AND resolve_time IS NULL ORDER BY find_time DESC LIMIT $2",
        team,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let count = sqlx::query_scalar!(
        "SELECT count(*) AS \"count!\" FROM audit.finding WHERE team_id = $1 AND resolve_time IS NULL",
        team,
    )
    .fetch_one(pool)
    .await?;
    Ok((rows, count))
}

/// Findings that the trail does not tell of yet.
pub(crate) async fn findings_untold(pool: &PgPool, limit: i64) -> Result<Vec<FindingRow>, Error> {
    let rows = sqlx::query_as!(
        FindingRow,
        "SELECT team_id, id, kind, execution_id, message, find_time, resolve_time FROM audit.finding
         WHERE NOT told ORDER BY find_time LIMIT $1",
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Notes that the trail tells of them.
pub(crate) async fn findings_told(pool: &PgPool, ids: &[Uuid]) -> Result<(), Error> {
    sqlx::query!("UPDATE audit.finding SET told = true WHERE id = ANY ($1) AND NOT told", ids)
        .execute(pool)
        .await?;
    Ok(())
}
