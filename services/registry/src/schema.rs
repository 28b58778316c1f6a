//! Reads JSON Schemas that strangers wrote. Never fetches a reference, and never compiles what is too
//! large or too deep.

use jsonschema::{PatternOptions, ValidationOptions};
use serde_json::Value;

use crate::schema_cost;

/// Largest schema, in bytes.
pub(crate) const MAX_BYTES: usize = 256 * 1024;
/// Deepest nesting of arrays and objects. Far above what people write, far below what recursion stands.
const MAX_DEPTH: usize = 64;
/// Steps that a pattern with look-around or back-references may take on one text.
const BACKTRACK_LIMIT: usize = 10_000;
/// Size of one compiled pattern, in bytes.
const PATTERN_BYTES: usize = 2 * 1024 * 1024;
/// Most patterns in one schema: each is compiled.
const MAX_PATTERNS: usize = 1_000;

/// Reads and compiles a schema; the error says what is wrong with it.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are taken", text.len()));
    }
    let schema: Value = serde_json::from_str(text).map_err(|error| format!("is not JSON: {error}"))?;
    if !schema.is_object() && !schema.is_boolean() {
        return Err("must be a JSON Schema: an object, true or false".into());
    }
    let shape = measure(&schema);
    if shape.depth > MAX_DEPTH {
        return Err(format!("nests {} levels deep; at most {MAX_DEPTH} are taken", shape.depth));
    }
    if shape.patterns > MAX_PATTERNS {
        return Err(format!("has {} patterns; at most {MAX_PATTERNS} are taken", shape.patterns));
    }
    if !schema_cost::is_bearable(&schema) {
        return Err("refers to itself in so many ways that validating by it would not end".into());
    }
    options().build(&schema).map_err(|error| {
        let at = error.instance_path().to_string();
        let at = if at.is_empty() { String::new() } else { format!(" at {at}") };
        format!("is not a JSON Schema that can be used{at}: {}", brief(&error.to_string()))
    })?;
    Ok(schema)
}

/// Reads an input schema: an object schema, so that arguments are named.
pub(crate) fn read_object(text: &str) -> Result<Value, String> {
    let schema = read(text)?;
    if schema.get("type").and_then(Value::as_str) == Some("object") {
        Ok(schema)
    } else {
        Err(r#"must have "type": "object" at its top, since arguments are named"#.into())
    }
}

fn options() -> ValidationOptions<'static> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_BYTES);
    jsonschema::options().offline().with_pattern_options(patterns)
}

struct Shape {
    depth: usize,
    patterns: usize,
}

fn measure(value: &Value) -> Shape {
    let inner: Vec<Shape> = match value {
        Value::Array(items) => items.iter().map(measure).collect(),
        Value::Object(members) => members.values().map(measure).collect(),
        _ => return Shape { depth: 0, patterns: 0 },
    };
    let own = match value.get("patternProperties") {
        Some(Value::Object(properties)) => properties.len(),
        _ => 0,
    } + usize::from(value.get("pattern").is_some());
    Shape {
        depth: 1 + inner.iter().map(|shape| shape.depth).max().unwrap_or(0),
        patterns: own + inner.iter().map(|shape| shape.patterns).sum::<usize>(),
    }
}

/// The validator repeats the offending part of the schema, which may be all of it.
fn brief(text: &str) -> String {
    match text.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_schemas_are_read() {
        for good in [
            r#"{"type":"object"}"#,
            r##"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object",
                 "definitions":{"a":{"type":"string"}},"properties":{"a":{"$ref":"#/definitions/a"}}}"##,
            r##"{"type":"object","properties":{"child":{"$ref":"#"},"at":{"type":"string","format":"date-time","pattern":"^(?=a)a"}}}"##,
        ] {
            read_object(good).unwrap_or_else(|error| panic!("{good}: {error}"));
        }
        assert!(read("true").is_ok());
    }

    #[test]
    fn bad_schemas_say_what_is_wrong() {
        let deep = format!("{}{}", r#"{"not":"#.repeat(65), "{}".to_owned() + &"}".repeat(65));
        let hopeless = format!("{}{}", r#"{"not":"#.repeat(200), "{}".to_owned() + &"}".repeat(200));
        let large = format!(r#"{{"type":"object","description":"{}"}}"#, "x".repeat(MAX_BYTES));
        for (bad, says) in [
            ("", "not JSON"),
            ("[]", "an object"),
            (r#"{"type":"objekt"}"#, "at /type"),
            (r#"{"type":"object","properties":{"a":{"minimum":"1"}}}"#, "at /properties/a/minimum"),
            (r#"{"type":"object","properties":{"a":{"pattern":"("}}}"#, "pattern"),
            (r#"{"type":"object","properties":{"a":{"pattern":"(\\w{1000}){1000}"}}}"#, "pattern"),
            (r#"{"type":"object","$ref":"https://example.com/s.json"}"#, "example.com"),
            (r#"{"type":"object","$ref":"file:///etc/passwd"}"#, "passwd"),
            (r##"{"type":"object","$ref":"#/$defs/none"}"##, "none"),
            (r#"{"type":"string"}"#, r#""type": "object""#),
            (r#"{"properties":{}}"#, r#""type": "object""#),
            (&deep, "66 levels"),
            (&hopeless, "not JSON"),
            (&large, "262144"),
        ] {
            let error = read_object(bad).expect_err(&bad[..bad.len().min(80)]);
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn references_that_branch_without_end_are_refused_and_circles_taken() {
        let level = |n: usize| {
            let next = format!(r##"{{"$ref":"#/$defs/l{}"}}"##, n + 1);
            format!(r#""l{n}":{{"allOf":[{next},{next}]}}"#)
        };
        let levels: Vec<String> = (0..60).map(level).collect();
        let defs = levels.join(",");
        let branching = format!(r##"{{"type":"object","$ref":"#/$defs/l0","$defs":{{{defs},"l60":{{}}}}}}"##);
        assert!(read_object(&branching).unwrap_err().contains("would not end"));
        read_object(r##"{"type":"object","$ref":"#"}"##).unwrap();
    }
}
