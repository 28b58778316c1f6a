//! What a tool's input schema says of one value: enough to send it, and no more. Pure. Follows references within the
//! schema only.

use serde_json::Value;

/// Most references and compositions that are followed to one value.
const DEPTH: usize = 16;

/// The schemas that together describe a value: one, what it refers to, and what it is composed of.
fn parts<'a>(root: &'a Value, schema: &'a Value, depth: usize) -> Vec<&'a Value> {
    let mut parts = vec![schema];
    if depth == 0 {
        return parts;
    }
    let target = schema.get("$ref").and_then(Value::as_str).and_then(|link| link.strip_prefix('#'));
    parts.extend(target.and_then(|pointer| root.pointer(pointer)));
    for keyword in ["allOf", "anyOf", "oneOf"] {
        parts.extend(schema.get(keyword).and_then(Value::as_array).into_iter().flatten());
    }
    let deeper: Vec<_> = parts.drain(1..).collect();
    parts.extend(deeper.into_iter().flat_map(|part| self::parts(root, part, depth - 1)));
    // A schema that branches at every level says nothing that the first branches do not.
    parts.truncate(256);
    parts
}

/// The schema of a member.
pub(super) fn member<'a>(root: &'a Value, schema: &'a Value, name: &str) -> Option<&'a Value> {
    parts(root, schema, DEPTH).into_iter().find_map(|part| part.get("properties")?.get(name))
}

/// The schema of an array's items.
pub(super) fn items<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    parts(root, schema, DEPTH).into_iter().find_map(|part| part.get("items"))
}

/// Whether a text stands for bytes, in base64 (`OpenAPI` 3.0, format "binary"; JSON Schema 2020-12, contentEncoding).
pub(super) fn is_binary(root: &Value, schema: &Value) -> bool {
    let says = |part: &Value, keyword: &str, word: &str| {
        part.get(keyword).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(word))
    };
    parts(root, schema, DEPTH).into_iter().any(|part| {
        says(part, "format", "binary")
            || says(part, "contentEncoding", "base64")
            || says(part, "contentEncoding", "base64url")
    })
}

/// The media type of what a text stands for.
pub(super) fn media_type<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a str> {
    parts(root, schema, DEPTH).into_iter().find_map(|part| part.get("contentMediaType")?.as_str())
}

/// Whether a value may be of a type; of none that is said, it may be of any.
pub(super) fn allows(root: &Value, schema: &Value, kind: &str) -> bool {
    let mut said = false;
    for part in parts(root, schema, DEPTH) {
        let mut holds = |name: &Value| {
            said = true;
            name == kind
        };
        let found = match part.get("type") {
            Some(Value::Array(names)) => names.iter().any(holds),
            Some(name) => holds(name),
            None => false,
        };
        if found {
            return true;
        }
    }
    !said
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_is_described_through_references_and_compositions() {
        let root = json!({
            "$defs": {
                "File": {"type": "string", "format": "binary", "contentMediaType": "image/png"},
                "Base": {"properties": {"file": {"allOf": [{"$ref": "#/$defs/File"}]}}},
                "Loop": {"$ref": "#/$defs/Loop"},
            },
            "properties": {"body": {"allOf": [{"$ref": "#/$defs/Base"}, {"properties": {"n": {"type": "integer"}}}]}},
        });
        let body = member(&root, &root, "body").unwrap();
        let file = member(&root, body, "file").unwrap();
        assert!(is_binary(&root, file));
        assert_eq!(media_type(&root, file), Some("image/png"));
        let number = member(&root, body, "n").unwrap();
        assert!(!is_binary(&root, number) && allows(&root, number, "integer"));
        assert!(!allows(&root, number, "string") && allows(&root, &json!({}), "string"));
        assert!(allows(&root, &json!({"type": ["null", "string"]}), "string"));
        assert!(member(&root, &root["$defs"]["Loop"], "x").is_none());
        assert!(is_binary(&root, &json!({"contentEncoding": "BASE64"})));
        let list = json!({"type": "array", "items": {"type": "integer"}});
        assert!(allows(&root, items(&root, &list).unwrap(), "integer"));
    }
}
