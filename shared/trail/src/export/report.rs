//! What came out of reading a file.

use std::ops::Range;

use super::{Fault, Manifest};

/// Most faults and ranges that are told one by one; of the rest, the number.
const MOST: usize = 100;

/// What a file proves, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the file is said to hold, once that is known to be signed.
    pub manifest: Option<Manifest>,
    /// The key that signed, as `name+hash`.
    pub signed_by: String,
    /// Whether that key was given by whoever asks, not by the file alone.
    pub key_known: bool,
    /// Lines read.
    pub lines: u64,
    /// Records whose headers are proven, in their places.
    pub proven: u64,
    /// The same as ranges of indexes; at most the first 100.
    pub ranges: Vec<Range<u64>>,
    /// Payloads that are proven.
    pub payloads: u64,
    /// Payloads that are said to be erased.
    pub erased: u64,
    /// Of these: without an event in the file that says so of their data subject.
    pub erased_unshown: u64,
    /// Records that are said to be gone since their retention ended.
    pub ended: u64,
    /// Of these: by events of which not all is in the file.
    pub ended_unshown: u64,
    /// Known checkpoints that the tree was compared with and holds.
    pub checkpoints: Vec<String>,
    /// Known checkpoints that it cannot be compared with by this file.
    pub unchecked: Vec<String>,
    /// The first 100, in the order of their lines.
    pub faults: Vec<Fault>,
    /// How many there are.
    pub fault_count: u64,
}

impl Report {
    /// Whether nothing is wrong. What is said to be erased or to have ended may still not be shown: [`Self::is_shown`].
    pub const fn is_whole(&self) -> bool {
        self.fault_count == 0
    }

    /// Whether the file itself shows why each payload and each record that is not in it is gone.
    pub const fn is_shown(&self) -> bool {
        self.erased_unshown == 0 && self.ended_unshown == 0
    }

    /// The first thing that is wrong.
    pub fn first(&self) -> Option<&Fault> {
        self.faults.first()
    }

    pub(super) fn tell(&mut self, fault: Fault) {
        self.fault_count += 1;
        // What is settled later may be about an earlier line.
        let at = self.faults.partition_point(|each| each.line <= fault.line);
        self.faults.insert(at, fault);
        self.faults.truncate(MOST);
    }

    pub(super) fn prove(&mut self, index: u64) {
        self.proven += 1;
        let full = self.ranges.len() >= MOST;
        match self.ranges.last_mut() {
            Some(range) if range.end == index => range.end += 1,
            _ if full => {}
            _ => self.ranges.push(index..index + 1),
        }
    }
}
