//! Ends reservations: at the outcome of their call, or when no outcome came in time. A place is given
//! back once at most, and a call is charged once at most.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    ledger::Ledger,
    names,
    store::{self, Settlement},
};

/// Most reservations that one sweep ends in one transaction.
const BATCH: i64 = 1_000;
/// How long ended reservations and past windows are remembered.
const KEPT: TimeDelta = TimeDelta::hours(48);
/// How often what is older is deleted.
const PURGE_INTERVAL: Duration = Duration::from_hours(1);

/// Most settlements of one request.
const MAX_SETTLEMENTS: usize = 1_000;

/// Ends the reservation of a decision. When the call was not made, its place and its cost are given back.
pub(crate) async fn settle(ledger: &Ledger, settlement: Settlement) -> Result<(), Error> {
    names::cost("cost_micro_usd", settlement.cost_micro_usd)?;
    let decision = settlement.decision_id;
    let mut known = ledger.end(settlement.clone()).await;
    if matches!(known, Err(::store::Error::Conflict { .. })) {
        // Its execution took a new place just now: that one counts.
        known = ledger.end(settlement).await;
    }
    if known? {
        return Ok(());
    }
    let hint = "only a decision that says `reserved` is settled, and only within two days";
    Err(Error::NotFound { what: "reservation", name: decision.to_string(), hint })
}

/// Ends reservations, and tells of each, in their order, whether there is such a one at all.
pub(crate) async fn settle_all(ledger: &Ledger, settlements: Vec<Settlement>) -> Result<Vec<bool>, Error> {
    if settlements.len() > MAX_SETTLEMENTS {
        let description = format!("has {}; at most {MAX_SETTLEMENTS} are taken", settlements.len());
        return Err(Error::invalid("settlements", description));
    }
    for settlement in &settlements {
        names::cost("cost_micro_usd", settlement.cost_micro_usd)?;
    }
    let mut found = Vec::with_capacity(settlements.len());
    for (answer, settlement) in ledger.end_all(settlements.clone()).await.into_iter().zip(settlements) {
        found.push(match answer {
            Err(::store::Error::Conflict { .. }) => ledger.end(settlement).await?,
            answer => answer?,
        });
    }
    Ok(found)
}

/// Gives back the places of reservations past their time and tells how many there were.
pub(crate) async fn sweep(database: &Database, now: DateTime<Utc>) -> Result<u64, Error> {
    let mut all = 0;
    loop {
        let expired = store::reservations_expire(database.pool()?, now, BATCH).await?;
        all += expired.unsigned_abs();
        if expired < BATCH {
            return Ok(all);
        }
    }
}

/// Deletes what is no longer needed.
pub(crate) async fn purge(database: &Database, now: DateTime<Utc>) -> Result<(), Error> {
    Ok(store::past_delete(database.pool()?, now - KEPT).await?)
}

/// Sweeps and purges until told to stop.
pub(crate) async fn keep_swept(database: Database, interval: Duration, stop: CancellationToken) {
    let mut purged: Option<Instant> = None;
    loop {
        match sweep(&database, Utc::now()).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::info!(count, "reservations were never settled; their places are given back");
            }
            Err(error) => tracing::warn!(%error, "reservations cannot be swept; tried again later"),
        }
        if purged.is_none_or(|last| last.elapsed() >= PURGE_INTERVAL) {
            match purge(&database, Utc::now()).await {
                Ok(()) => purged = Some(Instant::now()),
                Err(error) => tracing::warn!(%error, "past windows cannot be deleted; tried again later"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}
