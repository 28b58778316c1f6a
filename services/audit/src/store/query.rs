//! The SQL of reading the trail. Every statement walks one index over one stretch of ids, and looks at a bounded number
//! of records whatever it finds: ids are UUIDv7 (RFC 9562), so a stretch of ids is one of time, and at most one month's
//! partitions are in it.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::RecordRow;

/// What a query asks for; `None` matches all.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Filter {
    pub agent_id: Option<String>,
    pub tool_name: Option<String>,
    pub task_id: Option<String>,
    pub execution_id: Option<Uuid>,
    pub action: Option<String>,
    pub result: Option<String>,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
    pub user: Option<String>,
    pub classification: Option<String>,
    pub subject_id: Option<Uuid>,
}

/// What was looked at, and what of it fits.
#[derive(Debug)]
pub(crate) struct Looked {
    pub count: i64,
    /// The last one, the lowest id; `None`: there was nothing.
    pub last: Option<Uuid>,
    /// Those that fit, newest first, as many as were asked for.
    pub ids: Vec<Uuid>,
}

/// How much a look may look at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The lowest id.
    pub from: Uuid,
    /// Behind the highest.
    pub before: Uuid,
    /// Most records.
    pub look: i64,
    /// Most that are given.
    pub give: i64,
}

/// Begins to read: every statement is planned anew, for the stretch that it asks for alone.
pub(crate) async fn begin_reading(pool: &PgPool) -> Result<Transaction<'static, Postgres>, Error> {
    let mut transaction = pool.begin().await?;
    plan_anew_in_txn(&mut transaction).await?;
    Ok(transaction)
}

/// Has every statement planned anew until the transaction ends.
pub(crate) async fn plan_anew_in_txn(transaction: &mut Transaction<'_, Postgres>) -> Result<(), Error> {
    sqlx::query!("SELECT set_config('plan_cache_mode', 'force_custom_plan', true) AS planned")
        .fetch_one(&mut **transaction)
        .await?;
    Ok(())
}

/// The statement that walks one index, over the records of one value: by the order that only such indexes have, so that the
/// planner takes that one, whatever it believes of how common the value is. A wrong belief could make it read millions of
/// records in search of one.
macro_rules! walk {
    ($transaction:ident, $team:ident, $filter:ident, $bounds:ident, $index:tt) => {
        sqlx::query_as!(
            Looked,
            r#"WITH looked AS (
                 SELECT id, ($4::text IS NULL OR agent_id = $4) AND ($5::text IS NULL OR tool_name = $5)
                        AND ($6::text IS NULL OR task_id = $6) AND ($7::uuid IS NULL OR execution_id = $7)
                        AND ($8::uuid IS NULL OR subject_id = $8) AND ($9::text IS NULL OR action = $9)
                        AND ($10::text IS NULL OR result = $10)
                        AND ($12::timestamptz IS NULL OR event_time >= $12)
                        AND ($13::timestamptz IS NULL OR event_time < $13) AS fits
                 FROM audit.record
                 WHERE team_id = $1 AND id >= $2 AND id < $3 AND ($11::text IS NULL OR classification = $11) "#
                + $index
                + r#" LIMIT $14
             )
             SELECT (SELECT count(*) FROM looked) AS "count!",
                    (SELECT id FROM looked ORDER BY id LIMIT 1) AS "last?",
                    ARRAY(SELECT id FROM looked WHERE fits ORDER BY id DESC LIMIT $15) AS "ids!""#,
            $team,
            $bounds.from,
            $bounds.before,
            $filter.agent_id,
            $filter.tool_name,
            $filter.task_id,
            $filter.execution_id,
            $filter.subject_id,
            $filter.action,
            $filter.result,
            $filter.classification,
            $filter.start_time,
            $filter.end_time,
            $bounds.look,
            $bounds.give,
        )
        .fetch_one(&mut **$transaction)
        .await
    };
}

/// Looks through a stretch of a team's records, newest first, by the index that leaves the fewest.
pub(crate) async fn records_look(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    filter: &Filter,
    bounds: Bounds,
) -> Result<Looked, Error> {
    let is_rare =
        |value: &Option<String>, common: &str| value.as_deref().is_some_and(|value| value != common);
    let looked = if filter.execution_id.is_some() {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND execution_id = $7 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if filter.task_id.is_some() {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND task_id <> '' AND task_id = $6 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if filter.subject_id.is_some() {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND subject_id = $8 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if is_rare(&filter.action, "tool_invoked") {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND action <> 'tool_invoked' AND action = $9 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if is_rare(&filter.result, "success") {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND result <> 'success' AND result = $10 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if filter.agent_id.is_some() {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND agent_id = $4 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else if filter.tool_name.is_some() {
        walk!(
            transaction,
            team,
            filter,
            bounds,
            "AND tool_name = $5 AND uuid_send(id) >= uuid_send($2) AND uuid_send(id) < uuid_send($3)
             ORDER BY uuid_send(id) DESC"
        )
    } else {
        walk!(transaction, team, filter, bounds, "ORDER BY id DESC")
    };
    Ok(looked?)
}

/// Records of a team by id, newest first; all ids are of one stretch.
pub(crate) async fn records_get(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    ids: &[Uuid],
    (from, before): (Uuid, Uuid),
) -> Result<Vec<RecordRow>, Error> {
    let rows = sqlx::query_as!(
        RecordRow,
        "SELECT team_id, id, classification, sequence, event_time, action, result, agent_id, tool_name,
                tool_version, tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd,
                decision_id, intent_time, subject_id, payload_hmac, payload
         FROM audit.record
         WHERE team_id = $1 AND id = ANY($2) AND id >= $3 AND id < $4
         ORDER BY id DESC",
        team,
        ids,
        from,
        before,
    )
    .fetch_all(&mut **transaction)
    .await?;
    Ok(rows)
}

/// The first ids of the months that have partitions of their own, newest first.
pub(crate) async fn record_months(pool: &PgPool) -> Result<Vec<Uuid>, Error> {
    let months = sqlx::query_scalar!(
        r#"SELECT audit.uuid_floor(to_timestamp(right(c.relname, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC') AS "month!"
         FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'audit.record'::regclass AND c.relname ~ '^record_\d{4}_\d{2}$'
         ORDER BY 1 DESC"#
    )
    .fetch_all(pool)
    .await?;
    Ok(months)
}

/// From when on records are kept, by classification, where some have come to the end of their retention.
pub(crate) async fn kept_since_list(
    pool: &PgPool,
    team: &str,
) -> Result<Vec<(String, DateTime<Utc>)>, Error> {
    let rows =
        sqlx::query!("SELECT classification, kept_since FROM audit.kept_since WHERE team_id = $1", team)
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().map(|row| (row.classification, row.kept_since)).collect())
}

/// How far the records of teams go without a gap that is still to be filled: up to their newest positions, or before the
/// first event that an older version wrote and that waits to be moved. What the tree covers is never moved.
pub(crate) async fn ends_get(pool: &PgPool, teams: &[String]) -> Result<Vec<(String, i64)>, Error> {
    let rows = sqlx::query!(
        "SELECT h.team_id AS \"team_id!\", coalesce(
             (SELECT min(e.sequence) - 1 FROM audit.event e
              WHERE e.team_id = h.team_id AND e.sequence > coalesce(t.size, 0)),
             h.sequence) AS \"until!\"
         FROM audit.head h LEFT JOIN audit.tree t ON t.team_id = h.team_id
         WHERE h.team_id = ANY($1)",
        teams,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.until)).collect())
}

/// Records of a team after a position and up to another, oldest first.
pub(crate) async fn records_after(
    pool: &PgPool,
    team: &str,
    (after, until): (i64, i64),
    limit: i64,
) -> Result<Vec<RecordRow>, Error> {
    let rows = sqlx::query_as!(
        RecordRow,
        "SELECT team_id, id, classification, sequence, event_time, action, result, agent_id, tool_name,
                tool_version, tool_digest, execution_id, task_id, trace_id, reason, duration_us, cost_micro_usd,
                decision_id, intent_time, subject_id, payload_hmac, payload
         FROM audit.record
         WHERE team_id = $1 AND sequence > $2 AND sequence <= $3
         ORDER BY sequence
         LIMIT $4",
        team,
        after,
        until,
        limit,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}
