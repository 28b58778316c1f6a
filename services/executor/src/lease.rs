//! Whether this process is still known to live. One that was stopped, or cut off from the database for longer than
//! its lease, must begin no attempt of what it was running: another process may have taken it over, even where this
//! one has been heard again since.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

/// A time of the clock that goes on while this process is stopped, and while the machine sleeps as well
/// (`CLOCK_BOOTTIME`); `Instant` stands still then, and the others' clocks do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(Duration);

impl Moment {
    pub(crate) fn now() -> Self {
        // It counts from the start of the machine, so it is never below zero.
        Self(Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default())
    }

    fn elapsed(self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// The lease of this process.
#[derive(Debug)]
pub(crate) struct Lease {
    term: Duration,
    state: Mutex<State>,
    renewed: Notify,
}

#[derive(Debug)]
struct State {
    heard: Moment,
    /// Since when there was no gap.
    since: Moment,
}

impl Lease {
    /// Held from now on.
    pub(crate) fn new(term: Duration) -> Self {
        let now = Moment::now();
        Self { term, state: Mutex::new(State { heard: now, since: now }), renewed: Notify::new() }
    }

    /// Holds it from the time at which a heartbeat was sent that has arrived.
    pub(crate) fn renew(&self, sent: Moment) {
        let mut state = self.lock();
        if state.heard.elapsed() >= self.term {
            state.since = Moment::now();
        }
        state.heard = sent;
        drop(state);
        self.renewed.notify_waiters();
    }

    /// Waits for so long at most until it is held, and tells whether it is: after an outage of the database the next
    /// heartbeat is under way. One that was sent before the outage and arrives after it renews nothing.
    pub(crate) async fn is_held_within(&self, patience: Duration) -> bool {
        let held = async {
            loop {
                let renewed = self.renewed.notified();
                if self.is_held() {
                    return;
                }
                renewed.await;
            }
        };
        tokio::time::timeout(patience, held).await.is_ok()
    }

    /// Whether others still have to take this process for living.
    pub(crate) fn is_held(&self) -> bool {
        self.lock().heard.elapsed() < self.term
    }

    /// Whether they had to all the time since then, so that what was taken up then is still this process's.
    pub(crate) fn is_held_since(&self, then: Moment) -> bool {
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

    const TERM: Duration = Duration::from_secs(30);

    /// A time at which a lease began that has ended.
    fn long_ago() -> Moment {
        Moment(Moment::now().0.checked_sub(TERM + Duration::from_secs(1)).unwrap())
    }

    #[test]
    fn it_ends_with_its_term_and_a_heartbeat_renews_it() {
        let lease = Lease::new(TERM);
        assert!(lease.is_held());
        lease.renew(long_ago());
        assert!(!lease.is_held());
        lease.renew(Moment::now());
        assert!(lease.is_held());
    }

    #[tokio::test]
    async fn who_waits_for_it_hears_of_the_heartbeat_and_does_not_wait_for_ever() {
        let lease = Lease::new(TERM);
        lease.renew(long_ago());
        assert!(!lease.is_held_within(Duration::from_millis(1)).await);
        let late_and_fresh = async {
            lease.renew(long_ago());
            tokio::task::yield_now().await;
            lease.renew(Moment::now());
        };
        let (is_held, ()) = tokio::join!(lease.is_held_within(TERM), late_and_fresh);
        assert!(is_held);
    }

    #[test]
    fn what_was_taken_up_before_a_gap_stays_out_of_reach_after_it() {
        let lease = Lease::new(TERM);
        let before = Moment::now();
        lease.renew(before);
        assert!(lease.is_held_since(before));
        lease.renew(long_ago());
        lease.renew(Moment::now());
        assert!(lease.is_held() && !lease.is_held_since(before));
        assert!(lease.is_held_since(Moment::now()));
    }

    #[test]
    fn its_clock_counts_the_time_that_the_machine_slept() {
        // proc_uptime(5): the seconds since the start of the machine, those of its sleep among them.
        let text = std::fs::read_to_string("/proc/uptime").unwrap();
        let uptime: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
        assert!((Moment::now().0.as_secs_f64() - uptime).abs() < 20.0, "{text}");
    }
}
