//! What can be wrong with a file, and where.

use std::fmt;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line of the file, from 1, where it shows.
    pub line: u64,
    /// Index of the first record that it is about.
    pub index: Option<u64>,
    /// Id of the event as the line has it; empty: it has none that can be read.
    pub id: String,
    /// What it is.
    pub kind: Kind,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Checkpoint or manifest is not signed by the key; nothing of the file is proven.
    Unsigned(String),
    /// The manifest is about another tree than the checkpoint; nothing of the file is proven.
    OtherTree,
    /// The hashes of the first line do not lead to the signed root; nothing of the file is proven.
    Edge,
    /// The line is not of the form.
    Malformed(String),
    /// A header that is not the one in the tree at its place.
    Altered,
    /// A record that is not in the tree, or not here; the index is that of the record it stands before.
    Inserted,
    /// A record outside the range that the signed manifest says.
    Beyond,
    /// A payload that is not the one committed to; the header is proven.
    PayloadAltered,
    /// No payload, in a file that says it has them, or one in a file that says it has none; the header is proven.
    PayloadUnexpected,
    /// Records up to and with this one are missing before the line.
    Missing {
        /// The last of them.
        last: u64,
    },
    /// Missing where it belongs, it stands at another line.
    Moved {
        /// That line.
        to: u64,
    },
    /// A record that stood in the file before, or later than it should.
    Repeated,
    /// Hashes that are not the tree's own; records up to and with this one cannot be proven by this file.
    Tile {
        /// The last of them.
        last: u64,
    },
    /// Hashes that stand where they do not belong.
    TileMisplaced,
    /// A record before or without the hashes that would prove it and those up to and with this one.
    TileMissing {
        /// The last of them.
        last: u64,
    },
    /// The file ends without its last line; records up to and with this one are missing.
    Cut {
        /// The last of them; `None`: none is missing.
        last: Option<u64>,
    },
    /// The last line has another number of records than the signed manifest.
    Count,
    /// Lines after the last.
    Behind,
    /// The tree is smaller than one that a known checkpoint tells of.
    RolledBack {
        /// Which checkpoint.
        checkpoint: String,
        /// Its number of leaves.
        size: u64,
    },
    /// The tree is another one than that of a known checkpoint.
    Forked {
        /// Which checkpoint.
        checkpoint: String,
    },
    /// A known checkpoint is not one of this trail, or not signed by the key.
    BadCheckpoint {
        /// Which.
        checkpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// A payload is said to be erased with its data subject, of a record that has none.
    NotErased,
    /// Records are said to be gone since their retention ended, and the event does not say so.
    NotEnded(String),
}

impl Kind {
    /// Its name, for programs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "UNSIGNED",
            Self::OtherTree => "OTHER_TREE",
            Self::Edge => "EDGE",
            Self::Malformed(_) => "MALFORMED",
            Self::Altered => "ALTERED",
            Self::Inserted => "INSERTED",
            Self::Beyond => "BEYOND",
            Self::PayloadAltered => "PAYLOAD_ALTERED",
            Self::PayloadUnexpected => "PAYLOAD_UNEXPECTED",
            Self::Missing { .. } => "MISSING",
            Self::Moved { .. } => "MOVED",
            Self::Repeated => "REPEATED",
            Self::Tile { .. } => "HASHES_ALTERED",
            Self::TileMisplaced => "HASHES_MISPLACED",
            Self::TileMissing { .. } => "HASHES_MISSING",
            Self::Cut { .. } => "CUT",
            Self::Count => "COUNT",
            Self::Behind => "BEHIND",
            Self::RolledBack { .. } => "ROLLED_BACK",
            Self::Forked { .. } => "FORKED",
            Self::BadCheckpoint { .. } => "BAD_CHECKPOINT",
            Self::NotErased => "NOT_ERASED",
            Self::NotEnded(_) => "NOT_ENDED",
        }
    }
}

impl Fault {
    fn named(&self) -> String {
        if self.id.is_empty() { String::new() } else { format!(" (id {})", self.id) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        let record = self.index.map_or("a record".into(), |index| format!("record {index}")) + &self.named();
        let until = |last: u64| match self.index {
            Some(first) if first != last => format!("records {first} to {last}"),
            _ => record.clone(),
        };
        match &self.kind {
            Kind::Unsigned(reason) => {
                write!(f, "the checkpoint or the manifest is not to be believed: {reason}")
            }
            Kind::OtherTree => f.write_str("the manifest is about another tree than the checkpoint"),
            Kind::Edge => f.write_str("the hashes of the first line do not lead to the signed root"),
            Kind::Malformed(reason) => match self.index {
                Some(_) => write!(f, "{record} cannot be read: {reason}"),
                None => write!(f, "it cannot be read: {reason}"),
            },
            Kind::Altered => {
                write!(f, "{record} is not the one in the tree: its header was changed or replaced")
            }
            Kind::Inserted => {
                let place = self.index.unwrap_or_default();
                write!(f, "a record{} was added before record {place}: it has no place there", self.named())
            }
            Kind::Beyond => write!(f, "a record{} stands outside the range of the manifest", self.named()),
            Kind::PayloadAltered => {
                write!(f, "{record} has a payload or a salt that was changed; its header is proven")
            }
            Kind::PayloadUnexpected => {
                write!(
                    f,
                    "{record} has no payload, or has one, where the manifest says otherwise; its header is proven"
                )
            }
            Kind::Missing { last } => write!(f, "{} missing before this line", is_are(&until(*last))),
            Kind::Moved { to } => write!(f, "{record} is missing here and stands at line {to} instead"),
            Kind::Repeated => write!(f, "{record} stands here a second time, or later than it should"),
            Kind::Tile { last } => {
                write!(
                    f,
                    "these hashes are not the tree's own: {} not proven by this file",
                    is_are(&until(*last))
                )
            }
            Kind::TileMisplaced => f.write_str("these hashes stand where they do not belong"),
            Kind::TileMissing { last } => {
                write!(f, "the hashes are missing here by which {} proven", is_are(&until(*last)))
            }
            Kind::Cut { last: None } => f.write_str("the file ends without its last line"),
            Kind::Cut { last: Some(last) } => {
                write!(f, "the file ends here: {} missing", is_are(&until(*last)))
            }
            Kind::Count => f.write_str("the last line has another number of records than the manifest"),
            Kind::Behind => f.write_str("the file goes on after its last line"),
            Kind::RolledBack { checkpoint, size } => write!(
                f,
                "checkpoint {checkpoint} tells of {size} records, more than this tree has: the trail was rolled back, or \
                 the file is older than the checkpoint"
            ),
            Kind::Forked { checkpoint } => {
                write!(f, "checkpoint {checkpoint} was signed for another tree: the trail was rewritten")
            }
            Kind::BadCheckpoint { checkpoint, reason } => write!(f, "checkpoint {checkpoint}: {reason}"),
            Kind::NotErased => write!(
                f,
                "{record} is said to be erased with its data subject, and has none; its header is proven"
            ),
            Kind::NotEnded(reason) => write!(f, "{record} is said to have ended its retention: {reason}"),
        }
    }
}

fn is_are(what: &str) -> String {
    let verb = if what.starts_with("records ") { "are" } else { "is" };
    format!("{what} {verb}")
}
