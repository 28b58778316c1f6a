//! A regular expression that a text matches from its beginning to its end. Bounded in size when it is written, and
//! linear in time by construction; one that cannot be used matches nothing.

use std::sync::{Arc, OnceLock};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// Most bytes of the text of one.
const MAX_TEXT: usize = 1_024;
/// Most bytes of one when compiled.
const MAX_COMPILED: usize = 4 << 20;
/// Most bytes of a text that is matched.
const MAX_MATCHED: usize = 1 << 20;

/// Compiled when first asked, and then shared by all that were cloned from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub(super) struct Pattern {
    text: String,
    compiled: Arc<OnceLock<Option<Regex>>>,
}

impl Pattern {
    /// One that was just written, or what is wrong with it.
    pub(super) fn checked(text: String) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!("has more than {MAX_TEXT} bytes"));
        }
        // Alone too: what closes a group that it did not open would leave the one that holds it together.
        for whole in [text.clone(), anchored(&text)] {
            build(&whole).map_err(|error| format!("is no regular expression that can be used: {error}"))?;
        }
        Ok(text.into())
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn matches(&self, value: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| build(&anchored(&self.text)).ok());
        value.len() <= MAX_MATCHED && compiled.as_ref().is_some_and(|compiled| compiled.is_match(value))
    }
}

fn anchored(text: &str) -> String {
    format!(r"\A(?:{text})\z")
}

fn build(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build()
}

impl From<String> for Pattern {
    fn from(text: String) -> Self {
        Self { text, compiled: Arc::default() }
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.text
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}
