//! Payloads that are said to be erased, and whether the file has the event that says so.

use std::collections::{HashMap, HashSet};

/// Most data subjects that are kept count of.
const MOST: usize = 65_536;

/// Erased payloads by data subject.
#[derive(Debug, Default)]
pub(super) struct Erased {
    payloads: HashMap<String, u64>,
    explained: HashSet<String>,
    beyond: u64,
}

impl Erased {
    /// A payload of this subject is said to be erased.
    pub fn payload(&mut self, subject_id: &str) {
        if let Some(payloads) = self.payloads.get_mut(subject_id) {
            *payloads += 1;
        } else if self.payloads.len() < MOST {
            self.payloads.insert(subject_id.to_owned(), 1);
        } else {
            self.beyond += 1;
        }
    }

    /// A record that is proven.
    pub fn seen(&mut self, action: &str, subject_id: &str) {
        if action == "subject_erased" && self.explained.len() < MOST {
            self.explained.insert(subject_id.to_owned());
        }
    }

    /// How many payloads are said to be erased without an event in the file that says so of their subject.
    pub fn unshown(&self) -> u64 {
        let unshown = self.payloads.iter().filter(|(subject, _)| !self.explained.contains(subject.as_str()));
        self.beyond + unshown.map(|(_, payloads)| payloads).sum::<u64>()
    }
}
