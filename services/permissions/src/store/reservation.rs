//! Places in counters and parts of budgets, taken for many calls in one statement. It is whole or
//! nothing, and the ledger's connection does not wait until it reaches the disk: it survives the death of
//! any process of the suite, and the last fraction of a second is lost only when the database itself
//! crashes.

use ::store::Error;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{PgConnection, PgPool, types::Json};
use uuid::Uuid;

use super::Used;

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
    /// Places of the counter of the hour; 0: no counter.
    pub quota_limit: i64,
    /// Start of the day in which the hour lies.
    pub day_start: DateTime<Utc>,
    /// Places on the day; 0: no counter.
    pub day_limit: i64,
    /// Places in all; 0: no counter.
    pub total_limit: i64,
    /// The approval for one call that it takes; it has one place.
    pub approval_id: Option<Uuid>,
    pub expire_time: DateTime<Utc>,
    /// Day of the budget; `None`: no budget.
    pub day: Option<NaiveDate>,
    pub cost_micro_usd: i64,
    /// Of the whole day, in micro USD.
    pub budget_limit: i64,
}

impl NewReservation {
    /// The counters of which it takes a place, each with the places that it has: of the hour, of the day, in all, and
    /// of an approval.
    pub(crate) fn counters(&self) -> [Option<(Counter<'_>, i64)>; 4] {
        let of = |id: Uuid, window_start, most: i64| {
            (most > 0).then_some(((self.team_id.as_str(), id, self.agent_id.as_str(), window_start), most))
        };
        let (grant, always) = (self.grant_id, DateTime::UNIX_EPOCH);
        [
            of(grant, self.window_start, self.quota_limit),
            of(grant, self.day_start, self.day_limit),
            of(grant, always, self.total_limit),
            self.approval_id.and_then(|approval| of(approval, always, 1)),
        ]
    }
}

/// Team, grant or approval, agent and window of a counter; of two kinds, two counters may have the same.
pub(crate) type Counter<'a> = (&'a str, Uuid, &'a str, DateTime<Utc>);

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
    pub used: Used,
    pub quota_limit: i64,
    pub day_limit: i64,
    pub total_limit: i64,
    pub approval_id: Option<Uuid>,
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
    /// Places taken before the batch of each of `NewReservation::counters`; `None` when it is not there yet.
    pub before: [Option<i64>; 4],
    /// Places taken, this one included, when granted.
    pub used: Used,
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
                used: Used { hour: row.held_used?, day: row.held_day_used?, total: row.held_total_used? },
                quota_limit: row.held_limit?,
                day_limit: row.held_day_limit?,
                total_limit: row.held_total_limit?,
                approval_id: row.held_approval,
                day: row.held_day,
                budget_limit: row.held_budget_limit?,
                budget_used: row.held_budget_used?,
            })
        };
        TakeRow {
            granted: row.granted,
            before: [row.counter_used, row.day_before, row.total_before, row.approval_before],
            used: Used {
                hour: row.used.unwrap_or(0),
                day: row.day_used.unwrap_or(0),
                total: row.total_used.unwrap_or(0),
            },
            budget_before: row.budget_before,
            budget_used: row.budget_used.unwrap_or(0),
            held: held(),
        }
    });
    Ok(answers.collect())
}

/// What an execution holds with an approval for one call that is not revoked, if it does. A place that is not settled yet
/// is kept until this time at least.
pub(crate) async fn approved_hold(
    pool: &PgPool,
    team: &str,
    execution: Uuid,
    until: DateTime<Utc>,
) -> Result<Option<Held>, Error> {
    let row = sqlx::query!(
        "UPDATE permissions.reservation r
         SET expire_time = CASE WHEN state = 'reserved' THEN greatest(expire_time, $3) ELSE expire_time END
         WHERE team_id = $1 AND execution_id = $2 AND state IN ('reserved', 'committed')
           AND approval_id IS NOT NULL AND NOT EXISTS (
               SELECT FROM permissions.access_request a
               WHERE a.team_id = $1 AND a.request_id = r.approval_id AND a.state = 'revoked')
         RETURNING decision_id, grant_id, agent_id, window_start, tool_name, tool_digest, arguments_digest, used,
                   quota_limit, day_used, day_limit, total_used, total_limit, approval_id, day, budget_limit,
                   budget_used",
        team,
        execution,
        until,
    )
    .fetch_optional(pool)
    .await?;
    Ok(row.map(|row| Held {
        decision_id: row.decision_id,
        grant_id: row.grant_id,
        agent_id: row.agent_id,
        window_start: row.window_start,
        tool_name: row.tool_name,
        tool_digest: row.tool_digest,
        arguments_digest: row.arguments_digest,
        used: Used { hour: row.used, day: row.day_used, total: row.total_used },
        quota_limit: row.quota_limit,
        day_limit: row.day_limit,
        total_limit: row.total_limit,
        approval_id: row.approval_id,
        day: row.day,
        budget_limit: row.budget_limit,
        budget_used: row.budget_used,
    }))
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
                 day_start timestamptz, day_limit bigint, total_limit bigint, approval_id uuid, day date)
         ), counters AS (
             INSERT INTO permissions.counter (team_id, grant_id, agent_id, window_start, used)
             SELECT DISTINCT team_id, grant_id, agent_id, window_start, 0 FROM asked WHERE quota_limit > 0
             ORDER BY 1, 2, 3, 4
             ON CONFLICT DO NOTHING
         ), tallies AS (
             INSERT INTO permissions.tally (team_id, counter_id, agent_id, window_start, used)
             SELECT DISTINCT a.team_id, w.counter_id, a.agent_id, w.window_start, 0
             FROM asked a
             CROSS JOIN LATERAL (VALUES
                 (a.grant_id, a.day_start, a.day_limit > 0),
                 (a.grant_id, 'epoch'::timestamptz, a.total_limit > 0),
                 (a.approval_id, 'epoch'::timestamptz, a.approval_id IS NOT NULL)
             ) AS w(counter_id, window_start, is_there)
             WHERE w.is_there
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
pub(crate) async fn counter_get(pool: &PgPool, team: &str, grant: Uuid, window: DateTime<Utc>) -> i64 {
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
