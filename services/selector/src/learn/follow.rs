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
    lately::lately,
    memory::{Learned, ToolKey},
};
use crate::{Error, store};

/// How often the other replicas' records are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Most tools whose hours are read at once.
const TOOLS: usize = 20;
/// Most tools whose hours are read between two readings of what other replicas learned.
const TOOLS_A_TURN: usize = 1_000;
/// A tool with more rows than these is read again no sooner than after `LARGE_INTERVAL`.
const LARGE: i64 = 1_000;
const LARGE_INTERVAL: Duration = Duration::from_secs(30);
/// What was read of a tool's hours is read again after so many minutes even if it was not called: the window moves on.
const OLD_MINUTES: i64 = 60;

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
    /// Brings the trends of tools up to date that were called since, or that are old, a few at a time. Whatever is called
    /// meanwhile has its turn next time.
    async fn refresh(
        &mut self,
        learned: &Learned,
        database: &Database,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        self.large.retain(|_, read| read.elapsed() < LARGE_INTERVAL);
        learned.outdate(Utc::now() - TimeDelta::minutes(OLD_MINUTES));
        let mut keys = learned.take_stale(TOOLS_A_TURN, |key| !self.large.contains_key(key));
        while !keys.is_empty() && !stop.is_cancelled() {
            let some = keys.split_off(keys.len().saturating_sub(TOOLS));
            if let Err(error) = self.read(learned, database, &some).await {
                learned.give_back(keys.into_iter().chain(some));
                return Err(error);
            }
        }
        Ok(())
    }

    async fn read(&mut self, learned: &Learned, database: &Database, keys: &[ToolKey]) -> Result<(), Error> {
        let read = lately(database, keys, None).await?;
        let large =
            read.iter().filter(|(.., rows)| *rows > LARGE).map(|(key, ..)| (key.clone(), Instant::now()));
        self.large.extend(large);
        learned.put_lately(read.into_iter().map(|(key, lately, _)| (key, lately)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use types::Category;

    use super::*;
    use crate::learn::{Changes, Counts, RecordRow, lately::Lately};

    fn called(number: usize) -> RecordRow {
        RecordRow {
            team_id: "t".into(),
            tool_name: format!("tool {number}"),
            agent_id: "a".into(),
            category: Category::Custom,
            counts: Counts::default(),
            changed_in: 1,
        }
    }

    async fn refresh(learned: &Learned, database: &Database) {
        Trends::default().refresh(learned, database, &CancellationToken::new()).await.unwrap();
    }

    #[tokio::test]
    async fn a_turn_ends_however_many_tools_are_called() {
        let database = testkit::database(&[crate::schema()]).await;
        let learned = Learned::default();
        learned.put(Changes { records: (0..=TOOLS_A_TURN).map(called).collect(), ..Changes::default() });
        refresh(&learned, &database).await;
        assert_eq!(learned.take_stale(usize::MAX, |_| true).len(), 1, "it has its turn after the others");
    }

    #[tokio::test]
    async fn what_was_said_of_a_tool_is_forgotten_when_its_outcomes_are_past_the_window() {
        let database = testkit::database(&[crate::schema()]).await;
        let learned = Learned::default();
        learned.put(Changes { records: vec![called(1), called(2)], ..Changes::default() });
        learned.take_stale(usize::MAX, |_| true);
        let slow = |read_time| Lately { p95_ms: Some(900.0), calls: 9.0, read_time, ..Lately::default() };
        let key = |number: usize| ("t".to_owned(), format!("tool {number}"));
        learned.put_lately([(key(1), slow(DateTime::UNIX_EPOCH)), (key(2), slow(Utc::now()))]);
        refresh(&learned, &database).await;
        let team = learned.team("t");
        assert_eq!((team["tool 1"].lately.p95_ms, team["tool 2"].lately.p95_ms), (None, Some(900.0)));
    }
}
