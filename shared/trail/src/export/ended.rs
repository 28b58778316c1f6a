//! Records whose retention has ended: the event that says so names how many, and a digest of their positions.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::canonical;

/// Most events that are kept count of.
const MOST: usize = 65_536;

/// The message of an event `retention_applied`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Of which classification they were.
    pub classification: String,
    /// [`EndedDigest`] in hex.
    pub digest: String,
    /// Of which month, as YYYY-MM.
    pub month: String,
    /// How many they were.
    pub records: u64,
}

impl Ended {
    /// The message.
    pub fn message(&self) -> String {
        String::from_utf8(canonical::bytes(self)).expect("JSON is UTF-8")
    }

    /// Reads one.
    pub fn parse(message: &str) -> Option<Self> {
        serde_json::from_str(message).ok()
    }
}

/// SHA-256 over positions in their order, each as 8 bytes, big-endian. A position is an event's sequence: the index of
/// its leaf and one.
#[derive(Debug, Clone, Default)]
pub struct EndedDigest {
    digest: Sha256,
    records: u64,
}

impl EndedDigest {
    /// Of none.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the next position.
    pub fn push(&mut self, position: u64) {
        self.digest.update(position.to_be_bytes());
        self.records += 1;
    }

    /// How many there were.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// In hex.
    pub fn finish(self) -> String {
        hex::encode(self.digest.finalize())
    }
}

/// What a file says of an event.
#[derive(Debug, Default)]
struct Said {
    line: u64,
    index: u64,
    last: u64,
    gone: EndedDigest,
}

/// What a file says has ended, and the events that explain it.
#[derive(Debug, Default)]
pub(super) struct Explained {
    said: HashMap<String, Said>,
    /// With the indexes of their records.
    events: HashMap<String, (u64, Event)>,
}

/// An event that may explain it.
#[derive(Debug)]
enum Event {
    /// It is about something else.
    Other,
    /// It does; but its payload is not in the file.
    Unread,
    /// It does.
    Read(Ended),
}

/// How it came out.
#[derive(Debug)]
pub(super) enum Outcome {
    /// So many records are gone by events that are not all in the file.
    Unshown(u64),
    /// Line and index of the first record that is wrongly said to be gone, the event, and why.
    Wrong(u64, u64, String),
}

impl Explained {
    /// A record is said to be gone; false: by more events than can be kept count of.
    pub fn gone(&mut self, line: u64, index: u64, event_id: &str) -> bool {
        if !self.said.contains_key(event_id) {
            if self.said.len() >= MOST {
                return false;
            }
            self.said.insert(event_id.to_owned(), Said { line, index, ..Said::default() });
        }
        let said = self.said.get_mut(event_id).expect("was put in");
        said.gone.push(index + 1);
        said.last = index;
        true
    }

    /// A record that is proven. Only events that say so, or that are said to, are kept.
    pub fn seen(&mut self, index: u64, action: &str, id: &str, message: impl FnOnce() -> Option<String>) {
        let says = action == "retention_applied";
        if (says || self.said.contains_key(id)) && self.events.len() < MOST {
            let read = || message().and_then(|message| Ended::parse(&message));
            let event = if says { read().map_or(Event::Unread, Event::Read) } else { Event::Other };
            self.events.insert(id.to_owned(), (index, event));
        }
    }

    /// Compares. An event stands behind the records it is about: where the file reaches to the end of the tree, it
    /// must have it, unless the event's own retention has ended.
    pub fn finish(self, reaches_end: bool) -> Vec<Outcome> {
        let must_be_there = reaches_end && self.events.len() < MOST;
        let newest = self.said.values().map(|said| said.last).max();
        let judged = self.said.into_iter().filter_map(|(event_id, said)| {
            let records = said.gone.records();
            let event = self.events.get(&event_id);
            let why = match event.map(|(_, event)| event) {
                Some(_) if event.is_some_and(|(index, _)| *index <= said.last) => {
                    format!("event {event_id} stands before record {}, which it cannot be about", said.last)
                }
                None if must_be_there && Some(said.last) == newest => {
                    format!("there is no event {event_id} in the rest of the trail")
                }
                None | Some(Event::Unread) => return Some(Outcome::Unshown(records)),
                Some(Event::Other) => format!("event {event_id} does not say so"),
                Some(Event::Read(ended)) if records < ended.records => {
                    return Some(Outcome::Unshown(records));
                }
                Some(Event::Read(ended))
                    if records == ended.records && said.gone.finish() == ended.digest =>
                {
                    return None;
                }
                Some(Event::Read(ended)) => {
                    let told = ended.records;
                    format!("event {event_id} says so of {told} others than the {records} of this file")
                }
            };
            Some(Outcome::Wrong(said.line, said.index, why))
        });
        judged.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_event_explains_a_record_behind_it() {
        let told = |index: u64| {
            let mut digest = EndedDigest::new();
            digest.push(index + 1);
            let ended = Ended {
                classification: "internal".into(),
                month: "2026-01".into(),
                records: 1,
                digest: digest.finish(),
            };
            ended.message()
        };
        let judged = |index: u64, event: u64| {
            let mut explained = Explained::default();
            if event < index {
                explained.seen(event, "retention_applied", "e", || Some(told(index)));
            }
            assert!(explained.gone(1, index, "e"));
            if event > index {
                explained.seen(event, "retention_applied", "e", || Some(told(index)));
            }
            explained.finish(true)
        };
        assert!(judged(5, 9).is_empty());
        assert!(matches!(&judged(5, 3)[..], [Outcome::Wrong(1, 5, why)] if why.contains("stands before")));
    }
}
