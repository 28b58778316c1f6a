//! Success centroids and alarms, and what is read of all that was learned. Centroids are changed under the lock of their
//! team (`teams_lock`).

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::{
    Connection,
    learn::{columns, hours_delete_expired, records_changed},
    outcomes_delete_expired,
};
use crate::learn::{Alarm, AlarmRow, Centroid, CentroidRow, Changes};

/// Days that an alarm is kept after its end, and after which one that is on ends.
const ALARM_DAYS: i32 = 30;

/// A row of a query as the domain has it; each query has a row type of its own.
macro_rules! centroid_row {
    ($row:ident) => {
        CentroidRow {
            centroid: Centroid {
                successes: $row.successes,
                sum: Centroid::sum_of(&$row.sum).unwrap_or_default(),
                weight: $row.weight,
                decay_time: $row.decay_time,
            },
            team_id: $row.team_id,
            tool_name: $row.tool_name,
            agent_id: $row.agent_id,
            model_id: $row.model_id,
            changed_in: $row.changed_in,
        }
    };
}

macro_rules! alarm_row {
    ($row:ident) => {
        AlarmRow {
            team_id: $row.team_id,
            tool_name: $row.tool_name,
            alarm: Alarm {
                start_time: $row.start_time,
                rate_before: $row.rate_before,
                rate_since: $row.rate_since,
                failure_reason: $row.failure_reason,
            },
            is_over: $row.end_time.is_some(),
            changed_in: $row.changed_in,
        }
    };
}

/// The centroids of these keys (team, tool, agent, model) that are there.
pub(crate) async fn centroids_get(
    connection: &mut Connection,
    keys: impl Iterator<Item = &[String; 4]>,
) -> Result<Vec<CentroidRow>, Error> {
    let [teams, tools, agents, models] = columns(keys.cloned());
    let rows = sqlx::query!(
        "SELECT c.team_id, c.tool_name, c.agent_id, c.model_id, c.successes, c.sum, c.weight,
             c.decay_time, c.changed_in
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
             AS k (team_id, tool_name, agent_id, model_id)
         JOIN selector.centroid c USING (team_id, tool_name, agent_id, model_id)",
        &teams,
        &tools,
        &agents,
        &models,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| centroid_row!(row)).collect())
}

/// Writes centroids, in the place of what they were.
pub(crate) async fn centroids_put(
    connection: &mut Connection,
    centroids: &[([String; 4], Centroid)],
) -> Result<Vec<CentroidRow>, Error> {
    let [teams, tools, agents, models] = columns(centroids.iter().map(|(key, _)| key.clone()));
    let successes: Vec<i64> = centroids.iter().map(|(_, centroid)| centroid.successes).collect();
    let sums: Vec<Vec<u8>> = centroids.iter().map(|(_, centroid)| centroid.to_bytes()).collect();
    let weights: Vec<f64> = centroids.iter().map(|(_, centroid)| centroid.weight).collect();
    let times: Vec<DateTime<Utc>> = centroids.iter().map(|(_, centroid)| centroid.decay_time).collect();
    let rows = sqlx::query!(
        "INSERT INTO selector.centroid AS c (
             team_id, tool_name, agent_id, model_id, successes, sum, weight, decay_time, changed_in)
         SELECT r.*, pg_current_xact_id()::text::bigint
         FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bytea[],
             $7::double precision[], $8::timestamptz[]) AS r
         ON CONFLICT (team_id, tool_name, agent_id, model_id) DO UPDATE SET
             successes = excluded.successes, sum = excluded.sum, weight = excluded.weight,
             decay_time = excluded.decay_time, changed_in = excluded.changed_in
         RETURNING c.team_id, c.tool_name, c.agent_id, c.model_id, c.successes, c.sum, c.weight,
             c.decay_time, c.changed_in",
        &teams,
        &tools,
        &agents,
        &models,
        &successes,
        &sums,
        &weights,
        &times,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().map(|row| centroid_row!(row)).collect())
}

/// How an alarm stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AlarmPut {
    pub team_id: String,
    pub tool_name: String,
    pub start_time: DateTime<Utc>,
    /// `None`: it is on.
    pub end_time: Option<DateTime<Utc>>,
    pub rate_before: f64,
    pub rate_since: f64,
}

/// Writes an alarm; its cause is the most frequent failure since it began.
pub(crate) async fn alarm_put(connection: &mut Connection, alarm: &AlarmPut) -> Result<AlarmRow, Error> {
    let row = sqlx::query!(
        "INSERT INTO selector.alarm AS a (
             team_id, tool_name, start_time, end_time, rate_before, rate_since, failure_reason, changed_in)
         VALUES ($1, $2, $3, $4, $5, $6, coalesce((
                 SELECT failure_reason FROM selector.hour
                 WHERE team_id = $1 AND tool_name = $2 AND hour >= date_trunc('hour', $3::timestamptz)
                     AND failure_reason <> ''
                 GROUP BY failure_reason ORDER BY sum(calls) DESC, failure_reason LIMIT 1), ''),
             pg_current_xact_id()::text::bigint)
         ON CONFLICT (team_id, tool_name, start_time) DO UPDATE SET
             end_time = excluded.end_time, rate_since = excluded.rate_since,
             failure_reason = excluded.failure_reason, changed_in = excluded.changed_in
         RETURNING a.team_id, a.tool_name, a.start_time, a.end_time, a.rate_before, a.rate_since,
             a.failure_reason, a.changed_in",
        &alarm.team_id,
        &alarm.tool_name,
        alarm.start_time,
        alarm.end_time,
        alarm.rate_before,
        alarm.rate_since,
    )
    .fetch_one(connection)
    .await?;
    Ok(alarm_row!(row))
}

/// All that was learned since a horizon, and the horizon to ask from next: the oldest transaction that still runs, taken
/// before the rows are read, so that none that commits late is missed.
pub(crate) async fn learned_changed(pool: &PgPool, since: i64) -> Result<(i64, Changes), Error> {
    let horizon =
        sqlx::query_scalar!(r#"SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "horizon!""#)
            .fetch_one(pool)
            .await?;
    let records = records_changed(pool, since).await?;
    let centroids = sqlx::query!(
        "SELECT team_id, tool_name, agent_id, model_id, successes, sum, weight, decay_time, changed_in
         FROM selector.centroid WHERE changed_in >= $1",
        since
    )
    .fetch_all(pool)
    .await?;
    // At the start, those that are over are no one's concern.
    let alarms = sqlx::query!(
        "SELECT team_id, tool_name, start_time, end_time, rate_before, rate_since, failure_reason,
             changed_in
         FROM selector.alarm WHERE changed_in >= $1 AND ($1 > 0 OR end_time IS NULL)",
        since
    )
    .fetch_all(pool)
    .await?;
    let centroids = centroids.into_iter().map(|row| centroid_row!(row)).collect();
    let alarms = alarms.into_iter().map(|row| alarm_row!(row)).collect();
    Ok((horizon, Changes { records, centroids, alarms }))
}

/// Deletes what is past its time. Records and centroids stay.
pub(crate) async fn learned_delete_expired(pool: &PgPool) -> Result<(), Error> {
    outcomes_delete_expired(pool).await?;
    hours_delete_expired(pool).await?;
    sqlx::query!(
        "UPDATE selector.alarm SET end_time = now(), changed_in = pg_current_xact_id()::text::bigint
         WHERE end_time IS NULL AND start_time < now() - make_interval(days => $1)",
        ALARM_DAYS
    )
    .execute(pool)
    .await?;
    sqlx::query!("DELETE FROM selector.alarm WHERE end_time < now() - make_interval(days => $1)", ALARM_DAYS)
        .execute(pool)
        .await?;
    Ok(())
}
