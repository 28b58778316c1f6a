//! What an answer is kept under. Must never leave out a part on which the answer depends.

use serde_json::{Number, Value};

/// Largest integer that a double holds together with both its neighbours, 2^53 - 1 (RFC 7493, section 2.2).
const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Everything the answer of a call depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Id of the team.
    pub team: String,
    /// Name of the tool.
    pub tool: String,
    /// Digest of the tool's definition: a new version never answers with what an old one said.
    pub tool_digest: String,
    /// Scope of the credential the tool is called with; empty where it needs none.
    pub scope: String,
    /// SHA-256, in hex, of the RFC 8785 form of the arguments.
    pub arguments_digest: String,
}

impl Key {
    /// The key of a call; `None` when the arguments may not be cached, see [`cacheable`].
    pub fn of(team: &str, tool: &str, tool_digest: &str, scope: &str, arguments: &Value) -> Option<Self> {
        let arguments_digest = digest(arguments)?;
        Some(Self {
            team: team.to_owned(),
            tool: tool.to_owned(),
            tool_digest: tool_digest.to_owned(),
            scope: scope.to_owned(),
            arguments_digest,
        })
    }

    /// The team's tool as one string.
    pub(crate) fn tool_id(&self) -> String {
        tool_id(&self.team, &self.tool)
    }

    /// All parts, each behind its length, so that no two keys give the same bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        joined(&[&self.team, &self.tool, &self.tool_digest, &self.scope, &self.arguments_digest])
    }

    /// Bytes held by the key itself.
    pub(crate) fn size(&self) -> usize {
        let parts = [&self.team, &self.tool, &self.tool_digest, &self.scope, &self.arguments_digest];
        size_of::<Self>() + parts.iter().map(|part| part.len()).sum::<usize>()
    }
}

/// Digest of arguments; `None` when they may not be cached.
pub(crate) fn digest(arguments: &Value) -> Option<String> {
    cacheable(arguments).then(|| types::digest_json(arguments).ok()).flatten()
}

/// The team's tool as one string; no name holds a NUL.
pub(crate) fn tool_id(team: &str, tool: &str) -> String {
    format!("{team}\0{tool}")
}

/// The parts, each behind its length.
pub(crate) fn joined(parts: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

/// Whether no other arguments have the same RFC 8785 form. That form writes every number as a double:
/// integers beyond ±(2^53 - 1) fall together with their neighbours, and 1.0 with 1. Such a call bypasses the
/// cache.
pub fn cacheable(arguments: &Value) -> bool {
    match arguments {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => has_own_form(number),
        Value::Array(items) => items.iter().all(cacheable),
        Value::Object(fields) => fields.values().all(cacheable),
    }
}

fn has_own_form(number: &Number) -> bool {
    if let Some(integer) = number.as_i64() {
        return integer.unsigned_abs() <= MAX_SAFE_INTEGER;
    }
    !number.is_u64() && number.as_f64().is_some_and(|double| double.fract() != 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn what_rfc_8785_equates_is_not_cacheable() {
        for text in ["9007199254740992", "-9007199254740993", "18446744073709551615", "1e300", "1.0", "-0.0"]
        {
            assert!(!cacheable(&parsed(text)), "{text}");
            assert!(!cacheable(&json!({"deep": [{"er": parsed(text)}]})), "{text}");
        }
        for text in ["9007199254740991", "-9007199254740991", "0", "0.1", "1e-7", "\"1.0\"", "null", "[true]"]
        {
            assert!(cacheable(&parsed(text)), "{text}");
        }
    }

    #[test]
    fn cacheable_values_have_different_digests() {
        let texts = ["1", "1.5", "\"1\"", "9007199254740990", "9007199254740991", "[1]", "{\"a\":1}", "null"];
        let digests: std::collections::HashSet<_> = texts.map(|text| digest(&parsed(text)).unwrap()).into();
        assert_eq!(digests.len(), texts.len());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Key::of("t", "ab", "c", "", &json!({})).unwrap();
        let other = Key::of("t", "a", "bc", "", &json!({})).unwrap();
        assert_ne!(one.bytes(), other.bytes());
    }
}
