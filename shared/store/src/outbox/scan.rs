//! The SQL of the relay: finds events that no process delivers, and deletes what is delivered.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Postgres, Transaction};

use super::{AT_A_TIME, Course, DeliveryFailed, Event, MAX_BYTES, Outbox};
use crate::Error;

/// Id, payload and time of one event.
type Row = (i64, Vec<u8>, DateTime<Utc>);

impl Outbox {
    /// Delivers events of at least this age that stand in the table, and tells whether there may be more.
    pub(super) async fn deliver_left_behind<D, F>(
        &self,
        deliver: &D,
        course: &mut Course,
        age: Duration,
    ) -> Result<bool, DeliveryFailed>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        // What is delivered already would be found again.
        self.delete(course).await?;
        for _ in 0..AT_A_TIME {
            if !self.deliver_batch(deliver, course, age).await?? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Holds the rows locked while they are delivered: another process takes others. Tells whether there may
    /// be more.
    async fn deliver_batch<D, F>(
        &self,
        deliver: &D,
        course: &mut Course,
        age: Duration,
    ) -> Result<Result<bool, DeliveryFailed>, Error>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        let mut transaction = self.begin().await?;
        let rows = self.take_in_txn(&mut transaction, age).await?;
        let Some((_, _, oldest)) = rows.first() else {
            let oldest = self.oldest_in_txn(&mut transaction).await?;
            // One that its process is about to deliver does not wait.
            let waits = |at: &DateTime<Utc>| course.fresh.is_failing() || is_older(*at, age);
            self.note_oldest(course, oldest.filter(waits));
            return Ok(Ok(false));
        };
        self.note_oldest(course, Some(*oldest));
        let bytes: usize = rows.iter().map(|(_, payload, _)| payload.len()).sum();
        let more = bytes >= MAX_BYTES || rows.len() >= self.batch;
        let events = rows.into_iter().map(|(id, payload, _)| (id, payload)).collect();
        let parted = self.deliver_parts(deliver, events).await;
        self.delete_in_txn(&mut transaction, &parted.taken).await?;
        transaction.commit().await?;
        if let Some(failed) = parted.failed {
            return Ok(Err(failed));
        }
        if !more {
            self.note_oldest(course, None);
        }
        Ok(Ok(more))
    }

    /// Which of these events stand in the table, and will whatever happens: a commit that was not waited for may still
    /// be lost with the database, but not once a later one has reached the disk, and this one waits for that.
    pub(super) async fn confirmed(
        &self,
        course: &mut Course,
        events: &[Event],
    ) -> Result<HashSet<i64>, Error> {
        let ids: Vec<i64> = events.iter().map(|(id, _)| *id).collect();
        // A transaction that wrote nothing would not wait: the message is written and read by nobody.
        let select = sqlx::AssertSqlSafe(format!(
            "SELECT o.id FROM unnest($1::bigint[]) AS asked (id)
             CROSS JOIN LATERAL (SELECT id FROM {}.outbox o WHERE o.id = asked.id LIMIT 1) o
             CROSS JOIN pg_logical_emit_message(true, 'toolcrib.outbox', '') AS written",
            self.schema
        ));
        let mut connection = course.kept.take().await?;
        let found = sqlx::query_scalar(select).bind(&ids).fetch_all(&mut connection).await?;
        course.kept.put_back(connection);
        Ok(found.into_iter().collect())
    }

    /// Deletes the rows of delivered events; they stay noted until that is done.
    pub(super) async fn delete(&self, course: &mut Course) -> Result<(), Error> {
        if course.delivered.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        self.delete_in_txn(&mut transaction, &course.delivered).await?;
        transaction.commit().await?;
        course.delivered.clear();
        Ok(())
    }

    /// A transaction that reaches rows by their index whatever is known of the table: it is empty at one moment and
    /// full at the next.
    async fn begin(&self) -> Result<Transaction<'static, Postgres>, Error> {
        let mut transaction = self.database.pool()?.begin().await?;
        sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *transaction).await?;
        Ok(transaction)
    }

    async fn delete_in_txn(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        ids: &[i64],
    ) -> Result<(), Error> {
        // The schema's name comes from the program, never from outside.
        let delete = sqlx::AssertSqlSafe(format!("DELETE FROM {}.outbox WHERE id = ANY($1)", self.schema));
        sqlx::query(delete).bind(ids).execute(&mut **transaction).await?;
        Ok(())
    }

    async fn take_in_txn(
        &self,
        transaction: &mut Transaction<'static, Postgres>,
        age: Duration,
    ) -> Result<Vec<Row>, Error> {
        let select = sqlx::AssertSqlSafe(format!(
            "WITH taken AS (
                 SELECT id, payload, create_time FROM {}.outbox
                 WHERE destination = $1 AND create_time <= now() - make_interval(secs => $4)
                 ORDER BY id LIMIT $2
                 FOR UPDATE SKIP LOCKED
             ), sized AS (
                 SELECT *, sum(octet_length(payload)) OVER (ORDER BY id) - octet_length(payload) AS before FROM taken
             )
             SELECT id, payload, create_time FROM sized WHERE before < $3 ORDER BY id",
            self.schema
        ));
        let (most, bytes) = (bigint(self.batch), bigint(MAX_BYTES));
        let rows =
            sqlx::query_as(select).bind(self.destination).bind(most).bind(bytes).bind(age.as_secs_f64());
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
}

fn is_older(at: DateTime<Utc>, age: Duration) -> bool {
    TimeDelta::from_std(age).is_ok_and(|age| Utc::now().signed_duration_since(at) >= age)
}

fn bigint(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
