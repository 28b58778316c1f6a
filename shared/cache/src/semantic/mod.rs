//! The cached answer to nearly the same text. Off unless a tool's settings ask for it, and even then nothing
//! is served before it has been shown, on this tool's own calls, that the answers agree often enough.
//!
//! The match is lexical: it sees words and spelling, not meaning. What changes meaning in few letters
//! (numbers, dates, symbols, negations, opposites, directions) must be equal, and no word may stand in place
//! of another, whatever the similarity. So it finds the same question in other order, case, punctuation or
//! politeness, and no synonyms.

mod guard;
mod index;
mod matcher;
mod text;
mod vector;
mod words;

use serde_json::Value;

pub use guard::{Mode, Standing};
pub use matcher::{Look, Matched, Matcher};

use crate::{
    Key,
    key::{digest, joined},
};

/// Longest text that is matched, in bytes; a longer one is a document, not a question.
const MAX_TEXT_BYTES: usize = 1_000;

/// How a tool's answers may serve calls with nearly the same text.
#[derive(Clone, Debug, PartialEq)]
pub struct Semantic {
    /// Name of the text argument that need not be equal; all others must be.
    pub field: String,
    /// Least cosine similarity of the texts, above 0 and at most 1.
    pub min_similarity: f64,
    /// Bound on the share of wrong answers among those served, between 0 and 1.
    pub max_error: f64,
    /// Share of would-be hits that are called and compared nevertheless, above 0 and at most 1.
    pub shadow_rate: f64,
}

/// What is wrong with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SemanticError {
    /// No field.
    #[error("field must not be empty")]
    Field,
    /// Not above 0 and at most 1.
    #[error("min_similarity must be above 0 and at most 1")]
    MinSimilarity,
    /// Not between 0 and 1.
    #[error("max_error must be above 0 and below 1")]
    MaxError,
    /// Not above 0 and at most 1: without comparing nothing would notice that answers have become wrong.
    #[error("shadow_rate must be above 0 and at most 1")]
    ShadowRate,
}

impl Semantic {
    /// All faults of the settings; empty when there are none.
    pub fn faults(&self) -> Vec<SemanticError> {
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let checks = [
            (!self.field.is_empty(), SemanticError::Field),
            (share(self.min_similarity), SemanticError::MinSimilarity),
            (share(self.max_error) && self.max_error < 1.0, SemanticError::MaxError),
            (share(self.shadow_rate), SemanticError::ShadowRate),
        ];
        checks.into_iter().filter(|(fine, _)| !fine).map(|(_, fault)| fault).collect()
    }

    fn digest(&self) -> String {
        let numbers =
            [self.min_similarity, self.max_error, self.shadow_rate].map(|number| number.to_string());
        let [similarity, error, rate] = &numbers;
        types::digest_bytes(&joined(&[&self.field, similarity, error, rate]))
    }
}

/// A call that may be answered by what nearly the same text was answered with.
#[derive(Clone, Debug)]
pub struct Question {
    key: Key,
    settings: Semantic,
    settings_digest: String,
    /// Team, tool, its digest, scope and the other arguments: all that must be equal.
    group: String,
    text: text::Text,
}

impl Question {
    /// The question that a call asks; `None` when the settings are faulty, the field is no text or a very
    /// long or empty one, or the other arguments may not be cached.
    pub fn of(key: &Key, arguments: &Value, settings: &Semantic) -> Option<Self> {
        let mut others = arguments.as_object()?.clone();
        let Some(Value::String(raw)) = others.remove(&settings.field) else { return None };
        if raw.len() > MAX_TEXT_BYTES || !settings.faults().is_empty() {
            return None;
        }
        let others = digest(&Value::Object(others))?;
        let parts = [&key.team, &key.tool, &key.tool_digest, &key.scope, &settings.field, &others];
        Some(Self {
            key: key.clone(),
            settings: settings.clone(),
            settings_digest: settings.digest(),
            group: types::digest_bytes(&joined(&parts.map(String::as_str))),
            text: text::Text::of(&raw)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn settings() -> Semantic {
        Semantic { field: "q".into(), min_similarity: 0.8, max_error: 0.05, shadow_rate: 0.1 }
    }

    fn question(arguments: &Value, scope: &str) -> Option<Question> {
        let key = Key::of("team", "tool", "digest", scope, &json!(null)).unwrap();
        Question::of(&key, arguments, &settings())
    }

    #[test]
    fn everything_but_the_text_must_be_equal() {
        let group = |arguments: Value, scope: &str| question(&arguments, scope).unwrap().group;
        let one = group(json!({"q": "weather in Paris", "n": 1}), "");
        assert_eq!(one, group(json!({"n": 1, "q": "another text"}), ""));
        assert_ne!(one, group(json!({"q": "weather in Paris", "n": 2}), ""));
        assert_ne!(one, group(json!({"q": "weather in Paris"}), ""));
        assert_ne!(one, group(json!({"q": "weather in Paris", "n": 1}), "another credential"));
    }

    #[test]
    fn what_is_no_short_text_asks_nothing() {
        for q in [json!(1), json!(null), json!(["a"]), json!(""), json!(" ?! "), json!("a ".repeat(501))] {
            assert!(question(&json!({"q": q}), "").is_none(), "{q}");
        }
        assert!(question(&json!({"other": "a"}), "").is_none());
        assert!(question(&json!({"q": "a", "n": 9_007_199_254_740_993_u64}), "").is_none());
    }

    #[test]
    fn all_faults_are_told() {
        assert!(settings().faults().is_empty());
        let wrong =
            Semantic { field: String::new(), min_similarity: 1.1, max_error: 1.0, shadow_rate: f64::NAN };
        assert_eq!(wrong.faults().len(), 4);
    }
}
