//! Keeps the copy in memory up with the database: what other replicas learned, and the trend and the percentile of each
//! tool that was called.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ::store::Database;
use chrono::{TimeDelta, Utc};
use opentelemetry::metrics::Gauge;
use tokio_util::sync::CancellationToken;

use super::{
    memory::{Learned, ToolKey},
    trend::{Hour, WINDOW_DAYS, percentile, trend},
};
use crate::{Error, store};

/// How often the other replicas' records are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Most tools whose hours are read at once.
const TOOLS: usize = 100;
/// A tool with more rows than these is read again no sooner than after `LARGE_INTERVAL`.
const LARGE: usize = 1_000;
const LARGE_INTERVAL: Duration = Duration::from_secs(30);
/// Which percentile of the durations is kept.
const PERCENTILE: f64 = 0.95;

/// Reads all that was learned, and gives the horizon to follow from.
pub(crate) async fn start(database: &Database) -> Result<(Learned, i64), Error> {
    let learned = Learned::default();
    let horizon = read(&learned, database, 0).await?;
    Ok((learned, horizon))
}

async fn read(learned: &Learned, database: &Database, horizon: i64) -> Result<i64, Error> {
    let (next, changes) = store::learned_changed(database.pool()?, horizon).await?;
    learned.put(changes);
    Ok(next)
}

/// Follows, until told to stop.
pub(crate) async fn follow(learned: Learned, database: Database, mut horizon: i64, stop: CancellationToken) {
    let degraded = degraded();
    let mut trends = Trends::default();
    loop {
        match read(&learned, &database, horizon).await {
            Ok(next) => horizon = next,
            Err(error) => {
                tracing::warn!(%error, "what was learned cannot be read; selections use the copy in memory");
            }
        }
        if let Err(error) = trends.refresh(&learned, &database, &stop).await {
            tracing::warn!(%error, "outcomes by the hour cannot be read; trends stay as they are");
        }
        degraded.record(u64::try_from(learned.alarms()).unwrap_or(u64::MAX), &[]);
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

fn degraded() -> Gauge<u64> {
    let meter = opentelemetry::global::meter("toolcrib");
    let gauge = meter.u64_gauge("toolcrib.selector.degraded_tools");
    gauge.with_description("Tools whose alarm is on").build()
}

/// When tools with many rows were read last.
#[derive(Debug, Default)]
struct Trends {
    large: HashMap<ToolKey, Instant>,
}

impl Trends {
    /// Brings the trends of tools up to date that were called since, a few at a time.
    async fn refresh(
        &mut self,
        learned: &Learned,
        database: &Database,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.large.retain(|_, read| read.elapsed() < LARGE_INTERVAL);
        while !stop.is_cancelled() {
            let keys = learned.take_stale(TOOLS, |key| !self.large.contains_key(key));
            if keys.is_empty() {
                return Ok(());
            }
            let since = Utc::now() - TimeDelta::days(WINDOW_DAYS);
            let rows = match store::hours_read(database.pool()?, &keys, since, None).await {
                Ok(rows) => rows,
                Err(error) => {
                    learned.give_back(keys);
                    return Err(error.into());
                }
            };
            let mut hours: HashMap<ToolKey, Vec<Hour>> =
                keys.into_iter().map(|key| (key, Vec::new())).collect();
            for (key, hour) in rows {
                hours.entry(key).or_default().push(hour);
            }
            for (key, hours) in hours {
                learned.put_trend(&key, trend(&hours), percentile(&hours, PERCENTILE));
                if hours.len() > LARGE {
                    self.large.insert(key, Instant::now());
                }
            }
        }
        Ok(())
    }
}
