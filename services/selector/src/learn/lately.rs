//! What a tool's outcomes of the last days say of it: which way it goes, and how long its slow calls take. Read by the
//! hour from the table; must never fetch a row of it for each agent and hour.

use std::collections::HashMap;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    memory::ToolKey,
    pool::pool_durations,
    trend::{BUCKETS, Direction, Hour, Trend, WINDOW_DAYS, percentile, trend},
};
use crate::{Error, store};

/// Which percentile of the durations is kept.
const PERCENTILE: f64 = 0.95;

/// What was read of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lately {
    pub trend: Trend,
    /// 95th percentile of the durations in milliseconds; `None` without calls in the window. No agent's calls count
    /// more than they do for the ranking.
    pub p95_ms: Option<f64>,
    /// Calls that it rests on.
    pub calls: f64,
    pub read_time: DateTime<Utc>,
}

impl Lately {
    /// Whether it says anything.
    pub(crate) fn is_known(&self) -> bool {
        self.p95_ms.is_some() || self.trend.direction != Direction::Unknown
    }
}

/// Reads what is said of some tools, by all agents or one, each with how many rows of the table it rests on.
pub(crate) async fn lately(
    database: &Database,
    keys: &[ToolKey],
    agent: Option<&str>,
) -> Result<Vec<(ToolKey, Lately, i64)>, Error> {
    let (pool, now) = (database.pool()?, Utc::now());
    let since = now - TimeDelta::days(WINDOW_DAYS);
    let mut hours: HashMap<ToolKey, (Vec<Hour>, i64)> = HashMap::new();
    for (key, hour, rows) in store::hours_read(pool, keys, since, agent).await? {
        let of = hours.entry(key).or_default();
        of.0.push(hour);
        of.1 += rows;
    }
    let mut durations: HashMap<ToolKey, HashMap<String, [f64; BUCKETS]>> = HashMap::new();
    for row in store::durations_read(pool, keys, since, agent).await? {
        let of = durations.entry(row.key).or_default().entry(row.agent_id).or_insert([0.0; BUCKETS]);
        of[row.bucket.min(BUCKETS - 1)] += row.calls as f64;
    }
    let tell = |key: &ToolKey| {
        let (hours, rows) = hours.remove(key).unwrap_or_default();
        let durations =
            pool_durations(&durations.remove(key).unwrap_or_default().into_values().collect::<Vec<_>>());
        let lately = Lately {
            trend: trend(&hours),
            p95_ms: percentile(&durations, PERCENTILE),
            calls: durations.iter().sum(),
            read_time: now,
        };
        (key.clone(), lately, rows)
    };
    Ok(keys.iter().map(tell).collect())
}
