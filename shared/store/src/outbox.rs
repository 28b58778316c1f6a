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
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{Database, Error};

/// How long the relay rests when nothing wakes it.
const IDLE: Duration = Duration::from_secs(1);
/// Longest rest between failed deliveries.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The receiver did not take the events; they are kept and sent again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeliveryFailed(pub String);

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
                Ok(Ok(sent)) if sent < self.batch => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(failed)) => return Err(failed),
                Err(error) => return Err(DeliveryFailed(error.to_string())),
            }
        }
    }

    /// Holds the rows locked while they are delivered: another process takes others.
    async fn deliver_batch<D, F>(&self, deliver: &D) -> Result<Result<i64, DeliveryFailed>, Error>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let mut transaction = self.database.pool()?.begin().await?;
        // The schema's name comes from the program, never from outside.
        let select = sqlx::AssertSqlSafe(format!(
            "SELECT id, payload, create_time FROM {}.outbox WHERE destination = $1 ORDER BY id LIMIT $2 \
             FOR UPDATE SKIP LOCKED",
            self.schema
        ));
        let rows: Vec<(i64, Vec<u8>, DateTime<Utc>)> = sqlx::query_as(select)
            .bind(self.destination)
            .bind(self.batch)
            .fetch_all(&mut *transaction)
            .await?;
        let Some((_, _, oldest)) = rows.first() else {
            self.oldest_ms.store(0, Ordering::Relaxed);
            return Ok(Ok(0));
        };
        self.oldest_ms.store(u64::try_from(oldest.timestamp_millis()).unwrap_or(1), Ordering::Relaxed);
        let (ids, payloads): (Vec<i64>, Vec<Vec<u8>>) =
            rows.into_iter().map(|(id, payload, _)| (id, payload)).unzip();
        if let Err(failed) = deliver(payloads).await {
            return Ok(Err(failed));
        }
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {}.outbox WHERE id = ANY($1)", self.schema));
        sqlx::query(delete).bind(&ids).execute(&mut *transaction).await?;
        transaction.commit().await?;
        self.oldest_ms.store(0, Ordering::Relaxed);
        Ok(Ok(i64::try_from(ids.len()).unwrap_or(i64::MAX)))
    }
}

fn now_ms() -> u64 {
    u64::try_from(Utc::now().timestamp_millis()).unwrap_or(0)
}
