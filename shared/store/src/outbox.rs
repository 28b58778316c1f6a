//! Relays events from a service's `outbox` table, where they were written in one transaction with what
//! they tell of, to another service. At least once: the receiver drops duplicates by event id.
//!
//! The process that wrote events hands them over right after its commit, and they are delivered without their
//! payloads being read again, once it is sure that no crash of the database can undo what they tell of; their rows are
//! deleted afterwards, many at once. A row that stays is one whose process died or whose delivery failed: any process
//! finds it when it has grown old.

mod fresh;
mod scan;
mod write;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use self::fresh::Fresh;
use crate::{Database, Error, Kept};

pub use types::DeliveryFailed;
pub use write::outbox_insert;

/// How long events gather before they are sent together: an event costs little then, and nobody waits for it.
const GATHER: Duration = Duration::from_millis(50);
/// How often the table is searched for events that no process holds.
const SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// That age, where processes hand over what they wrote.
const LEFT_BEHIND: Duration = Duration::from_secs(5);
/// How long rows of delivered events stay at most, while the database is there.
const DELETE_INTERVAL: Duration = Duration::from_millis(200);
/// Rows of delivered events that are deleted before that time.
const DELETE_BATCH: usize = 2_000;
/// Shortest and longest rest between failed deliveries.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Bytes of payloads from which on no more are sent at once; far below the largest message.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Deliveries of one kind before the others have their turn.
const AT_A_TIME: usize = 16;

impl From<Error> for DeliveryFailed {
    fn from(error: Error) -> Self {
        Self { message: error.to_string(), refused: false }
    }
}

/// Id of its row, and payload.
type Event = (i64, Vec<u8>);

/// The relay from one `outbox` table to one destination. The table has the columns
/// `id bigint, destination text, payload bytea, create_time timestamptz`.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    schema: &'static str,
    destination: &'static str,
    batch: usize,
    fresh: Arc<Mutex<Fresh>>,
    wake: Arc<Notify>,
    oldest_ms: Arc<AtomicU64>,
    /// Age from which on an event in the table is taken for one that its process does not deliver.
    left_behind: Duration,
}

/// What one run of a relay remembers.
struct Course {
    /// Confirms what was handed over.
    kept: Kept,
    /// Rows to delete: their events are delivered.
    delivered: Vec<i64>,
    deleted_at: Instant,
    fresh: Attempts,
    scan: Attempts,
    /// The oldest event that waits.
    oldest: Option<DateTime<Utc>>,
}

/// When to try next.
struct Attempts {
    at: Instant,
    backoff: Duration,
}

impl Outbox {
    /// For the table `<schema>.outbox` and one of its destinations; `batch` is the most events sent at once.
    pub fn new(database: Database, schema: &'static str, destination: &'static str, batch: usize) -> Self {
        let (fresh, wake, oldest_ms) = (Arc::default(), Arc::default(), Arc::default());
        Self { database, schema, destination, batch, fresh, wake, oldest_ms, left_behind: LEFT_BEHIND }
    }

    /// The same for a table whose events nobody hands over: they are found by the next search, within a second or so.
    #[must_use]
    pub fn searching_at_once(self) -> Self {
        Self { left_behind: Duration::ZERO, ..self }
    }

    /// Takes events that were just written for this destination: the id of each row, and its payload.
    /// Those for which there is no room stay in the table and are found there.
    pub fn hand_over(&self, events: impl IntoIterator<Item = (i64, Vec<u8>)>) {
        let was_empty = self.fresh().add(events);
        if was_empty {
            self.wake.notify_one();
        }
    }

    /// Age of the oldest event that was not delivered when last tried; zero when all were.
    pub fn backlog_age(&self) -> Duration {
        match self.oldest_ms.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(now_ms().saturating_sub(since)),
        }
    }

    /// Delivers until told to stop; then tries once more, so that a clean stop leaves little behind.
    pub async fn run<D, F>(&self, stop: CancellationToken, deliver: D)
    where
        D: Fn(Vec<Vec<u8>>) -> F + Send + Sync,
        F: Future<Output = Result<(), DeliveryFailed>> + Send,
    {
        let mut course = Course::new(&self.database);
        while !stop.is_cancelled() {
            self.round(&deliver, &mut course).await;
            let next = course.next(!self.fresh().is_empty());
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
                () = stop.cancelled() => break,
            }
            if !stop.is_cancelled() && course.fresh.is_due() {
                tokio::time::sleep(GATHER).await;
            }
        }
        if let Err(error) = self.drain(&deliver, &mut course).await {
            tracing::warn!(destination = self.destination, %error, "events stay in the outbox for the next start");
        }
    }

    /// Does what is due.
    async fn round<D, F>(&self, deliver: &D, course: &mut Course)
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        if course.fresh.is_due() {
            let done = self.deliver_fresh(deliver, course).await;
            self.note(done, &mut course.fresh, Duration::ZERO);
        }
        let is_due = course.delivered.len() >= DELETE_BATCH || course.deleted_at.elapsed() >= DELETE_INTERVAL;
        if is_due && self.database.is_up() {
            course.deleted_at = Instant::now();
            if let Err(error) = self.delete(course).await {
                tracing::warn!(destination = self.destination, %error, "delivered events stay in the outbox");
            }
        }
        if course.scan.is_due() {
            let done = self.deliver_left_behind(deliver, course, self.left_behind).await;
            self.note(done, &mut course.scan, SCAN_INTERVAL);
        }
    }

    /// Delivers all that there is.
    async fn drain<D, F>(&self, deliver: &D, course: &mut Course) -> Result<(), DeliveryFailed>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let delivered = loop {
            match self.deliver_fresh(deliver, course).await {
                Ok(true) => {}
                done => break done,
            }
        };
        self.delete(course).await?;
        delivered?;
        while self.deliver_left_behind(deliver, course, Duration::ZERO).await? {}
        Ok(())
    }

    /// Sets when to try again: at once while there is more, after the rest when all is done.
    fn note(&self, done: Result<bool, DeliveryFailed>, attempts: &mut Attempts, rest: Duration) {
        let now = Instant::now();
        match done {
            Ok(more) => *attempts = Attempts { at: if more { now } else { now + rest }, backoff: BACKOFF.0 },
            Err(error) => {
                tracing::warn!(destination = self.destination, %error, "events wait in the outbox");
                attempts.backoff = (attempts.backoff * 2).min(BACKOFF.1);
                attempts.at = now + attempts.backoff;
            }
        }
    }

    /// Delivers events together, and in halves where the receiver refuses them; gives the ids of those taken, and
    /// the events that a receiver out of reach has not seen.
    async fn deliver_parts<D, F>(&self, deliver: &D, events: Vec<Event>) -> Parted
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let mut parted = Parted::default();
        let mut parts = vec![events];
        while let Some(mut part) = parts.pop() {
            match deliver(part.iter().map(|(_, payload)| payload.clone()).collect()).await {
                Ok(()) => parted.taken.extend(part.iter().map(|(id, _)| *id)),
                Err(error) if error.refused && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(error) if error.refused => {
                    let id = part.first().map(|(id, _)| *id);
                    tracing::error!(destination = self.destination, outbox.id = id, %error, "an event is refused");
                    parted.failed = Some(error);
                }
                Err(error) => {
                    parted.failed = Some(error);
                    parted.unseen = part.into_iter().chain(parts.into_iter().rev().flatten()).collect();
                    return parted;
                }
            }
        }
        parted
    }

    fn fresh(&self) -> std::sync::MutexGuard<'_, Fresh> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_oldest(&self, course: &mut Course, oldest: Option<DateTime<Utc>>) {
        course.oldest = oldest;
        let since = oldest.map_or(0, |at| u64::try_from(at.timestamp_millis()).unwrap_or(1));
        self.oldest_ms.store(since, Ordering::Relaxed);
    }
}

/// What became of events.
#[derive(Default)]
struct Parted {
    taken: Vec<i64>,
    unseen: Vec<Event>,
    failed: Option<DeliveryFailed>,
}

impl Course {
    fn new(database: &Database) -> Self {
        let (kept, now) = (Kept::durable(database), Instant::now());
        let attempts = || Attempts { at: now, backoff: BACKOFF.0 };
        Self {
            kept,
            delivered: Vec::new(),
            deleted_at: now,
            fresh: attempts(),
            scan: attempts(),
            oldest: None,
        }
    }

    /// When something is due next.
    fn next(&self, has_fresh: bool) -> Instant {
        let fresh = has_fresh.then_some(self.fresh.at);
        let delete = (!self.delivered.is_empty()).then(|| self.deleted_at + DELETE_INTERVAL);
        [fresh, delete].into_iter().flatten().fold(self.scan.at, Instant::min)
    }
}

impl Attempts {
    fn is_due(&self) -> bool {
        Instant::now() >= self.at
    }

    fn is_failing(&self) -> bool {
        self.backoff > BACKOFF.0
    }
}

fn now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}
