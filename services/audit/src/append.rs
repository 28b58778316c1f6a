//! Takes events into the trail: checked, once each, in one contiguous order a team.

use std::time::Duration;

use ::store::Database;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    ledger::Ledger,
    store::{self, EventRow},
};

/// Most events in one request.
const MAX_EVENTS: usize = 1_000;

/// What became of a request's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub new: usize,
    pub duplicates: usize,
}

/// Appends what is new, in one transaction: all of it or nothing.
pub(crate) async fn append(ledger: &Ledger, events: Vec<EventRow>) -> Result<Appended, Error> {
    let asked = events.len();
    if asked > MAX_EVENTS {
        return Err(Error::invalid("events", format!("has {asked} events; at most {MAX_EVENTS} are taken")));
    }
    Ok(ledger.append(events).await?)
}

/// Makes the partitions of the coming months ahead of time, until told to stop.
pub(crate) async fn keep_partitions(database: Database, interval: Duration, stop: CancellationToken) {
    loop {
        let made = match database.pool() {
            Ok(pool) => store::partitions_ensure(pool).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(%error, "partitions cannot be made; events go to the default one");
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}
