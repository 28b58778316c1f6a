//! The executions that this process runs, and the way to stop one of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

type Set = Arc<Mutex<HashMap<Uuid, Arc<Flags>>>>;

/// The executions that this process runs.
#[derive(Debug, Default, Clone)]
pub(crate) struct RunningSet(Set);

#[derive(Debug, Default)]
struct Flags {
    cancelled: CancellationToken,
    ended: CancellationToken,
}

/// One execution that runs here, until this is dropped: when its task panics too.
#[derive(Debug)]
pub(crate) struct Held {
    set: Set,
    id: Uuid,
    flags: Arc<Flags>,
}

impl RunningSet {
    pub(crate) fn hold(&self, id: Uuid) -> Held {
        let flags = Arc::<Flags>::default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&flags));
        Held { set: Arc::clone(&self.0), id, flags }
    }

    /// Tells an execution to stop; `false` when it does not run here.
    pub(crate) fn cancel(&self, id: Uuid) -> bool {
        self.flags(id).inspect(|flags| flags.cancelled.cancel()).is_some()
    }

    /// Whether an execution runs here.
    pub(crate) fn holds(&self, id: Uuid) -> bool {
        self.flags(id).is_some()
    }

    /// Ends when an execution that runs here does so no more; never for one that does not run here.
    pub(crate) fn ended(&self, id: Uuid) -> impl Future<Output = ()> + Send + use<> {
        let flags = self.flags(id);
        async move {
            match flags {
                Some(flags) => flags.ended.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
    }

    fn flags(&self, id: Uuid) -> Option<Arc<Flags>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

impl Held {
    /// Ends when a caller has cancelled the execution.
    pub(crate) async fn cancelled(&self) {
        self.flags.cancelled.cancelled().await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have been taken up here a second time in the meantime.
        if set.get(&self.id).is_some_and(|flags| Arc::ptr_eq(flags, &self.flags)) {
            set.remove(&self.id);
        }
        drop(set);
        self.flags.ended.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_is_held_until_its_task_ends_however_it_does() {
        let set = RunningSet::default();
        let held = set.hold(Uuid::nil());
        assert_eq!(set.ids(), [Uuid::nil()]);
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = held;
            panic!("the task");
        }));
        assert!(set.ids().is_empty());
    }

    #[tokio::test]
    async fn only_what_runs_here_is_told_to_stop() {
        let set = RunningSet::default();
        let held = set.hold(Uuid::nil());
        assert!(!set.cancel(Uuid::max()));
        assert!(set.cancel(Uuid::nil()));
        held.cancelled().await;
    }

    #[tokio::test]
    async fn whoever_waits_hears_of_the_end_and_the_next_run_is_let_alone() {
        let set = RunningSet::default();
        let first = set.hold(Uuid::nil());
        let ended = set.ended(Uuid::nil());
        let second = set.hold(Uuid::nil());
        drop(first);
        ended.await;
        assert!(set.holds(Uuid::nil()));
        drop(second);
        assert!(!set.holds(Uuid::nil()));
    }
}
