//! Lines that are no record of the tree: whether each stands in for a record or was added shows only when the next
//! record that is one tells how many are missing.

use std::collections::VecDeque;

use super::{Fault, Kind};

/// Most lines that are kept in doubt; of more, the first are taken to stand in for records.
const MOST: usize = 4_096;

/// Lines in doubt, in order.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    lines: VecDeque<Fault>,
}

impl Suspects {
    /// Takes one; gives that which need not be kept in doubt any more, as standing in for a record.
    pub fn push(&mut self, fault: Fault) -> Option<Fault> {
        let full = self.lines.len() >= MOST;
        let first = if full { self.lines.pop_front() } else { None };
        self.lines.push_back(fault);
        first
    }

    /// Decides, once `gap` records from `expected` on are known not to have come otherwise: so many lines stand in for
    /// them, the rest were added. Gives how many records are still missing.
    pub fn settle(&mut self, expected: u64, gap: u64, mut tell: impl FnMut(Fault)) -> u64 {
        let mut missing = gap;
        for (place, mut fault) in (expected..).zip(self.lines.drain(..)) {
            if missing > 0 {
                fault.index = Some(place);
                missing -= 1;
                if fault.kind == Kind::Beyond {
                    fault.kind = Kind::Altered;
                }
            } else if fault.kind == Kind::Altered {
                fault.index = Some(expected + gap);
                fault.kind = Kind::Inserted;
            }
            tell(fault);
        }
        missing
    }
}
