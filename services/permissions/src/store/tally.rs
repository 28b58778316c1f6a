//! What is used of grants: of the current hour, of the current day, and in all. Never writes.

use std::collections::HashMap;

use ::store::Error;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use sqlx::PgPool;
use uuid::Uuid;

/// Calls that count against a grant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    /// In the clock hour.
    pub hour: i64,
    /// On the day.
    pub day: i64,
    /// In all.
    pub total: i64,
}

/// The windows in which a time lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Start of the clock hour (UTC).
    pub hour: DateTime<Utc>,
    /// Start of the day (UTC).
    pub day: DateTime<Utc>,
}

impl Windows {
    /// Those of a time.
    pub(crate) fn of(at: DateTime<Utc>) -> Self {
        // Fails only for times beyond the year 2262.
        let start = |length| at.duration_trunc(length).unwrap_or(at);
        Self { hour: start(TimeDelta::hours(1)), day: start(TimeDelta::days(1)) }
    }

    /// When the next clock hour begins.
    pub(crate) fn next_hour(&self) -> DateTime<Utc> {
        self.hour + TimeDelta::hours(1)
    }

    /// When the next day begins.
    pub(crate) fn next_day(&self) -> DateTime<Utc> {
        self.day + TimeDelta::days(1)
    }
}

/// What one agent, or all agents together, used of some grants; a grant without any is left out.
pub(crate) async fn grants_used(
    pool: &PgPool,
    team: &str,
    agent: Option<&str>,
    grants: &[Uuid],
    windows: Windows,
) -> Result<HashMap<Uuid, Used>, Error> {
    let mut used: HashMap<Uuid, Used> = HashMap::new();
    if grants.is_empty() {
        return Ok(used);
    }
    let rows = sqlx::query!(
        "SELECT grant_id AS \"id!\", 'hour' AS \"period!\", sum(used)::bigint AS \"used!\"
         FROM permissions.counter
         WHERE team_id = $1 AND grant_id = ANY($3) AND ($2::text IS NULL OR agent_id = $2) AND window_start = $4
         GROUP BY 1
         UNION ALL
         SELECT counter_id, CASE WHEN window_start = $5 THEN 'day' ELSE 'total' END, sum(used)::bigint
         FROM permissions.tally
         WHERE team_id = $1 AND counter_id = ANY($3) AND ($2::text IS NULL OR agent_id = $2)
           AND window_start IN ($5, 'epoch')
         GROUP BY 1, 2",
        team,
        agent,
        grants,
        windows.hour,
        windows.day,
    )
    .fetch_all(pool)
    .await?;
    for row in rows {
        let of = used.entry(row.id).or_default();
        match row.period.as_str() {
            "hour" => of.hour = row.used,
            "day" => of.day = row.used,
            _ => of.total = row.used,
        }
    }
    Ok(used)
}
