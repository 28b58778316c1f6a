//! A bulkhead: only so many calls of one tool run at once, a few more wait, the rest is refused. Must never
//! lose a place, whichever way a call or its wait ends, and never let a change of the limit stop a call that
//! runs.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The size of a bulkhead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkheadSettings {
    /// Calls that run at once; 0 counts as 1.
    pub max_concurrent: usize,
    /// Calls that wait for a place.
    pub max_waiting: usize,
    /// How long one of them waits.
    pub max_wait: Duration,
}

impl Default for BulkheadSettings {
    /// 10 at once, 100 waiting for up to 10 s.
    fn default() -> Self {
        Self { max_concurrent: 10, max_waiting: 100, max_wait: Duration::from_secs(10) }
    }
}

impl BulkheadSettings {
    fn limit(&self) -> usize {
        self.max_concurrent.clamp(1, Semaphore::MAX_PERMITS)
    }
}

/// There was no place for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// As many calls wait as may.
    #[error("as many calls run and wait as the tool may have")]
    Queue,
    /// The call waited as long as it may.
    #[error("no place became free within {} ms", waited.as_millis())]
    Wait {
        /// How long it waited.
        waited: Duration,
    },
}

/// The bulkhead of one tool. Clones share it. Who waits longest is next.
#[derive(Debug, Clone)]
pub struct Bulkhead {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    semaphore: Arc<Semaphore>,
    waiting: AtomicUsize,
    places: Mutex<Places>,
}

#[derive(Debug)]
struct Places {
    settings: BulkheadSettings,
    /// Places that are to go, but in which a call still runs.
    surplus: usize,
}

impl Bulkhead {
    /// An empty bulkhead.
    pub fn new(settings: BulkheadSettings) -> Self {
        let semaphore = Arc::new(Semaphore::new(settings.limit()));
        let places = Mutex::new(Places { settings, surplus: 0 });
        Self { shared: Arc::new(Shared { semaphore, waiting: AtomicUsize::new(0), places }) }
    }

    /// Takes a place, after a wait if need be. Dropping the future gives up the wait.
    pub async fn enter(&self) -> Result<Guard, Full> {
        let shared = &self.shared;
        match Arc::clone(&shared.semaphore).try_acquire_owned() {
            Ok(permit) => return Ok(Guard::new(shared, permit)),
            Err(TryAcquireError::NoPermits) => {}
            Err(TryAcquireError::Closed) => return Err(Full::Queue),
        }
        let settings = shared.lock().settings;
        let _waiting = Waiting::join(shared, settings.max_waiting)?;
        let waited = settings.max_wait;
        let place = tokio::time::timeout(waited, Arc::clone(&shared.semaphore).acquire_owned()).await;
        match place {
            Ok(Ok(permit)) => Ok(Guard::new(shared, permit)),
            Ok(Err(_)) => Err(Full::Queue),
            Err(_) => Err(Full::Wait { waited }),
        }
    }

    /// Takes over other sizes. More places are there at once; fewer take effect as running calls end. Who
    /// already waits does so by the old sizes.
    pub fn apply(&self, settings: BulkheadSettings) {
        let mut places = self.shared.lock();
        let (old, new) = (places.settings.limit(), settings.limit());
        if new > old {
            let kept = places.surplus.min(new - old);
            places.surplus -= kept;
            self.shared.semaphore.add_permits(new - old - kept);
        } else {
            places.surplus += old - new - self.shared.semaphore.forget_permits(old - new);
        }
        places.settings = settings;
    }

    /// Calls that run. May be above the limit while it is being lowered.
    pub fn in_use(&self) -> usize {
        let places = self.shared.lock();
        (places.settings.limit() + places.surplus).saturating_sub(self.shared.semaphore.available_permits())
    }

    /// Calls that wait.
    pub fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// Whether a call that came now would have to wait or be refused.
    pub fn is_full(&self) -> bool {
        self.shared.semaphore.available_permits() == 0
    }
}

impl Shared {
    /// Takes away free places that are to go. There are some where a wait was given up in the moment its turn
    /// came.
    fn shrink(&self) {
        let mut places = self.lock();
        places.surplus -= self.semaphore.forget_permits(places.surplus);
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place. Dropping it frees it.
#[derive(Debug)]
#[must_use = "a place is free again as soon as the guard is dropped"]
pub struct Guard {
    shared: Arc<Shared>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Guard {
    fn new(shared: &Arc<Shared>, permit: OwnedSemaphorePermit) -> Self {
        Self { shared: Arc::clone(shared), permit: Some(permit) }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut places = self.shared.lock();
        let permit = self.permit.take();
        if places.surplus > 0 {
            places.surplus -= 1;
            permit.into_iter().for_each(OwnedSemaphorePermit::forget);
        }
    }
}

/// One call in the queue, until dropped.
struct Waiting<'a>(&'a Shared);

impl<'a> Waiting<'a> {
    fn join(shared: &'a Shared, most: usize) -> Result<Self, Full> {
        let join = |waiting: usize| (waiting < most).then_some(waiting + 1);
        match shared.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, join) {
            Ok(_) => Ok(Self(shared)),
            Err(_) => Err(Full::Queue),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.shrink();
    }
}

#[cfg(test)]
mod tests;
