//! Places in counters and parts of budgets, taken for many calls in one statement. It is whole or
//! nothing, and the ledger's connection does not wait until it reaches the disk: it survives the death of
//! any process of the suite, and the last fraction of a second is lost only when the database itself
//! crashes.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

/// A place to take in a counter, a cost to reserve in a budget, or both.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NewReservation {
    pub team_id: String,
    pub decision_id: Uuid,
    pub execution_id: Uuid,
    pub grant_id: Uuid,
    pub agent_id: String,
    pub window_start: DateTime<Utc>,
    pub tool_name: String,
    pub tool_digest: String,
    pub arguments_digest: String,
    /// Places of the counter; 0: no counter.
    pub quota_limit: i64,
    pub expire_time: DateTime<Utc>,
    /// Day of the budget; `None`: no budget.
    pub day: Option<NaiveDate>,
    pub cost_micro_usd: i64,
    /// Of the whole day, in micro USD.
    pub budget_limit: i64,
}

/// What an execution holds, or what it just took.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub decision_id: Uuid,
    pub grant_id: Uuid,
    pub agent_id: String,
    pub window_start: DateTime<Utc>,
    pub tool_name: String,
    pub tool_digest: String,
    pub arguments_digest: String,
    /// Places taken when this one was, itself included.
    pub used: i64,
    pub quota_limit: i64,
    pub day: Option<NaiveDate>,
    pub budget_limit: i64,
    /// Micro USD spent or reserved when this was, itself included.
    pub budget_used: i64,
}

/// What became of one call of a batch. Of the counter and the budget, it tells what the statement found.
#[derive(Debug, Clone)]
pub(crate) struct TakeRow {
    /// What the execution held already; then nothing was taken for it.
    pub held: Option<Held>,
    /// Whether it got all it asked for.
    pub granted: bool,
    /// Places taken before the batch; `None` when the counter is not there yet.
    pub counter_used: Option<i64>,
    /// Places taken, this one included, when granted.
    pub used: i64,
    /// Micro USD spent or reserved before the batch; `None` when the day is not there yet.
    pub budget_before: Option<i64>,
    /// Micro USD spent or reserved, this cost included, when granted.
    pub budget_used: i64,
}

/// Takes what a batch of calls of different executions asks for, each all or nothing, in the order of the
/// batch, and answers in that order. A call that would fit only without one before it may be left out too:
/// whoever asks must then ask again for it. What an execution holds is kept for as long as is asked now.
/// A conflict means that another process took a place for one of the executions; then nothing is taken.
pub(crate) async fn reservations_insert(
    connection: &mut PgConnection,
    batch: &[&NewReservation],
) -> Result<Vec<TakeRow>, Error> {
    let rows = sqlx::query_file!("src/store/reservations_insert.sql", Json(batch) as _,)
        .fetch_all(connection)
        .await?;
    let answers = rows.into_iter().map(|row| {
        let held = || {
            Some(Held {
                decision_id: row.held_id?,
                grant_id: row.held_grant?,
                agent_id: row.held_agent?,
                window_start: row.held_window?,
                tool_name: row.held_tool?,
                tool_digest: row.held_tool_digest?,
                arguments_digest: row.held_arguments_digest?,
                used: row.held_used?,
                quota_limit: row.held_limit?,
                day: row.held_day,
                budget_limit: row.held_budget_limit?,
                budget_used: row.held_budget_used?,
            })
        };
        TakeRow {
            granted: row.granted,
            counter_used: row.counter_used,
            used: row.used.unwrap_or(0),
            budget_before: row.budget_before,
            budget_used: row.budget_used.unwrap_or(0),
            held: held(),
        }
    });
    Ok(answers.collect())
}

/// Makes the counters and days that calls ask for and that are not there yet.
pub(crate) async fn counters_make(
    connection: &mut PgConnection,
    batch: &[&NewReservation],
) -> Result<(), Error> {
    sqlx::query!(
        "WITH asked AS (
             SELECT * FROM jsonb_to_recordset($1::jsonb) AS a(
                 team_id text, grant_id uuid, agent_id text, window_start timestamptz, quota_limit bigint,
                 day date)
         ), counters AS (
             INSERT INTO permissions.counter (team_id, grant_id, agent_id, window_start, used)
             SELECT DISTINCT team_id, grant_id, agent_id, window_start, 0 FROM asked WHERE quota_limit > 0
             ORDER BY 1, 2, 3, 4
             ON CONFLICT DO NOTHING
         )
         INSERT INTO permissions.spend (team_id, day)
         SELECT DISTINCT team_id, day FROM asked WHERE day IS NOT NULL ORDER BY 1, 2
         ON CONFLICT DO NOTHING",
        Json(batch) as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Places taken in a window.
#[cfg(test)]
pub(crate) async fn counter_get(pool: &sqlx::PgPool, team: &str, grant: Uuid, window: DateTime<Utc>) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(sum(used), 0)::bigint FROM permissions.counter
         WHERE team_id = $1 AND grant_id = $2 AND window_start = $3",
    )
    .bind(team)
    .bind(grant)
    .bind(window)
    .fetch_one(pool)
    .await
    .unwrap()
}
