//! What a file is said to hold, signed by the key of the checkpoint: no record can be left out at an end of the file
//! without the file saying that it has another range, which nobody else can sign.

use serde::{Deserialize, Serialize};

use crate::{
    Hash, canonical,
    canonical::is_empty,
    note::{self, NoteError, SigningKey, VerifierKey},
};

/// First line of its note. No origin of a tree looks like it, so that it is never taken for a checkpoint.
const TITLE: &str = "toolcrib trail export 1";

/// The text of a signed note: the title, then canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Index of the first record.
    pub begin: u64,
    /// Index after the last record.
    pub end: u64,
    /// Asked for: events before this time; empty: to the newest checkpoint. RFC 3339.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub end_time: String,
    /// When the file was made. RFC 3339.
    pub export_time: String,
    /// Whether payloads are left out.
    pub headers_only: bool,
    /// Origin of the tree.
    pub origin: String,
    /// Root of the tree, in hex.
    pub root: String,
    /// Number of leaves of the tree.
    pub size: u64,
    /// Asked for: events at or after this time; empty: from the first. RFC 3339.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub start_time: String,
    /// Team whose trail it is.
    pub team_id: String,
}

impl Manifest {
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
        let json = json.ok_or(NoteError::Malformed("it is not the manifest of an export"))?;
        serde_json::from_str(json).map_err(|_| NoteError::Malformed("the manifest cannot be read"))
    }

    /// Whether it is about a tree of that origin, size and root, and its range lies in it.
    pub(crate) fn fits(&self, origin: &str, size: u64, root: &Hash) -> bool {
        let tree = self.origin == origin && self.size == size && self.root == root.to_string();
        tree && self.begin <= self.end && self.end <= size
    }
}
