//! JSON against JSON Schema: arguments before the call, results after it. Every violation is reported, and
//! none repeats the value it speaks of, which may be a secret.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use ::rpc::FieldViolation;
use jsonschema::Validator;
use redact::Rules;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most violations kept of one value.
const MAX_VIOLATIONS: usize = 100;
/// Most bytes of schemas that are kept compiled; beyond it all are dropped and compiled again as they are used.
const MAX_COMPILED_BYTES: usize = 32 * 1024 * 1024;
/// Schemas that are found without looking for them.
const RECENT: usize = 256;
/// Longest text of a violation, in characters: names in it are the caller's or the tool's.
const MAX_TEXT: usize = 500;

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

/// Schemas ready for use, by their text: compiling one takes 50 µs, validating 2.
#[derive(Debug)]
pub(crate) struct Schemas {
    compiled: RwLock<Compiled>,
    /// Those that were used last, by where their text stands in memory: a tool's schemas stand in one place as long
    /// as it is not changed, and comparing a text is several times faster than hashing it.
    recent: Box<[RwLock<Option<Arc<Schema>>>]>,
}

impl Default for Schemas {
    fn default() -> Self {
        Self { compiled: RwLock::default(), recent: (0..RECENT).map(|_| RwLock::default()).collect() }
    }
}

#[derive(Debug, Default)]
struct Compiled {
    by_text: HashMap<Arc<str>, Arc<Schema>>,
    bytes: usize,
}

/// One schema.
#[derive(Debug)]
struct Schema {
    text: Arc<str>,
    /// Or why it cannot be used.
    validator: Result<Validator, String>,
    /// The schema as it is written; only where it may mark something that must not be stored.
    marks: Option<Value>,
}

impl Compiled {
    fn keep(&mut self, schema: &Arc<Schema>) {
        let bytes = schema.text.len();
        if self.bytes + bytes > MAX_COMPILED_BYTES {
            *self = Self::default();
        }
        if self.by_text.insert(Arc::clone(&schema.text), Arc::clone(schema)).is_none() {
            self.bytes += bytes;
        }
    }
}

impl Schemas {
    /// Every violation of a value against a schema given as JSON text. The registry has checked the schema,
    /// so one that does not compile is itself the violation.
    pub(crate) fn check(&self, schema: &str, value: &Value) -> Vec<Violation> {
        match &self.schema(schema).validator {
            Ok(validator) if validator.is_valid(value) => Vec::new(),
            Ok(validator) => violations(validator, value),
            Err(fault) => vec![Violation::whole(format!("the tool's schema cannot be used: {fault}"))],
        }
    }

    /// A value as it may be stored: sanitised, without what its schema, given as JSON text, marks as secret, and
    /// dropped as a whole above `max_bytes`. A schema that is no JSON marks nothing.
    pub(crate) fn to_store(&self, rules: &Rules, schema: &str, value: &Value, max_bytes: usize) -> String {
        if schema.is_empty() {
            return rules.json(value, None, max_bytes);
        }
        let known = self.schema(schema);
        match &known.marks {
            // What one visit of each place is too much for is cut short, marks or not.
            None if redact::is_huge(value) => {
                rules.json(value, serde_json::from_str(schema).ok().as_ref(), max_bytes)
            }
            marks => rules.json(value, marks.as_ref(), max_bytes),
        }
    }

    fn schema(&self, text: &str) -> Arc<Schema> {
        let place = &self.recent[(text.as_ptr().addr() / 16 + text.len()) % RECENT];
        if let Some(known) = place.read().unwrap_or_else(PoisonError::into_inner).as_ref()
            && *known.text == *text
        {
            return Arc::clone(known);
        }
        let schema = self.compiled(text);
        *place.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&schema));
        schema
    }

    fn compiled(&self, text: &str) -> Arc<Schema> {
        if let Some(found) = self.compiled.read().unwrap_or_else(PoisonError::into_inner).by_text.get(text) {
            return Arc::clone(found);
        }
        let schema = Arc::new(Schema::compile(text));
        self.compiled.write().unwrap_or_else(PoisonError::into_inner).keep(&schema);
        schema
    }
}

impl Schema {
    fn compile(text: &str) -> Self {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                return Self { text: text.into(), validator: Err(error.to_string()), marks: None };
            }
        };
        let validator = ::schema::compile(&value).map_err(|fault| fault.to_string());
        Self { text: text.into(), validator, marks: redact::may_mark(&value).then_some(value) }
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
    fn what_is_stored_goes_by_the_marks_of_the_schema_however_often_it_is_asked() {
        let schemas = Schemas::default();
        let marked = r##"{"properties":{"pin":{"writeOnly":true}},"items":{"$ref":"#/properties/pin"}}"##;
        for _ in 0..2 {
            let stored = |schema| {
                schemas.to_store(Rules::standard(), schema, &json!({"pin": 12, "token": "t"}), 1_000)
            };
            assert_eq!(stored(marked), r#"{"pin":"[redacted]","token":"[redacted]"}"#);
            for schema in ["", "{", "{}", r#"{"properties":{"pin":{"type":"integer"}}}"#] {
                assert_eq!(stored(schema), r#"{"pin":12,"token":"[redacted]"}"#, "{schema}");
            }
        }
    }

    #[test]
    fn another_schema_in_the_same_place_is_another_schema() {
        let (schemas, mut text) = (Schemas::default(), String::new());
        text.reserve(100);
        for _ in 0..2 {
            for (schema, fits) in [(r#"{"type":"string"}"#, true), (r#"{"type":"number"}"#, false)] {
                text.replace_range(.., schema);
                assert_eq!(schemas.check(&text, &json!("x")).is_empty(), fits);
            }
        }
    }

    #[test]
    fn the_rest_of_a_huge_value_goes_whatever_its_schema_marks() {
        let most = 100_000_000;
        let huge = Value::from(vec![1; 1_000_002]);
        let stored =
            Schemas::default().to_store(Rules::standard(), r#"{"items":{"type":"integer"}}"#, &huge, most);
        assert!(
            stored.starts_with("[1,1,") && stored.ends_with(r#"1,"[redacted]","[redacted]","[redacted]"]"#)
        );
        assert!(Schemas::default().to_store(Rules::standard(), "", &huge, most).ends_with("1,1]"));
    }

    #[test]
    fn a_schema_that_points_elsewhere_is_not_fetched() {
        let schema = r#"{"$ref":"http://127.0.0.1:1/schema.json"}"#;
        assert_ne!(Schemas::default().check(schema, &json!(1)), []);
    }
}
