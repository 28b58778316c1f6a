//! Equal calls at the same moment: one leads, the others follow and get its outcome. In this process only.
//! Must never leave a follower waiting for a leader that is gone.

use std::{
    collections::HashMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::{Key, Statistics, Ticket, statistics::Event};

/// A call that began before an invalidation must not answer one that began after it, hence the ticket.
type Id = (Key, Ticket);

/// The calls in flight. `T` is what followers get, usually an `Arc`.
pub struct Flights<T> {
    flying: Arc<Mutex<HashMap<Id, Arc<Shared<T>>>>>,
    statistics: Statistics,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    phase: Phase<T>,
    followers: usize,
}

enum Phase<T> {
    Led,
    /// The leader is gone and no follower has taken its place yet.
    Vacant,
    Done(T),
}

/// The part a call has in its flight.
pub enum Flight<T> {
    /// It does the work.
    Lead(Lead<T>),
    /// Another one does.
    Follow(Follow<T>),
}

/// What became of following.
pub enum Followed<T> {
    /// The leader's outcome.
    Outcome(T),
    /// The leader is gone: this call leads now.
    Lead(Lead<T>),
}

/// Whoever holds it does the work. Dropped without [`Lead::finish`], exactly one follower becomes the leader.
pub struct Lead<T> {
    flights: Flights<T>,
    id: Id,
    shared: Arc<Shared<T>>,
    finished: bool,
}

/// Whoever holds it waits.
pub struct Follow<T> {
    flights: Flights<T>,
    id: Id,
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Flights<T> {
    fn clone(&self) -> Self {
        Self { flying: self.flying.clone(), statistics: self.statistics.clone() }
    }
}

impl<T> Flights<T> {
    /// No call in flight. Coalesced calls are counted with the cache whose statistics these are.
    pub fn new(statistics: Statistics) -> Self {
        Self { flying: Arc::default(), statistics }
    }

    /// Calls in flight now.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no call is in flight.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Id, Arc<Shared<T>>>> {
        self.flying.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Shared<T> {
    fn led() -> Arc<Self> {
        let state = State { phase: Phase::Led, followers: 0 };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// Taken after the lock of `flying` where both are.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Clone> Flights<T> {
    /// Joins the flight of this key, or starts it. The ticket is the one that [`crate::Cache::get`] gave.
    pub fn join(&self, key: &Key, ticket: Ticket) -> Flight<T> {
        let id = (key.clone(), ticket);
        let mut flying = self.lock();
        if let Some(shared) = flying.get(&id).cloned() {
            let mut state = shared.lock();
            match state.phase {
                Phase::Led => {
                    state.followers += 1;
                    drop(state);
                    return Flight::Follow(Follow { flights: self.clone(), id, shared });
                }
                Phase::Vacant => {
                    state.phase = Phase::Led;
                    drop(state);
                    return Flight::Lead(Lead { flights: self.clone(), id, shared, finished: false });
                }
                // Whoever ends a flight takes it out under the same lock: one that is done is never found.
                Phase::Done(_) => {}
            }
        }
        let shared = Shared::led();
        flying.insert(id.clone(), shared.clone());
        Flight::Lead(Lead { flights: self.clone(), id, shared, finished: false })
    }
}

impl<T> Lead<T> {
    /// Ends the flight: every follower gets the outcome, and the next call starts a new one.
    pub fn finish(mut self, outcome: T) {
        self.finished = true;
        let mut flying = self.flights.lock();
        flying.remove(&self.id);
        self.shared.lock().phase = Phase::Done(outcome);
        drop(flying);
        self.shared.changed.notify_waiters();
    }
}

impl<T> Drop for Lead<T> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut flying = self.flights.lock();
        let mut state = self.shared.lock();
        state.phase = Phase::Vacant;
        if state.followers == 0 {
            flying.remove(&self.id);
        }
        drop((state, flying));
        self.shared.changed.notify_waiters();
    }
}

impl<T: Clone> Follow<T> {
    /// Waits for the outcome, or for the lead. May be dropped at any time.
    pub async fn wait(self) -> Followed<T> {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // From here on a change wakes us, even one between the look and the wait.
            changed.as_mut().enable();
            if let Some(followed) = self.look() {
                return followed;
            }
            changed.await;
        }
    }

    fn look(&self) -> Option<Followed<T>> {
        let mut state = self.shared.lock();
        match &state.phase {
            Phase::Led => None,
            Phase::Vacant => {
                state.phase = Phase::Led;
                let (flights, id, shared) = (self.flights.clone(), self.id.clone(), self.shared.clone());
                Some(Followed::Lead(Lead { flights, id, shared, finished: false }))
            }
            Phase::Done(outcome) => {
                self.flights.statistics.count(&self.id.0, Event::Coalesced);
                Some(Followed::Outcome(outcome.clone()))
            }
        }
    }
}

impl<T> Drop for Follow<T> {
    fn drop(&mut self) {
        let mut flying = self.flights.lock();
        let mut state = self.shared.lock();
        state.followers -= 1;
        if state.followers == 0 && matches!(state.phase, Phase::Vacant) {
            flying.remove(&self.id);
        }
    }
}

impl<T> fmt::Debug for Flights<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Flights").field("flying", &self.len()).finish_non_exhaustive()
    }
}
