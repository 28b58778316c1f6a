//! Reads a file line by line and says what it proves. Keeps a few tiles of hashes, never the records; asks nobody.

mod first;
mod records;

use super::{
    Fault, Kind, Report,
    ended::{Explained, Outcome},
    erased::Erased,
    lines::{First, Line},
    path::Path,
    suspects::Suspects,
};
use crate::{Checkpoint, Hash, note::VerifierKey};

/// A checkpoint that was kept elsewhere, to compare the tree with.
#[derive(Debug, Clone)]
pub struct KnownCheckpoint {
    /// For people: where it comes from.
    pub name: String,
    /// The signed note.
    pub note: String,
}

/// Reads a file.
#[derive(Debug)]
pub struct Verifier {
    keys: Vec<VerifierKey>,
    known: Vec<KnownCheckpoint>,
    line: u64,
    again: Vec<u8>,
    report: Report,
    body: Option<Body>,
    done: bool,
}

/// What is known between the first line and the last.
#[derive(Debug)]
struct Body {
    path: Path,
    begin: u64,
    end: u64,
    /// Leaves of the tree.
    size: u64,
    headers_only: bool,
    /// Index of the record that comes next.
    expected: u64,
    suspects: Suspects,
    /// Of records before this index it was told already that the tiles to prove them by are not known.
    told: u64,
    /// Known checkpoints that the tree was not compared with yet.
    checkpoints: Vec<(String, Checkpoint)>,
    explained: Explained,
    erased: Erased,
    ahead: Option<Ahead>,
}

/// A record that is the tree's own and far ahead: it was moved here, or all before it is missing. The next line tells.
#[derive(Debug)]
struct Ahead {
    number: u64,
    line: Vec<u8>,
    index: u64,
    id: String,
}

impl Verifier {
    /// Believes these keys; without any, the key that the file itself names, and says so. Compares the tree with known
    /// checkpoints.
    pub fn new(keys: Vec<VerifierKey>, known: Vec<KnownCheckpoint>) -> Self {
        let report = Report { key_known: !keys.is_empty(), ..Report::default() };
        Self { keys, known, line: 0, again: Vec::new(), report, body: None, done: false }
    }

    /// Lines read so far.
    pub const fn lines(&self) -> u64 {
        self.line
    }

    /// Records that were looked at, of how many; `None` before the first line.
    pub fn progress(&self) -> Option<(u64, u64)> {
        self.body.as_ref().map(|body| (body.expected - body.begin, body.end - body.begin))
    }

    /// Reads the next line, with its newline. False: nothing of the file can be proven, and reading on is of no use.
    pub fn read(&mut self, line: &[u8]) -> bool {
        self.line += 1;
        self.report.lines = self.line;
        if self.line == 1 {
            match First::read(line) {
                Ok(first) => self.first(&first),
                Err(reason) => self.tell(None, "", Kind::Malformed(reason)),
            }
            return self.body.is_some();
        }
        if self.done {
            if self.report.faults.last().is_none_or(|fault| fault.kind != Kind::Behind) {
                self.tell(None, "", Kind::Behind);
            }
            return true;
        }
        let Some(mut body) = self.body.take() else { return false };
        let mut again = std::mem::take(&mut self.again);
        let read = Line::read(line, &mut again);
        self.settle_ahead(&mut body, read.as_ref().ok());
        match read {
            Ok(read) => self.take(&mut body, line, read),
            Err(reason) => self.suspect(&mut body, "", Kind::Malformed(reason)),
        }
        self.again = again;
        self.body = Some(body);
        true
    }

    /// A line that is longer than any that is written, and was not read whole.
    pub fn read_too_long(&mut self) -> bool {
        self.read(b"")
    }

    /// The hash of a leaf, as the tiles have it that were read last.
    pub fn leaf_hash(&self, index: u64) -> Option<Hash> {
        self.body.as_ref().and_then(|body| body.path.leaf(index)).copied()
    }

    /// Ends the file.
    pub fn finish(mut self) -> Report {
        let Some(mut body) = self.body.take() else {
            if self.line == 0 {
                self.line = 1;
                self.tell(None, "", Kind::Cut { last: None });
            }
            return self.report;
        };
        self.settle_ahead(&mut body, None);
        if !self.done {
            self.line += 1;
            let rest = body.end - body.expected;
            let missing = body.suspects.settle(body.expected, rest, |fault| self.report.tell(fault));
            let last = body.end.checked_sub(1).filter(|_| missing > 0);
            self.tell(last.map(|_| body.end - missing), "", Kind::Cut { last });
        }
        self.report.erased_unshown = body.erased.unshown();
        for outcome in body.explained.finish(self.report.is_whole() && body.end == body.size) {
            match outcome {
                Outcome::Unshown(records) => self.report.ended_unshown += records,
                Outcome::Wrong(line, index, why) => {
                    let id = String::new();
                    self.report.tell(Fault { line, index: Some(index), id, kind: Kind::NotEnded(why) });
                }
            }
        }
        self.report.unchecked = body.checkpoints.into_iter().map(|(name, _)| name).collect();
        self.report
    }

    fn tell(&mut self, index: Option<u64>, id: &str, kind: Kind) {
        self.report.tell(Fault { line: self.line, index, id: id.into(), kind });
    }
}
