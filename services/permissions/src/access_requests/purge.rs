//! Deletes access requests that ended long ago, and messages to webhooks that nobody took for a month. The trail keeps
//! what was decided; what is pending or in force is never touched.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use tokio_util::sync::CancellationToken;

use crate::{Error, store};

/// Most that are deleted in one transaction.
const BATCH: i64 = 1_000;
/// How often it is looked for some.
const INTERVAL: Duration = Duration::from_hours(1);
/// How long messages to webhooks are kept: longer than they are retried by any setting.
const DELIVERIES_KEPT: TimeDelta = TimeDelta::days(30);

/// Deletes until told to stop.
pub(crate) async fn keep_purged(database: Database, retention: TimeDelta, stop: CancellationToken) {
    loop {
        match purge(&database, retention, Utc::now()).await {
            Ok((0, 0)) => {}
            Ok((requests, messages)) => {
                tracing::info!(
                    requests,
                    messages,
                    "access requests and messages that ended long ago are deleted"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "access requests that ended long ago cannot be deleted; tried again later");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Deletes what is past its time, and tells how many access requests and messages there were.
pub(crate) async fn purge(
    database: &Database,
    retention: TimeDelta,
    now: DateTime<Utc>,
) -> Result<(u64, u64), Error> {
    let (pool, before) = (database.pool()?, now.checked_sub_signed(retention).unwrap_or_default());
    let (mut requests, mut messages) = (0, 0);
    loop {
        let purged = store::access_requests_purge(pool, before, BATCH).await?;
        requests += purged.unsigned_abs();
        if purged < BATCH {
            break;
        }
    }
    loop {
        let purged = store::deliveries_purge(pool, now - DELIVERIES_KEPT, BATCH).await?;
        messages += purged.unsigned_abs();
        if purged < BATCH {
            return Ok((requests, messages));
        }
    }
}
