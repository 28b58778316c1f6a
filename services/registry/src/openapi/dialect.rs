//! What differs between the schemas of `OpenAPI` 3.0, those of 3.1 and JSON Schema 2020-12, keyword by keyword, and
//! what sloppy documents write and mean nevertheless. No I/O.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{document::Version, schema::Direction};

/// Keywords that are taken as they are. `x-sensitivity` marks what is not to be stored.
const KEPT: [&str; 30] = [
    "type",
    "enum",
    "const",
    "default",
    "title",
    "description",
    "format",
    "pattern",
    "required",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minContains",
    "maxContains",
    "minProperties",
    "maxProperties",
    "dependentRequired",
    "deprecated",
    "readOnly",
    "writeOnly",
    "contentEncoding",
    "contentMediaType",
    "x-sensitivity",
];
const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
/// Longest list of examples of one schema.
const MAX_EXAMPLES: usize = 4;

/// Whether a keyword is kept as it is.
pub(super) fn is_kept(key: &str, direction: Direction) -> bool {
    KEPT.contains(&key) || (key == "examples" && direction == Direction::Request)
}

/// Whether a reference counts alone: `OpenAPI` 3.0.4, section 4.7.23.1 (Reference Object).
pub(super) fn ignores_siblings(version: Version) -> bool {
    version == Version::V3_0
}

/// A reference of `OpenAPI` 3.0: what stands beside it does not count, but a description does no harm, and what may
/// be null is said so nowhere else.
pub(super) fn with_siblings(reference: &Value, members: &Map<String, Value>) -> Value {
    let mut schema = if is_true(members, "nullable") {
        json!({"anyOf": [{"$ref": reference}, {"type": "null"}]})
    } else {
        json!({ "$ref": reference })
    };
    if let Some(description) = members.get("description").filter(|text| text.is_string()) {
        schema["description"] = description.clone();
    }
    schema
}

/// Brings what was converted in line with JSON Schema 2020-12; `members` is what the document says.
pub(super) fn modern(
    version: Version,
    direction: Direction,
    members: &Map<String, Value>,
    mut schema: Map<String, Value>,
) -> Value {
    tidy_types(&mut schema);
    bounds(&mut schema);
    required(&mut schema);
    if direction == Direction::Request {
        examples(members, &mut schema);
    }
    counts(&mut schema);
    if version == Version::V3_0 && is_true(members, "nullable") {
        return nullable(schema);
    }
    Value::Object(schema)
}

fn is_true(members: &Map<String, Value>, key: &str) -> bool {
    members.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// `file` is a type of Swagger 2.0 that is still met; a list names each type once.
fn tidy_types(schema: &mut Map<String, Value>) {
    match schema.get_mut("type") {
        Some(Value::String(kind)) if kind == "file" => {
            *kind = "string".into();
            schema.entry("format").or_insert_with(|| "binary".into());
        }
        Some(Value::String(kind)) if kind == "any" => drop(schema.remove("type")),
        Some(Value::Array(kinds)) => {
            let mut seen = BTreeSet::new();
            kinds.retain(|kind| seen.insert(kind.to_string()));
            if kinds.is_empty() {
                schema.remove("type");
            }
        }
        _ => {}
    }
    if schema.get("enum").is_some_and(|values| values.as_array().is_none_or(Vec::is_empty)) {
        schema.remove("enum");
    }
    for text in ["title", "description", "format"] {
        if schema.get(text).is_some_and(|value| !value.is_string()) {
            schema.remove(text);
        }
    }
}

/// `OpenAPI` 3.0 says with a flag that a bound is exclusive.
fn bounds(schema: &mut Map<String, Value>) {
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match schema.get(flag) {
            Some(Value::Bool(true)) => match schema.remove(bound) {
                Some(value) => drop(schema.insert(flag.into(), value)),
                None => drop(schema.remove(flag)),
            },
            Some(Value::Bool(false)) => drop(schema.remove(flag)),
            _ => {}
        }
    }
}

/// `required` is a list of names, each once; `required: true` at a property is of older drafts.
fn required(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(names)) = schema.get_mut("required") {
        let mut seen = BTreeSet::new();
        names.retain(|name| name.as_str().is_some_and(|name| seen.insert(name.to_owned())));
    } else {
        schema.remove("required");
    }
}

/// One `example` becomes the only one of `examples`. Those of answers are not kept: they guide nobody who calls.
fn examples(members: &Map<String, Value>, schema: &mut Map<String, Value>) {
    match (schema.get_mut("examples"), members.get("example")) {
        (Some(Value::Array(examples)), _) => examples.truncate(MAX_EXAMPLES),
        (_, Some(example)) => drop(schema.insert("examples".into(), json!([example]))),
        (Some(_), None) => drop(schema.remove("examples")),
        (None, None) => {}
    }
}

/// Lengths and counts are whole numbers; some writers make `1.0` of them.
fn counts(schema: &mut Map<String, Value>) {
    for key in ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"] {
        if schema.get(key).is_some_and(|value| value.as_f64().is_none_or(|number| number < 0.0)) {
            schema.remove(key);
        }
    }
}

/// Lets a schema of `OpenAPI` 3.0 be null.
fn nullable(mut schema: Map<String, Value>) -> Value {
    let is_combined = ["allOf", "anyOf", "oneOf", "not"].iter().any(|key| schema.contains_key(*key));
    if is_combined {
        let mut outer = Map::new();
        for text in ["title", "description", "deprecated", "default"] {
            if let Some(value) = schema.remove(text) {
                outer.insert(text.into(), value);
            }
        }
        outer.insert("anyOf".into(), json!([schema, {"type": "null"}]));
        return Value::Object(outer);
    }
    if let Some(kind) = schema.get("type").and_then(Value::as_str).filter(|kind| TYPES.contains(kind)) {
        let kinds = if kind == "null" { json!("null") } else { json!([kind, "null"]) };
        schema.insert("type".into(), kinds);
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    Value::Object(schema)
}
