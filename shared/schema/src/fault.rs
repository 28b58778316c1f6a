//! What is wrong with a schema, and where. Repeats no more of the schema than a reader needs.

use std::fmt;

/// Longest part of a schema that is repeated, in characters.
const MOST: usize = 200;

/// Why a schema is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// RFC 6901 JSON pointer of the offending place in the schema; empty for the whole.
    pub pointer: String,
    /// What is wrong there, as the rest of a sentence that the place begins.
    pub message: String,
}

impl Fault {
    pub(crate) fn at(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }

    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self::at("", message)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.pointer.is_empty() {
            write!(f, "at {} ", brief(&self.pointer))?;
        }
        f.write_str(&self.message)
    }
}

/// The beginning of a text: what the validator says may repeat all of the schema.
pub(crate) fn brief(text: &str) -> String {
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One step of a JSON pointer (RFC 6901, section 3).
pub(crate) fn step(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}
