//! The end of a report: its last line, in each format, written and read. Its text is JSON on one line.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::Format;
use crate::{Hash, RangeProof, canonical, export::decoded};

const CSV: (&str, &str) = ("# end ", "\r\n");
const HTML: (&str, &str) = ("<!-- toolcrib-report end ", " -->\n");

/// What the last line says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The signed checkpoint of the tree.
    pub checkpoint: String,
    #[serde(rename = "end")]
    is_last: bool,
    /// Index of the first leaf that was looked at.
    pub leaf_begin: u64,
    /// Index after the last leaf.
    pub leaf_end: u64,
    left: String,
    right: String,
    /// How many rows there are.
    pub rows: u64,
    /// [`super::Summary`] as a signed note.
    pub summary: String,
    /// The key that verifies it.
    pub verifier_key: String,
}

impl End {
    /// The end of a report over these leaves.
    pub fn new(
        checkpoint: &str,
        (leaf_begin, leaf_end): (u64, u64),
        proof: &RangeProof,
        rows: u64,
        (summary, verifier_key): (&str, &str),
    ) -> Self {
        Self {
            checkpoint: checkpoint.into(),
            is_last: true,
            leaf_begin,
            leaf_end,
            left: encoded(&proof.left),
            right: encoded(&proof.right),
            rows,
            summary: summary.into(),
            verifier_key: verifier_key.into(),
        }
    }

    /// Whether a line, without its line break, looks like the end of a report.
    pub fn is_one(line: &[u8]) -> bool {
        let begins = |mark: &str| line.starts_with(mark.as_bytes());
        begins("{\"checkpoint\":") || begins(CSV.0) || begins(HTML.0)
    }

    /// What stands left and right of the leaves; `None`: the hashes are none.
    pub fn proof(&self) -> Option<RangeProof> {
        Some(RangeProof { left: decoded(&self.left)?, right: decoded(&self.right)? })
    }

    fn json(&self) -> String {
        String::from_utf8(canonical::bytes(self)).expect("JSON is UTF-8")
    }

    /// Reads the last line of a file; what is wrong otherwise.
    pub(super) fn read(format: Format, line: &[u8]) -> Result<Self, String> {
        let cut = "the file has no end: it was cut off, or something stands behind its end";
        let text = std::str::from_utf8(line).map_err(|_| cut)?;
        let json = match format {
            Format::Jsonl => text.strip_suffix('\n').filter(|text| text.contains("\"end\":true")),
            Format::Csv => text.strip_prefix(CSV.0).and_then(|text| text.strip_suffix(CSV.1)),
            Format::Html => text.strip_prefix(HTML.0).and_then(|text| text.strip_suffix(HTML.1)),
        };
        let end: Self = serde_json::from_str(json.ok_or(cut)?).map_err(|_| cut)?;
        let again = match format {
            Format::Jsonl => end_of_jsonl(&end),
            Format::Csv => end_of_csv(&end),
            Format::Html => end_of_html(&end),
        };
        if end.is_last && again.as_bytes() == line {
            Ok(end)
        } else {
            Err("its end is not written as it must be".into())
        }
    }
}

/// The last line of JSON Lines.
pub fn end_of_jsonl(end: &End) -> String {
    end.json() + "\n"
}

/// The last line of CSV.
pub fn end_of_csv(end: &End) -> String {
    format!("{}{}{}", CSV.0, end.json(), CSV.1)
}

/// The last line of a page. No text in it can end the comment.
pub fn end_of_html(end: &End) -> String {
    let json = end.json().replace('-', "\\u002d").replace('>', "\\u003e").replace('<', "\\u003c");
    format!("{}{json}{}", HTML.0, HTML.1)
}

fn encoded(hashes: &[Hash]) -> String {
    BASE64.encode(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())
}
