//! JSON Schemas that strangers wrote: one reading for whoever takes them in and whoever validates by them, so that
//! what is taken in can be used. Never fetches a reference, and never compiles what is too large or too deep.

mod cost;
mod depth;
mod fault;
mod references;

use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use serde_json::Value;

pub use fault::Fault;

/// Largest schema, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;
/// Deepest nesting of arrays and objects. Far above what people write, far below what recursion stands.
pub const MAX_DEPTH: usize = 64;
/// Steps that a pattern with look-around or back-references may take on one text.
const BACKTRACK_LIMIT: usize = 10_000;
/// Size of one compiled pattern, in bytes.
const PATTERN_BYTES: usize = 2 * 1024 * 1024;
/// Most patterns in one schema: each is compiled.
const MAX_PATTERNS: usize = 1_000;

/// Reads a schema that is offered, and compiles it to see that it can be used; the fault says what is wrong, and where.
pub fn read(text: &str) -> Result<Value, Fault> {
    if text.len() > MAX_BYTES {
        return Err(Fault::whole(format!("has {} bytes; at most {MAX_BYTES} are taken", text.len())));
    }
    depth::check(text)?;
    let schema: Value =
        serde_json::from_str(text).map_err(|error| Fault::whole(format!("is not JSON: {error}")))?;
    if !schema.is_object() && !schema.is_boolean() {
        return Err(Fault::whole("must be a JSON Schema: an object, true or false"));
    }
    let patterns = patterns(&schema);
    if patterns > MAX_PATTERNS {
        return Err(Fault::whole(format!("has {patterns} patterns; at most {MAX_PATTERNS} are taken")));
    }
    if let Some(pointer) = cost::unbearable(&schema) {
        return Err(Fault::at(
            pointer,
            "refers to itself in so many ways that validating by it would not end",
        ));
    }
    compile(&schema)?;
    Ok(schema)
}

/// Reads an input schema: an object schema, so that arguments are named.
pub fn read_object(text: &str) -> Result<Value, Fault> {
    let schema = read(text)?;
    match schema.get("type") {
        Some(Value::String(kind)) if kind == "object" => Ok(schema),
        kind => {
            let pointer = if kind.is_some() { "/type" } else { "" };
            Err(Fault::at(pointer, r#"must have "type": "object" at its top, since arguments are named"#))
        }
    }
}

/// What validates by a schema. The schema must be one that `read` took, or of bounded depth by other means.
pub fn compile(schema: &Value) -> Result<Validator, Fault> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_BYTES);
    let built = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
    built.map_err(|error| match error.kind() {
        ValidationErrorKind::Referencing(reference) => references::fault(schema, reference),
        _ => Fault::at(
            error.instance_path().as_str(),
            format!("is not a JSON Schema that can be used: {}", fault::brief(&error.to_string())),
        ),
    })
}

fn patterns(value: &Value) -> usize {
    let inner: usize = match value {
        Value::Array(items) => items.iter().map(patterns).sum(),
        Value::Object(members) => members.values().map(patterns).sum(),
        _ => return 0,
    };
    let named = value.get("patternProperties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
    inner + named + usize::from(value.get("pattern").is_some())
}

#[cfg(test)]
mod tests;
