//! Events on their way from the commit that wrote them, in memory: at most so many, so that a receiver out of reach
//! fills the table and never the process.

use std::collections::VecDeque;

use chrono::Utc;

use super::{AT_A_TIME, Course, DeliveryFailed, Event, MAX_BYTES, Outbox};

/// Most events that wait in memory.
const MAX_EVENTS: usize = 8_192;
/// Most bytes of their payloads.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// The events that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    events: VecDeque<Event>,
    bytes: usize,
}

impl Fresh {
    /// Adds events as long as there is room, and tells whether there were none before.
    pub fn add(&mut self, events: impl IntoIterator<Item = Event>) -> bool {
        let was_empty = self.events.is_empty();
        for event in events {
            if self.events.len() < MAX_EVENTS && self.bytes + event.1.len() <= MAX_WAITING_BYTES {
                self.bytes += event.1.len();
                self.events.push_back(event);
            }
        }
        was_empty
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// The oldest events, as many as go into one delivery.
    fn take(&mut self, most: usize) -> Vec<Event> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some((_, payload)) = self.events.front() {
            bytes += payload.len();
            if taken.len() >= most || (bytes > MAX_BYTES && !taken.is_empty()) {
                break;
            }
            self.bytes -= payload.len();
            taken.extend(self.events.pop_front());
        }
        taken
    }

    /// Puts events back where they were, as long as there is room.
    fn put_back(&mut self, events: Vec<Event>) {
        for event in events.into_iter().rev() {
            if self.events.len() < MAX_EVENTS && self.bytes + event.1.len() <= MAX_WAITING_BYTES {
                self.bytes += event.1.len();
                self.events.push_front(event);
            }
        }
    }
}

impl Outbox {
    /// Delivers what was handed over, and tells whether there is more. What a receiver out of reach did not see is
    /// tried again; what it refuses is left to those that search the table, and what is no longer there was undone by
    /// a crash of the database, or delivered by another process.
    pub(super) async fn deliver_fresh<D, F>(
        &self,
        deliver: &D,
        course: &mut Course,
    ) -> Result<bool, DeliveryFailed>
    where
        D: Fn(Vec<Vec<u8>>) -> F,
        F: Future<Output = Result<(), DeliveryFailed>>,
    {
        for _ in 0..AT_A_TIME {
            let events = self.fresh().take(self.batch);
            if events.is_empty() {
                return Ok(false);
            }
            let left_behind = course.oldest;
            self.note_oldest(course, left_behind.or_else(|| Some(Utc::now())));
            let events = match self.confirmed(course, &events).await {
                Ok(ids) => events.into_iter().filter(|(id, _)| ids.contains(id)).collect(),
                Err(error) => {
                    self.fresh().put_back(events);
                    return Err(error.into());
                }
            };
            let parted = self.deliver_parts(deliver, events).await;
            course.delivered.extend(parted.taken);
            self.fresh().put_back(parted.unseen);
            if let Some(failed) = parted.failed {
                return Err(failed);
            }
            self.note_oldest(course, left_behind);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(ids: impl IntoIterator<Item = i64>, bytes: usize) -> Vec<Event> {
        ids.into_iter().map(|id| (id, vec![0; bytes])).collect()
    }

    fn ids(events: &[Event]) -> Vec<i64> {
        events.iter().map(|(id, _)| *id).collect()
    }

    #[test]
    fn events_leave_in_their_order_and_what_is_put_back_comes_first() {
        let mut fresh = Fresh::default();
        assert!(fresh.add(events(0..5, 1)) && !fresh.add(events(5..6, 1)));
        let taken = fresh.take(3);
        assert_eq!(ids(&taken), [0, 1, 2]);
        fresh.put_back(taken);
        assert_eq!(ids(&fresh.take(10)), [0, 1, 2, 3, 4, 5]);
        assert!(fresh.is_empty() && fresh.bytes == 0);
    }

    #[test]
    fn a_delivery_is_bounded_in_bytes_but_for_one_large_event() {
        let mut fresh = Fresh::default();
        fresh.add(events([1], MAX_BYTES * 2));
        fresh.add(events(2..6, MAX_BYTES / 2));
        assert_eq!(ids(&fresh.take(10)), [1]);
        assert_eq!(ids(&fresh.take(10)), [2, 3]);
    }

    #[test]
    fn memory_is_bounded_in_events_and_bytes() {
        let mut fresh = Fresh::default();
        fresh.add(events(0..20_000, 1));
        assert_eq!(fresh.events.len(), MAX_EVENTS);
        let mut fresh = Fresh::default();
        fresh.add(events(0..100, MAX_WAITING_BYTES / 10));
        assert_eq!(fresh.events.len(), 10);
        fresh.put_back(events([7], 10));
        assert_eq!((fresh.events.len(), fresh.bytes), (10, MAX_WAITING_BYTES / 10 * 10));
    }
}
