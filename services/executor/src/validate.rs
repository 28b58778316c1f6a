//! JSON against JSON Schema: arguments before the call, results after it. Every violation is reported, and
//! none repeats the value it speaks of, which may be a secret.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ::rpc::FieldViolation;
use jsonschema::{PatternOptions, Validator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most violations kept of one value.
const MAX_VIOLATIONS: usize = 100;
/// Most bytes of schemas that are kept compiled; beyond it all are dropped and compiled again as they are used.
const MAX_COMPILED_BYTES: usize = 32 * 1024 * 1024;
/// Longest text of a violation, in characters: names in it are the caller's or the tool's.
const MAX_TEXT: usize = 500;
/// Steps a regular expression of a schema may take, so that a hostile one ends.
const BACKTRACK_LIMIT: usize = 10_000;

/// One place where a value breaks its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// RFC 6901 JSON pointer into the value; empty for the whole.
    pub pointer: String,
    /// What is wrong there.
    pub message: String,
    /// JSON pointer of the keyword in the schema.
    pub schema_pointer: String,
}

impl Violation {
    pub(crate) fn place(&self) -> &str {
        if self.pointer.is_empty() { "the whole" } else { &self.pointer }
    }

    pub(crate) fn field_violation(&self) -> FieldViolation {
        FieldViolation { field: format!("arguments{}", self.pointer), description: self.message.clone() }
    }

    fn whole(message: impl Into<String>) -> Self {
        Self { pointer: String::new(), message: message.into(), schema_pointer: String::new() }
    }
}

/// Compiled schemas, by their text: compiling takes 50 µs, validating 2.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    compiled: RwLock<Compiled>,
}

#[derive(Debug, Default)]
struct Compiled {
    by_text: HashMap<String, Arc<Validator>>,
    bytes: usize,
}

impl Compiled {
    fn keep(&mut self, schema: &str, validator: &Arc<Validator>) {
        if self.bytes + schema.len() > MAX_COMPILED_BYTES {
            *self = Self::default();
        }
        if self.by_text.insert(schema.to_owned(), Arc::clone(validator)).is_none() {
            self.bytes += schema.len();
        }
    }
}

impl Schemas {
    /// Every violation of a value against a schema given as JSON text. The registry has checked the schema,
    /// so one that does not compile is itself the violation.
    pub(crate) fn check(&self, schema: &str, value: &Value) -> Vec<Violation> {
        match self.validator(schema) {
            Ok(validator) if validator.is_valid(value) => Vec::new(),
            Ok(validator) => violations(&validator, value),
            Err(fault) => vec![Violation::whole(format!("the tool's schema cannot be used: {fault}"))],
        }
    }

    fn validator(&self, schema: &str) -> Result<Arc<Validator>, String> {
        if let Some(found) = self.compiled.read().unwrap_or_else(PoisonError::into_inner).by_text.get(schema)
        {
            return Ok(Arc::clone(found));
        }
        let value: Value = serde_json::from_str(schema).map_err(|error| error.to_string())?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT))
            .build(&value)
            .map_err(|error| error.masked().to_string())?;
        let validator = Arc::new(validator);
        self.compiled.write().unwrap_or_else(PoisonError::into_inner).keep(schema, &validator);
        Ok(validator)
    }
}

/// Reads arguments: JSON text of an object.
pub(crate) fn parse_object(text: &str) -> Result<Value, Vec<Violation>> {
    match serde_json::from_str::<Value>(if text.trim().is_empty() { "{}" } else { text }) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(vec![Violation::whole("must be a JSON object")]),
        Err(error) => Err(vec![Violation::whole(format!("is not JSON: {error}"))]),
    }
}

fn violations(validator: &Validator, value: &Value) -> Vec<Violation> {
    let violation = |error: jsonschema::ValidationError<'_>| Violation {
        pointer: cut(error.instance_path().as_str()),
        message: cut(&error.masked().to_string()),
        schema_pointer: cut(error.schema_path().as_str()),
    };
    validator.iter_errors(value).take(MAX_VIOLATIONS).map(violation).collect()
}

fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SCHEMA: &str = r#"{"type":"object","additionalProperties":false,"required":["code"],
        "properties":{"code":{"type":"string"},"n":{"type":"array","items":{"type":"integer"}}}}"#;

    #[test]
    fn all_violations_are_named_by_pointer_and_none_repeats_a_value() {
        let value = json!({"n": [1, "hunter2"], "other": true});
        let mut found = Schemas::default().check(SCHEMA, &value);
        found.sort_by(|a, b| a.pointer.cmp(&b.pointer));
        let pointers: Vec<&str> = found.iter().map(|violation| violation.pointer.as_str()).collect();
        assert_eq!(pointers, ["", "", "/n/1"]);
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(Schemas::default().check(SCHEMA, &json!({"code": ""})), []);
    }

    #[test]
    fn arguments_must_be_one_object_of_bounded_depth() {
        assert_eq!(parse_object("").unwrap(), json!({}));
        assert!(parse_object("[]").is_err());
        assert!(parse_object("{").is_err());
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert!(parse_object(&deep).is_err());
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let schema = r#"{"type":"string","pattern":"^(?=(a+)+$)(a+)+b$"}"#;
        assert_ne!(Schemas::default().check(schema, &json!("a".repeat(60))), []);
    }

    #[test]
    fn a_schema_that_points_elsewhere_is_not_fetched() {
        let schema = r#"{"$ref":"http://127.0.0.1:1/schema.json"}"#;
        assert_ne!(Schemas::default().check(schema, &json!(1)), []);
    }
}
