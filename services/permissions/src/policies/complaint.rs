//! What is wrong with a policy's text, at its place. Pure; lines and columns are those that people count.

use std::fmt;

use miette::Diagnostic;

/// Most complaints that are told of one text.
const MAX_COMPLAINTS: usize = 20;

/// What is wrong at a place of a policy's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What Cedar, or the suite, says.
    pub message: String,
    /// What to do; may be empty.
    pub help: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}: {}", self.line, self.column, self.message)?;
        if self.help.is_empty() { Ok(()) } else { write!(formatter, "; {}", self.help) }
    }
}

/// What Cedar says: where in bytes, what, and what to do.
pub(super) type Told = (usize, String, String);

/// What one of Cedar's errors or warnings says.
pub(super) fn told(error: &impl Diagnostic) -> Told {
    let mut message = error.to_string();
    // Validation repeats the policy's id.
    if let Some((_, rest)) = message.strip_prefix("for policy `").and_then(|rest| rest.split_once("`, ")) {
        message = String::from(rest);
    }
    let label = error.labels().and_then(|mut labels| labels.next());
    let offset = label.as_ref().map_or(0, miette::LabeledSpan::offset);
    if let Some(said) = label.as_ref().and_then(miette::LabeledSpan::label) {
        message = format!("{message}: {said}");
    }
    (offset, message, error.help().map(|help| help.to_string()).unwrap_or_default())
}

/// In the order of the text, each once.
pub(super) fn complaints(text: &str, told: impl Iterator<Item = Told>) -> Vec<Complaint> {
    let mut found: Vec<_> = told.map(|(offset, message, help)| at(text, offset, message, help)).collect();
    found.sort_by_key(|complaint| (complaint.line, complaint.column));
    found.dedup();
    found.truncate(MAX_COMPLAINTS);
    found
}

/// A complaint at this byte of the text.
pub(super) fn at(text: &str, offset: usize, message: String, help: String) -> Complaint {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or(before);
    Complaint { line: before.matches('\n').count() + 1, column: line.chars().count() + 1, message, help }
}
