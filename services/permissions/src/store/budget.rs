//! Budgets, and what is spent of them. What calls reserve and spend is written with their reservations.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgPool};

use super::agent::revision_next;

/// A team's budget, and what is used of it on one day, in micro USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Budget {
    /// 0: no budget.
    pub daily: i64,
    pub spent: i64,
    pub reserved: i64,
    /// The highest threshold in percent of which was told that it was passed; 0: none.
    pub threshold_percent: i32,
}

/// Sets a team's budget, in the transaction of what is told of it, and gives the revision from which it holds.
pub(crate) async fn budget_set(
    connection: &mut PgConnection,
    team: &str,
    daily_micro_usd: i64,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let revision = revision_next(&mut *connection, team, now).await?;
    sqlx::query!(
        "INSERT INTO permissions.budget (team_id, daily_micro_usd) VALUES ($1, $2)
         ON CONFLICT (team_id) DO UPDATE SET daily_micro_usd = $2",
        team,
        daily_micro_usd,
    )
    .execute(connection)
    .await?;
    Ok(revision)
}

/// A team's budget and what is used of it on a day.
pub(crate) async fn budget_get(pool: &PgPool, team: &str, day: NaiveDate) -> Result<Budget, Error> {
    let budget = sqlx::query_as!(
        Budget,
        "SELECT coalesce((SELECT daily_micro_usd FROM permissions.budget WHERE team_id = $1), 0)
                    AS \"daily!\",
                coalesce(sum(spent_micro_usd), 0)::bigint AS \"spent!\",
                coalesce(sum(reserved_micro_usd), 0)::bigint AS \"reserved!\",
                coalesce((SELECT max(threshold_percent) FROM permissions.budget_alert
                          WHERE team_id = $1 AND day = $2), 0) AS \"threshold_percent!\"
         FROM permissions.spend WHERE team_id = $1 AND day = $2",
        team,
        day,
    )
    .fetch_one(pool)
    .await?;
    Ok(budget)
}

/// What is reserved and what is spent on a day.
#[cfg(test)]
pub(crate) async fn spend_get(pool: &PgPool, team: &str, day: NaiveDate) -> (i64, i64) {
    let budget = budget_get(pool, team, day).await.unwrap();
    (budget.reserved, budget.spent)
}
