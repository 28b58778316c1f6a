//! The SQL of retention: which months of which classification are there, what of them ends, and its end. A month is known
//! by the ids of its records. Must never take away a record that a hold is about, or one that is
//! not signed.

use std::time::Duration;

use ::store::Error;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

/// How long the end of a month waits for those that read or write the trail. Shorter than PostgreSQL's `deadlock_timeout`
/// of a second, since a writer may hold the head of a team and wait for the table: then this gives up, and not the writer.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// A month of a classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MonthRow {
    pub start: DateTime<Utc>,
    /// Whether a table of its own holds it.
    pub is_own: bool,
}

/// The records of a month and classification, by id and time.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub classification: String,
    pub from: Uuid,
    pub before: Uuid,
    /// Records of this time and later do not end, whatever their id says.
    pub until: DateTime<Utc>,
    /// Signed sizes of trees, as teams and sizes: records beyond them do not end.
    pub signed: (Vec<String>, Vec<i64>),
}

/// A record that may end.
#[derive(Debug)]
pub(crate) struct EndingRow {
    pub team_id: String,
    pub sequence: i64,
    /// Whether it stays: a hold is about it, or its own time is not over, whatever its id says, or it is not signed.
    pub is_held: bool,
    /// Whether it is under no signed checkpoint.
    pub is_unsigned: bool,
}

/// The months of a classification that begin before a time: those with tables, and those of records that stand in the
/// default one.
pub(crate) async fn months_list(
    pool: &PgPool,
    classification: &str,
    (before, before_id): (DateTime<Utc>, Uuid),
) -> Result<Vec<MonthRow>, Error> {
    let rows = sqlx::query_as!(
        MonthRow,
        r#"WITH named AS (
             SELECT c.relname::text AS name, to_timestamp(right(c.relname, 7), 'YYYY_MM')::timestamp AT TIME ZONE 'UTC' AS start
             FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'audit.record'::regclass AND c.relname ~ '^record_\d{4}_\d{2}$'
         ), stray AS (
             SELECT DISTINCT date_trunc('month', to_timestamp(
                 ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0), 'UTC') AS start
             FROM audit.record_default WHERE classification = $1 AND id < $3
         )
         SELECT start AS "start!", to_regclass('audit.' || name || '_' || $1) IS NOT NULL AS "is_own!"
         FROM named WHERE start < $2
         UNION ALL
         SELECT s.start, false FROM stray s WHERE s.start < $2 AND NOT EXISTS (SELECT FROM named n WHERE n.start = s.start)
         ORDER BY 1"#,
        classification,
        before,
        before_id,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Shows each record of a span, in order of team and position.
pub(crate) async fn records_ending(
    transaction: &mut Transaction<'_, Postgres>,
    span: &Span,
    mut show: impl FnMut(EndingRow) + Send,
) -> Result<(), Error> {
    let mut rows = sqlx::query_as!(
        EndingRow,
        r#"SELECT r.team_id, r.sequence, r.sequence > coalesce(s.size, 0) AS "is_unsigned!",
             r.event_time >= $4 OR r.sequence > coalesce(s.size, 0) OR EXISTS (
             SELECT FROM audit.hold h
             WHERE h.team_id = r.team_id AND h.release_time IS NULL
               AND (h.subject_id IS NULL OR h.subject_id = r.subject_id)
               AND (h.agent_id = '' OR h.agent_id = r.agent_id)
               AND (h.start_time IS NULL OR r.event_time >= h.start_time)
               AND (h.end_time IS NULL OR r.event_time < h.end_time)) AS "is_held!"
         FROM audit.record r
         LEFT JOIN unnest($5::text[], $6::bigint[]) AS s (team_id, size) ON s.team_id = r.team_id
         WHERE r.classification = $1 AND r.id >= $2 AND r.id < $3
         ORDER BY r.team_id, r.sequence"#,
        span.classification,
        span.from,
        span.before,
        span.until,
        &span.signed.0,
        &span.signed.1,
    )
    .fetch(&mut **transaction);
    while let Some(row) = rows.try_next().await? {
        show(row);
    }
    Ok(())
}

/// Signed sizes of all trees, as teams and sizes.
pub(crate) async fn tree_sizes(pool: &PgPool) -> Result<(Vec<String>, Vec<i64>), Error> {
    let rows = sqlx::query!("SELECT team_id, size FROM audit.tree").fetch_all(pool).await?;
    Ok(rows.into_iter().map(|row| (row.team_id, row.size)).unzip())
}

/// Keeps all other processes from ending anything until the transaction ends; `false`: another is at it.
pub(crate) async fn retention_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
) -> Result<bool, Error> {
    let alone = sqlx::query_scalar!(
        "SELECT pg_try_advisory_xact_lock(hashtextextended('toolcrib audit.retention', 0)) AS \"alone!\""
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok(alone)
}

/// Keeps holds from being placed and released until the transaction ends.
pub(crate) async fn holds_lock_in_txn(transaction: &mut Transaction<'_, Postgres>) -> Result<(), Error> {
    sqlx::query!("LOCK TABLE audit.hold IN SHARE MODE").execute(&mut **transaction).await?;
    Ok(())
}

/// Writes down which positions ended, as ranges of a first and a last one, and by which event that is told.
pub(crate) async fn ended_insert_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    ranges: &[(i64, i64)],
    event_id: Uuid,
) -> Result<(), Error> {
    for some in ranges.chunks(10_000) {
        let (first, last): (Vec<i64>, Vec<i64>) = some.iter().copied().unzip();
        sqlx::query!(
            "INSERT INTO audit.ended (team_id, first_sequence, last_sequence, event_id)
             SELECT $1, first, last, $4 FROM unnest($2::bigint[], $3::bigint[]) AS r (first, last)",
            team,
            &first,
            &last,
            event_id,
        )
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}

/// Writes down from when on a team's records of a classification are all there.
pub(crate) async fn kept_since_set_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    team: &str,
    classification: &str,
    since: DateTime<Utc>,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO audit.kept_since AS k (team_id, classification, kept_since) VALUES ($1, $2, $3)
         ON CONFLICT (team_id, classification) DO UPDATE SET kept_since = greatest(k.kept_since, excluded.kept_since)",
        team,
        classification,
        since,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Stops whoever writes to the table of a month and classification until the transaction ends; fails where that takes
/// too long to begin. Gives how many records the span has then, and the sum of their positions.
pub(crate) async fn month_lock_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    month: DateTime<Utc>,
    span: &Span,
) -> Result<(i64, i64), Error> {
    let timeout = format!("{}ms", LOCK_TIMEOUT.as_millis());
    sqlx::query!("SELECT set_config('lock_timeout', $1, true) AS set", timeout)
        .fetch_one(&mut **transaction)
        .await?;
    sqlx::query!(
        "SELECT audit.lock_record_partition($1, $2)",
        month.format("%Y_%m").to_string(),
        span.classification,
    )
    .execute(&mut **transaction)
    .await?;
    let row = sqlx::query!(
        r#"SELECT count(*) AS "count!", coalesce(sum(sequence), 0)::bigint AS "sum!"
         FROM audit.record WHERE classification = $1 AND id >= $2 AND id < $3"#,
        span.classification,
        span.from,
        span.before,
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok((row.count, row.sum))
}

/// Drops the table of a month and classification: whoever reads or writes the trail waits from here on until the
/// transaction ends. After `month_lock_in_txn`, by whose timeout it fails where that takes too long to begin.
pub(crate) async fn month_drop_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    month: DateTime<Utc>,
    classification: &str,
) -> Result<(), Error> {
    // Before the partitions, as everybody else locks them.
    sqlx::query!("LOCK TABLE ONLY audit.record IN ACCESS EXCLUSIVE MODE").execute(&mut **transaction).await?;
    sqlx::query!(
        "SELECT audit.drop_record_partition($1, $2)",
        month.format("%Y_%m").to_string(),
        classification,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Deletes what is signed and no hold is about, and gives how many records that were and the sum of their positions.
pub(crate) async fn records_delete_in_txn(
    transaction: &mut Transaction<'_, Postgres>,
    span: &Span,
) -> Result<(i64, i64), Error> {
    let row = sqlx::query!(
        r#"WITH deleted AS (
             DELETE FROM audit.record r
             USING unnest($5::text[], $6::bigint[]) AS s (team_id, size)
             WHERE s.team_id = r.team_id AND r.sequence <= s.size
               AND r.classification = $1 AND r.id >= $2 AND r.id < $3 AND r.event_time < $4
               AND NOT EXISTS (
                   SELECT FROM audit.hold h
                   WHERE h.team_id = r.team_id AND h.release_time IS NULL
                     AND (h.subject_id IS NULL OR h.subject_id = r.subject_id)
                     AND (h.agent_id = '' OR h.agent_id = r.agent_id)
                     AND (h.start_time IS NULL OR r.event_time >= h.start_time)
                     AND (h.end_time IS NULL OR r.event_time < h.end_time))
             RETURNING r.sequence
         )
         SELECT count(*) AS "count!", coalesce(sum(sequence), 0)::bigint AS "sum!" FROM deleted"#,
        span.classification,
        span.from,
        span.before,
        span.until,
        &span.signed.0,
        &span.signed.1,
    )
    .fetch_one(&mut **transaction)
    .await?;
    Ok((row.count, row.sum))
}
