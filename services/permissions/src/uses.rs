//! When keys were last used, by the minute: kept in memory and written a few seconds later, each at most once a minute.
//! Must never be in the way of who presents a key; what is lost with a process is no harm.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;
use types::Caller;

use crate::{Error, store};

/// How often what is new is written.
const TICK: Duration = Duration::from_secs(5);
/// Most keys that are remembered; uses of others are not.
const MAX: usize = 100_000;
/// Most keys in one statement.
const BATCH: usize = 1_000;

/// The uses of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Uses(Mutex<HashMap<(String, String), Use>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Use {
    minute: DateTime<Utc>,
    is_written: bool,
}

impl Uses {
    /// Notes that a key is used now.
    pub(crate) fn note(&self, caller: &Caller, now: DateTime<Utc>) {
        let minute = now.duration_trunc(TimeDelta::minutes(1)).unwrap_or(now);
        let mut uses = self.uses();
        let key = (caller.team.clone(), caller.key_id.clone());
        let (known, has_room) = (uses.get(&key), uses.len() < MAX);
        if known.map_or(has_room, |known| known.minute < minute) {
            uses.insert(key, Use { minute, is_written: false });
        }
    }

    /// Writes what is new every few seconds, until told to stop, and once more then.
    pub(crate) async fn keep_written(&self, database: Database, stop: CancellationToken) {
        let mut is_over = false;
        while !is_over {
            tokio::select! {
                () = stop.cancelled() => is_over = true,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.write(&database, Utc::now()).await {
                tracing::debug!(%error, "the last uses of keys are not written");
            }
        }
    }

    /// Writes what is new, and forgets what was not used for a while. What cannot be written is lost.
    pub(crate) async fn write(&self, database: &Database, now: DateTime<Utc>) -> Result<(), Error> {
        let new = self.take_new(now);
        for batch in new.chunks(BATCH) {
            let (mut teams, mut keys, mut times) = (Vec::new(), Vec::new(), Vec::new());
            for ((team, key), minute) in batch {
                teams.push(team.clone());
                keys.push(key.clone());
                times.push(*minute);
            }
            store::key_uses_write(database.pool()?, &teams, &keys, &times).await?;
        }
        Ok(())
    }

    fn take_new(&self, now: DateTime<Utc>) -> Vec<((String, String), DateTime<Utc>)> {
        let mut new = Vec::new();
        self.uses().retain(|key, known| {
            if !mem::replace(&mut known.is_written, true) {
                new.push((key.clone(), known.minute));
            }
            now - known.minute < TimeDelta::minutes(2)
        });
        new
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<(String, String), Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
