//! Whether this process is still known to live. One that was stopped, or cut off from the database for longer than
//! its lease, must begin no attempt of what it was running: another process may have taken it over, even where this
//! one has been heard again since.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The lease of this process. The clock goes on while a process is stopped.
#[derive(Debug)]
pub(crate) struct Lease {
    term: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    /// Since when there was no gap.
    since: Instant,
}

impl Lease {
    /// Held from now on.
    pub(crate) fn new(term: Duration) -> Self {
        let now = Instant::now();
        Self { term, state: Mutex::new(State { heard: now, since: now }) }
    }

    /// Holds it from the time at which a heartbeat was sent that has arrived.
    pub(crate) fn renew(&self, sent: Instant) {
        let mut state = self.lock();
        if state.heard.elapsed() >= self.term {
            state.since = Instant::now();
        }
        state.heard = sent;
    }

    /// Whether others still have to take this process for living.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().heard.elapsed() < self.term
    }

    /// Whether they had to all the time since then, so that what was taken up then is still this process's.
    pub(crate) fn is_held_since(&self, then: Instant) -> bool {
        let state = self.lock();
        state.heard.elapsed() < self.term && state.since <= then
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_with_its_term_and_a_heartbeat_renews_it() {
        let lease = Lease::new(Duration::from_secs(1_000));
        assert!(lease.is_held());
        let long_ago = Instant::now().checked_sub(Duration::from_secs(1_001)).unwrap();
        lease.renew(long_ago);
        assert!(!lease.is_held());
        lease.renew(Instant::now());
        assert!(lease.is_held());
    }

    #[test]
    fn what_was_taken_up_before_a_gap_stays_out_of_reach_after_it() {
        let lease = Lease::new(Duration::from_secs(1_000));
        let before = Instant::now();
        lease.renew(before);
        assert!(lease.is_held_since(before));
        lease.renew(before.checked_sub(Duration::from_secs(1_001)).unwrap());
        lease.renew(Instant::now());
        assert!(lease.is_held() && !lease.is_held_since(before));
        assert!(lease.is_held_since(Instant::now()));
    }
}
