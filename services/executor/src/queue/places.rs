//! The places of this process for queued calls, and the tools that are left alone for a while. Must never lose a
//! place, whichever way a call ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::store::{Execution, Load};

/// The count of a tool that is left alone: more than any number of places.
const LEFT_ALONE: i64 = i32::MAX as i64;

/// Team and tool.
type Pair = (String, String);

/// Who has the places, and who wakes the workers.
#[derive(Debug)]
pub(crate) struct Queue {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    taken: HashMap<Uuid, Pair>,
    /// Held back until then: taking more of them would only put them back.
    resting: HashMap<Pair, Instant>,
    /// When the other processes were last told of work.
    told: Option<Instant>,
}

/// One place, until this is dropped: when its task panics too.
#[derive(Debug)]
pub(crate) struct Place {
    shared: Arc<Shared>,
    id: Uuid,
}

impl Queue {
    /// With so many places, at least one.
    pub(crate) fn new(most: usize) -> Self {
        Self { shared: Arc::new(Shared { most: most.max(1), state: Mutex::default(), news: Notify::new() }) }
    }

    /// Says that there may be something to take.
    pub(crate) fn wake(&self) {
        self.shared.news.notify_one();
    }

    /// Ends when someone has said so since it last ended.
    pub(super) async fn woken(&self) {
        self.shared.news.notified().await;
    }

    /// Whether the other processes are to be told that there is work, since every place here is taken: at most once
    /// in this time.
    pub(crate) fn overflows(&self, interval: Duration, now: Instant) -> bool {
        let mut state = self.shared.lock();
        let is_due = state.told.is_none_or(|told| now.duration_since(told) >= interval);
        let overflows = is_due && state.taken.len() >= self.shared.most;
        if overflows {
            state.told = Some(now);
        }
        overflows
    }

    /// The executions that have a place.
    pub(crate) fn ids(&self) -> Vec<Uuid> {
        self.shared.lock().taken.keys().copied().collect()
    }

    /// Places that no one has.
    pub(super) fn free(&self) -> usize {
        self.shared.most.saturating_sub(self.shared.lock().taken.len())
    }

    /// Places that one tool of a team may have: half of them, so that a slow one leaves some to the others.
    pub(super) fn most_of_one(&self) -> usize {
        (self.shared.most / 2).max(1)
    }

    /// What runs of each tool, and what is to be left alone.
    pub(super) fn load(&self, now: Instant) -> Load {
        let mut state = self.shared.lock();
        state.resting.retain(|_, until| *until > now);
        let mut counts: HashMap<&Pair, i64> = HashMap::new();
        for pair in state.taken.values() {
            *counts.entry(pair).or_default() += 1;
        }
        counts.extend(state.resting.keys().map(|pair| (pair, LEFT_ALONE)));
        let mut load = Load::default();
        for ((team, tool), count) in counts {
            load.teams.push(team.clone());
            load.tools.push(tool.clone());
            load.counts.push(count);
        }
        load
    }

    /// Gives an execution a place.
    pub(super) fn take(&self, execution: &Execution) -> Place {
        let id = execution.id;
        self.shared.lock().taken.insert(id, pair(execution));
        Place { shared: Arc::clone(&self.shared), id }
    }

    /// Leaves the tool of an execution alone until then.
    pub(super) fn rest(&self, execution: &Execution, until: Instant) {
        let mut state = self.shared.lock();
        let known = state.resting.entry(pair(execution)).or_insert(until);
        *known = until.max(*known);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.lock().taken.remove(&self.id);
        self.shared.news.notify_one();
    }
}

fn pair(execution: &Execution) -> Pair {
    (execution.team_id.clone(), execution.tool_name.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution(tool: &str) -> Execution {
        let (team_id, tool_name) = ("team".into(), tool.into());
        Execution { id: types::new_id(), team_id, tool_name, ..Execution::default() }
    }

    fn counts(queue: &Queue, now: Instant) -> Vec<(String, i64)> {
        let Load { tools, counts, .. } = queue.load(now);
        let mut counts: Vec<_> = tools.into_iter().zip(counts).collect();
        counts.sort();
        counts
    }

    #[tokio::test]
    async fn a_place_is_free_again_however_its_call_ends_and_that_wakes_the_workers() {
        let (queue, now) = (Queue::new(3), Instant::now());
        let (a, b) = (queue.take(&execution("a")), queue.take(&execution("a")));
        let _c = queue.take(&execution("b"));
        assert_eq!((queue.free(), queue.ids().len()), (0, 3));
        assert_eq!(counts(&queue, now), [("a".into(), 2), ("b".into(), 1)]);
        drop(a);
        queue.woken().await;
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _place = b;
            panic!("the task");
        }));
        queue.woken().await;
        assert_eq!((queue.free(), counts(&queue, now)), (2, vec![("b".into(), 1)]));
    }

    #[test]
    fn the_others_are_told_now_and_then_while_there_is_no_place() {
        let (queue, minute, now) = (Queue::new(1), Duration::from_mins(1), Instant::now());
        assert!(!queue.overflows(minute, now));
        let _place = queue.take(&execution("a"));
        let told = [now, now, now + minute].map(|at| queue.overflows(minute, at));
        assert_eq!(told, [true, false, true]);
    }

    #[test]
    fn one_tool_may_have_half_and_at_least_one() {
        assert_eq!([0, 1, 2, 3, 10].map(|most| Queue::new(most).most_of_one()), [1, 1, 1, 1, 5]);
    }

    #[test]
    fn a_tool_at_rest_is_left_alone_for_the_longest_time_asked() {
        let (queue, now, second) = (Queue::new(10), Instant::now(), Duration::from_secs(1));
        let one = execution("a");
        queue.rest(&one, now + 5 * second);
        queue.rest(&one, now + second);
        let _place = queue.take(&one);
        assert_eq!(counts(&queue, now + 4 * second), [("a".into(), LEFT_ALONE)]);
        assert_eq!(counts(&queue, now + 6 * second), [("a".into(), 1)]);
    }
}
