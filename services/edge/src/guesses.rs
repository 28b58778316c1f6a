//! Questions about keys that nobody knows yet: so few at once that those about known keys are answered as if there were
//! none, and few enough of one address that others come to theirs. Must never let one wait without end.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::places::{Crowded, Site};

/// Questions under way at once. One takes about a millisecond.
const MOST: usize = 16;
/// How many of them one address may have.
pub(crate) const MOST_OF_ONE: usize = 4;
/// How long one waits for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses remembered at once; one that is forgotten too early has its turns twice.
const MAX_SITES: u64 = 10_000;

/// Whose turn it is to ask.
#[derive(Debug, Clone)]
pub(crate) struct Guesses {
    all: Arc<Semaphore>,
    sites: Cache<Site, Arc<Semaphore>>,
}

/// The turn of one question, until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Guesses {
    pub(crate) fn new() -> Self {
        let sites = Cache::builder().max_capacity(MAX_SITES).time_to_idle(Duration::from_mins(1)).build();
        Self { all: Arc::new(Semaphore::new(MOST)), sites }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, site: Site) -> Result<Turn, Box<Status>> {
        let own = self.sites.get_with(site, async { Arc::new(Semaphore::new(MOST_OF_ONE)) }).await;
        let turn = async {
            let own = own.acquire_owned().await.ok()?;
            let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Turn { _own: own, _all: all })
        };
        let turn = tokio::time::timeout(PATIENCE, turn).await;
        turn.ok().flatten().ok_or_else(|| Crowded::Questions.status())
    }
}
