//! Thresholds of budgets that were passed. A row is added once; whoever adds it tells of it in the same transaction.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool};

/// What a team had spent or reserved on a day, in micro USD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spending {
    pub team_id: String,
    pub day: NaiveDate,
    pub used: i64,
    /// Of the whole day.
    pub limit: i64,
}

/// A threshold that was passed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alert {
    pub team_id: String,
    pub day: NaiveDate,
    pub threshold_percent: i32,
    pub used: i64,
    pub limit: i64,
}

/// What teams have used of their budgets from a day on, where half of one is gone and not every threshold is told.
pub(crate) async fn spending_list(pool: &PgPool, since: NaiveDate) -> Result<Vec<Spending>, Error> {
    let rows = sqlx::query_as!(
        Spending,
        r#"SELECT s.team_id, s.day, s.reserved_micro_usd + s.spent_micro_usd AS "used!", b.daily_micro_usd AS "limit"
         FROM permissions.spend s JOIN permissions.budget b ON b.team_id = s.team_id
         WHERE s.day >= $1 AND b.daily_micro_usd > 0
           AND s.reserved_micro_usd + s.spent_micro_usd >= (b.daily_micro_usd + 1) / 2
           AND NOT EXISTS (
               SELECT FROM permissions.budget_alert a
               WHERE a.team_id = s.team_id AND a.day = s.day AND a.threshold_percent = 100)"#,
        since,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Adds those that are not there yet, and gives them.
pub(crate) async fn budget_alerts_insert(
    connection: &mut PgConnection,
    alerts: &[Alert],
    now: DateTime<Utc>,
) -> Result<Vec<Alert>, Error> {
    let teams: Vec<&str> = alerts.iter().map(|alert| alert.team_id.as_str()).collect();
    let days: Vec<NaiveDate> = alerts.iter().map(|alert| alert.day).collect();
    let thresholds: Vec<i32> = alerts.iter().map(|alert| alert.threshold_percent).collect();
    let used: Vec<i64> = alerts.iter().map(|alert| alert.used).collect();
    let limits: Vec<i64> = alerts.iter().map(|alert| alert.limit).collect();
    let rows = sqlx::query_as!(
        Alert,
        r#"INSERT INTO permissions.budget_alert
             (team_id, day, threshold_percent, used_micro_usd, limit_micro_usd, create_time)
         SELECT team_id, day, threshold_percent, used, most, $6
         FROM unnest($1::text[], $2::date[], $3::integer[], $4::bigint[], $5::bigint[])
             AS a (team_id, day, threshold_percent, used, most)
         ORDER BY 1, 2, 3
         ON CONFLICT DO NOTHING
         RETURNING team_id, day, threshold_percent, used_micro_usd AS used, limit_micro_usd AS "limit""#,
        &teams as _,
        &days,
        &thresholds,
        &used,
        &limits,
        now,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
