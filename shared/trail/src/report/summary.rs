//! What is signed of a report: whose it is, what it is about, how many rows, the digest of all that stands before its end,
//! and the leaves that were looked through for it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Framework, Query};
use crate::{
    Hash, canonical,
    canonical::is_empty,
    note::{self, NoteError, SigningKey, VerifierKey},
};

/// First line of its note. No origin of a tree looks like it, so that it is never taken for a checkpoint.
const TITLE: &str = "toolcrib report 1";

/// The text of a signed note: the title, then canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// From when on every record is kept, where the period reaches further back. RFC 3339.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub available_start_time: String,
    /// Index of the first leaf that was looked at.
    pub begin: u64,
    /// SHA-256 of every byte before the line of the end, in hex.
    pub digest: String,
    /// Index after the last leaf.
    pub end: u64,
    /// Events before this time. RFC 3339.
    pub end_time: String,
    /// [`super::Format::name`].
    pub format: String,
    /// [`Framework::name`].
    pub framework: String,
    /// When it was made. RFC 3339.
    pub generate_time: String,
    /// Origin of the tree.
    pub origin: String,
    /// Root of the tree, in hex.
    pub root: String,
    /// How many rows there are.
    pub rows: u64,
    /// Number of leaves of the tree.
    pub size: u64,
    /// Events at or after this time. RFC 3339.
    pub start_time: String,
    /// Pseudonyms of the data subject; none: of whomever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_ids: Option<Vec<String>>,
    /// Team.
    pub team_id: String,
}

impl Summary {
    /// The text of the note.
    pub fn text(&self) -> String {
        let json = String::from_utf8(canonical::bytes(self)).expect("JSON is UTF-8");
        format!("{TITLE}\n{json}\n")
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), key)
    }

    /// Reads a signed note and checks its signature by one of these keys.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        let text = note::open(note, keys)?;
        let json = text.strip_prefix(TITLE).and_then(|rest| rest.strip_prefix('\n'));
        let json = json.ok_or(NoteError::Malformed("it is not the summary of a report"))?;
        serde_json::from_str(json).map_err(|_| NoteError::Malformed("the summary cannot be read"))
    }

    /// What was asked for; what is wrong otherwise.
    pub fn query(&self) -> Result<Query, String> {
        let time = |name: &str, text: &str| -> Result<DateTime<Utc>, String> {
            let read = DateTime::parse_from_rfc3339(text);
            read.map(|at| at.to_utc()).map_err(|_| format!("{name} of the report is no time: {text:?}"))
        };
        let framework = Framework::parse(&self.framework)
            .ok_or_else(|| format!("this program does not know the framework {:?}", self.framework))?;
        Ok(Query {
            framework,
            start: time("start_time", &self.start_time)?,
            end: time("end_time", &self.end_time)?,
            subjects: self.subject_ids.clone(),
        })
    }

    /// Whether it is about a tree of that origin, size and root, and its range lies in it.
    pub(super) fn fits(&self, origin: &str, size: u64, root: &Hash) -> bool {
        let tree = self.origin == origin && self.size == size && self.root == root.to_string();
        tree && self.begin <= self.end && self.end <= size
    }
}
