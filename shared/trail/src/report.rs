//! The file of a report: a header, rows, and an end that is signed with the key of the checkpoints.
//!
//! | format | header | a row | end |
//! |---|---|---|---|
//! | JSON Lines | `{"format":"toolcrib-report/1",…}` | `{"leaf_index":…,"leaf_hash":…,…}` | `{"checkpoint":…,"end":true,…}` |
//! | CSV (RFC 4180) | a line `# toolcrib-report/1 {…}`, then the names of the columns | fields | a line `# end {…}` |
//! | HTML | `<!doctype html><!-- toolcrib-report/1 -->` | none: sums and charts | a comment, `<!-- toolcrib-report end {…} -->` |
//!
//! The end is the last line. Its [`Summary`], a signed note, has the SHA-256 of every byte before that line, the number of
//! rows, and which leaves of which tree were looked through. With an export of those leaves, [`Completeness`] shows offline
//! that the report has each row that it must have, and no other. Asks nobody, and never believes an end by itself.

mod complete;
mod end;
mod framework;
mod rows;
mod summary;
mod verify;

pub use complete::Completeness;
pub use end::{End, end_of_csv, end_of_html, end_of_jsonl};
pub use framework::{Framework, Query};
pub use summary::Summary;
pub use verify::{Checked, Verifier};

/// What the first line calls the format.
pub const FORMAT: &str = "toolcrib-report/1";

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON Lines.
    Jsonl,
    /// RFC 4180.
    Csv,
    /// A page for people.
    Html,
}

impl Format {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Html => "html",
        }
    }

    /// What a file of this format begins with.
    pub fn mark(self) -> String {
        match self {
            Self::Jsonl => format!("{{\"format\":\"{FORMAT}\""),
            Self::Csv => format!("# {FORMAT} "),
            Self::Html => format!("<!doctype html><!-- {FORMAT} -->"),
        }
    }

    fn of(first_line: &[u8]) -> Option<Self> {
        [Self::Jsonl, Self::Csv, Self::Html]
            .into_iter()
            .find(|format| first_line.starts_with(format.mark().as_bytes()))
    }
}

/// Whether a file that begins with this line says that it is a report.
pub fn is_report(first_line: &[u8]) -> bool {
    Format::of(first_line).is_some()
}
