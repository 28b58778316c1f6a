//! Writes down what was answered to which question, for learning later. Off the path of the answer: a
//! selection waits for no disk, and one that cannot be written down is lost and said so.

use std::time::Duration;

use ::store::Database;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{self, SelectionRow},
};

/// Selections that may wait to be written.
const WAITING: usize = 4_096;
/// Most selections written at once.
const BATCH: usize = 256;
/// How often rows past their time are deleted.
const EXPIRE_INTERVAL: Duration = Duration::from_hours(1);

/// Takes selections to write down. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Selections(mpsc::Sender<SelectionRow>);

impl Selections {
    /// The taker, and what the writer receives from it.
    pub(crate) fn new() -> (Self, mpsc::Receiver<SelectionRow>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    pub(crate) fn keep(&self, row: SelectionRow) {
        if self.0.try_send(row).is_err() {
            tracing::warn!("a selection is not kept: too many wait, or the service stops");
        }
    }
}

/// Writes selections until told to stop; those that wait then are still written.
pub(crate) async fn write(
    database: Database,
    mut waiting: mpsc::Receiver<SelectionRow>,
    stop: CancellationToken,
) {
    let mut rows = Vec::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.cancelled(), if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
            taken = waiting.recv_many(&mut rows, BATCH) => taken,
        };
        if taken == 0 {
            return;
        }
        let written = match database.pool() {
            Ok(pool) => store::selections_insert(pool, &rows).await,
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(%error, selections = taken, "selections are not kept");
        }
        rows.clear();
    }
}

/// Deletes outcomes and selections past their time, until told to stop.
pub(crate) async fn expire(database: Database, stop: CancellationToken) {
    loop {
        if let Err(error) = delete_expired(&database).await {
            tracing::warn!(%error, "expired rows stay for now");
        }
        tokio::select! {
            () = tokio::time::sleep(EXPIRE_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn delete_expired(database: &Database) -> Result<(), Error> {
    Ok(store::rows_delete_expired(database.pool()?).await?)
}
