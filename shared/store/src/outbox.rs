//! Relays events from a service's `outbox` table, where they were written in one transaction with what
//! they tell of, to another service. At least once: the receiver drops duplicates by event id.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use sqlx::{Postgres, Transaction};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Database, Error};

/// How long the relay rests when nothing wakes it.
const IDLE: Duration = Duration::from_secs(1);
/// Longest rest between failed deliveries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// Bytes of payloads from which on no more are sent at once; far below the largest message.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// The receiver did not take the events; they are kept and sent again.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DeliveryFailed {
    /// What it said.
    pub message: String,
    /// Whether it refused these events and not any: they are sent again in smaller parts, so that one which
    /// it never takes does not hold up the others.
    pub refused: bool,
}

/// Id, payload and time of one event.
type Row = (i64, Vec<u8>, DateTime<Utc>);

/// The relay from one `outbox` table to one destination. The table has the columns
/// `id bigint, destination text, payload bytea, create_time timestamptz`.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    schema: &'static str,
    destination: &'static str,
    batch: i64,
    wake: Arc<Notify>,
    oldest_ms: Arc<AtomicU64>,
}

impl Outbox {
    /// For the table `<schema>.outbox` and one of its destinations; `batch` is the most events sent at once.
    pub fn new(database: Database, schema: &'static str, destination: &'static str, batch: i64) -> Self {
        let (wake, oldest_ms) = (Arc::default(), Arc::default());
        Self { database, schema, destination, batch, wake, oldest_ms }
    }

    /// Tells the relay that there are new events.
    pub fn wake(&self) {
        self.wake.notify_one();
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
        let mut backoff = Duration::from_millis(50);
        while !stop.is_cancelled() {
            let rest = match self.drain(&deliver).await {
                Ok(()) => {
                    backoff = Duration::from_millis(50);
                    IDLE
                }
                Err(error) => {
                    tracing::warn!(destination = self.destination, %error, "events wait in the outbox");
                    backoff = (backoff * 2).min(MAX_BACKOFF);
                    backoff
                }
            };
            tokio::select! {
                () = self.wake.notified(), if rest == IDLE => {}
                () = tokio::time::sleep(rest) => {}
                () = stop.cancelled() => {}
            }
        }
        if let Err(error) = self.drain(&deliver).await {
            tracing::warn!(destination = self.destination, %error, "events stay in the outbox for the next start");
        }
    }

    async fn drain<D, F>(&self, deliver: &D) -> Result<(), DeliveryFailed>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        loop {
            match self.deliver_batch(deliver).await {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => return Ok(()),
                Ok(Err(failed)) => return Err(failed),
                Err(error) => return Err(DeliveryFailed { message: error.to_string(), refused: false }),
            }
        }
    }

    /// Holds the rows locked while they are delivered: another process takes others. Tells whether there may
    /// be more.
    async fn deliver_batch<D, F>(&self, deliver: &D) -> Result<Result<bool, DeliveryFailed>, Error>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let mut transaction = self.database.pool()?.begin().await?;
        let rows = self.take_in_txn(&mut transaction).await?;
        let Some((_, _, oldest)) = rows.first() else {
            self.note_oldest(self.oldest_in_txn(&mut transaction).await?);
            return Ok(Ok(false));
        };
        self.note_oldest(Some(*oldest));
        let bytes: usize = rows.iter().map(|(_, payload, _)| payload.len()).sum();
        let more = bytes >= MAX_BYTES || i64::try_from(rows.len()).is_ok_and(|rows| rows >= self.batch);
        let (ids, failed) = self.deliver_parts(deliver, rows).await;
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {}.outbox WHERE id = ANY($1)", self.schema));
        sqlx::query(delete).bind(&ids).execute(&mut *transaction).await?;
        transaction.commit().await?;
        if let Some(failed) = failed {
            return Ok(Err(failed));
        }
        self.note_oldest(None);
        Ok(Ok(more))
    }

    /// Delivers rows together, and in halves where the receiver refuses them; gives the ids of those taken.
    async fn deliver_parts<D, F>(&self, deliver: &D, rows: Vec<Row>) -> (Vec<i64>, Option<DeliveryFailed>)
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let (mut parts, mut taken, mut failed) = (vec![rows], Vec::new(), None);
        while let Some(mut part) = parts.pop() {
            match deliver(part.iter().map(|(_, payload, _)| payload.clone()).collect()).await {
                Ok(()) => taken.extend(part.iter().map(|(id, ..)| *id)),
                Err(error) if error.refused && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                Err(error) if error.refused => {
                    let id = part.first().map(|(id, ..)| *id);
                    tracing::error!(destination = self.destination, outbox.id = id, %error, "an event is refused");
                    failed = Some(error);
                }
                Err(error) => return (taken, Some(error)),
            }
        }
        (taken, failed)
    }

    async fn take_in_txn(&self, transaction: &mut Transaction<'static, Postgres>) -> Result<Vec<Row>, Error> {
        // The schema's name comes from the program, never from outside.
        let select = sqlx::AssertSqlSafe(format!(
            "WITH taken AS (
                 SELECT id, payload, create_time FROM {}.outbox WHERE destination = $1 ORDER BY id LIMIT $2
                 FOR UPDATE SKIP LOCKED
             ), sized AS (
                 SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS before FROM taken
             )
             SELECT id, payload, create_time FROM sized WHERE before < $3 ORDER BY id",
            self.schema
        ));
        let limit = i64::try_from(MAX_BYTES).unwrap_or(i64::MAX);
        let rows = sqlx::query_as(select).bind(self.destination).bind(self.batch).bind(limit);
        Ok(rows.fetch_all(&mut **transaction).await?)
    }

    /// The time of the oldest event, one that another process holds included.
    async fn oldest_in_txn(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let select = sqlx::AssertSqlSafe(format!(
            "SELECT create_time FROM {}.outbox WHERE destination = $1 ORDER BY id LIMIT 1",
            self.schema
        ));
        Ok(sqlx::query_scalar(select).bind(self.destination).fetch_optional(&mut **transaction).await?)
    }

    fn note_oldest(&self, oldest: Option<DateTime<Utc>>) {
        let since = oldest.map_or(0, |at| u64::try_from(at.timestamp_millis()).unwrap_or(1));
        self.oldest_ms.store(since, Ordering::Relaxed);
    }
}

fn now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}
