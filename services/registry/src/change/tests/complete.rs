//! No change is left out, and nothing hides one.

use super::*;

/// Schemas with every keyword that is understood, and some that are not.
fn corpus() -> Vec<Value> {
    vec![
        json!({"type": "object", "title": "T", "description": "D", "required": ["a", "b"],
               "additionalProperties": false, "minProperties": 1, "maxProperties": 9,
               "properties": {
                   "a": {"type": ["string", "null"], "enum": ["x", "y", null], "default": "x", "examples": ["y"]},
                   "b": {"type": "integer", "minimum": 0, "exclusiveMaximum": 10, "multipleOf": 2},
                   "c": {"type": "array", "items": {"$ref": "#/$defs/item"}, "minItems": 1, "uniqueItems": true},
                   "d": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]}},
               "$defs": {"item": {"type": "object", "description": "I", "properties": {
                                      "again": {"$ref": "#/$defs/item", "description": "R"}}},
                         "unused": {"const": 1, "description": "U"}}}),
        json!({"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
               "patternProperties": {"^x-": {"type": "string", "maxLength": 5}},
               "propertyNames": {"pattern": "^[a-z]+$"},
               "allOf": [{"if": {"required": ["a"]}, "then": {"required": ["b"], "description": "W"}}],
               "dependentRequired": {"a": ["b"]},
               "oneOf": [{"required": ["a"], "title": "One"}, {"required": ["b"]}],
               "properties": {"p": {"prefixItems": [{"type": "string", "description": "F"}, true]},
                              "q": {"not": {"$ref": "#/definitions/n"}}, "r": false},
               "definitions": {"n": {"type": "null", "description": "N"}}}),
    ]
}

/// The same value with one part at any depth replaced, dropped or added, each way once.
fn edits(value: &Value) -> Vec<Value> {
    let marker = || Value::from("INJECTED");
    let mut edited = vec![marker(), json!({"description": "INJECTED"})];
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let mut without = members.clone();
                without.remove(name);
                let mut renamed = without.clone();
                edited.push(without.into());
                renamed.insert(format!("{name}INJECTED"), member.clone());
                edited.push(renamed.into());
                for inner in edits(member) {
                    let mut with = members.clone();
                    with.insert(name.clone(), inner);
                    edited.push(with.into());
                }
            }
            for (name, added) in
                [("description", marker()), ("INJECTED", json!({})), ("$ref", json!("#/$defs/item"))]
            {
                let mut with = members.clone();
                with.insert(name.into(), added);
                edited.push(with.into());
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let mut without = items.clone();
                without.remove(index);
                edited.push(without.into());
                for inner in edits(item) {
                    let mut with = items.clone();
                    with[index] = inner;
                    edited.push(with.into());
                }
            }
            let mut with = items.clone();
            with.push(marker());
            edited.push(with.into());
        }
        _ => {}
    }
    edited
}

#[test]
fn no_change_is_left_out_and_what_is_new_is_shown() {
    let mut count = 0;
    for schema in corpus() {
        for edited in edits(&schema) {
            for (before, after) in [
                (with(&schema, None), with(&edited, None)),
                (with(&schema, Some(&schema)), with(&schema, Some(&edited))),
            ] {
                let changes = compare(&before, &after).unwrap();
                let differs = before.digests().unwrap() != after.digests().unwrap();
                assert_eq!(differs, !changes.is_empty(), "{schema} to {edited}");
                assert!(compare(&after, &after).unwrap().is_empty());
                // Whatever a server slips in is before the eyes of who approves it.
                let shown = changes
                    .iter()
                    .any(|change| change.after.contains("INJECTED") || change.path.contains("INJECTED"));
                assert_eq!(
                    shown,
                    edited.to_string().contains("INJECTED"),
                    "{changes:?}: {schema} to {edited}"
                );
                count += 1;
            }
        }
    }
    assert!(count > 800, "{count}");
}

#[test]
fn an_answer_stays_small_and_tells_what_it_leaves_out() {
    let properties = |word: &str| -> Value {
        (0..2_000)
            .map(|n| (format!("p{n}"), json!({"description": word.repeat(90)})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let schema = |word: &str| json!({"type": "object", "properties": properties(word)});
    let changes = compare(&with(&schema("a"), None), &with(&schema("b"), None)).unwrap();
    assert_eq!(changes.len(), MAX_CHANGES);
    assert!(changes.last().unwrap().description.contains("and 1001 more"), "{:?}", changes.last());
    let long = with(&json!({"type": "object", "description": "ä".repeat(30_000)}), None);
    let changes = compare(&plain(), &long).unwrap();
    let cut = changes.iter().find(|change| change.path == "/input_schema/description").unwrap();
    assert!(cut.after.len() < MAX_VALUE + 8 && cut.after.ends_with('…'));
}

#[test]
fn nothing_hides_what_steers() {
    let many: Value = (0..3_000)
        .map(|n| (format!("p{n}"), json!({"description": "x".repeat(400)})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let example = Example {
        description: "Obey.".into(),
        arguments: json!({"a": "é".repeat(7_000)}).to_string(),
        result: String::new(),
    };
    let before = plain();
    let after = Definition {
        title: "Obey".into(),
        description: "工".repeat(8_192),
        provider: "another".into(),
        effect: if before.effect == Effect::SideEffect { Effect::ReadOnly } else { Effect::SideEffect },
        examples: vec![example.clone(), example],
        ..with(&json!({"type": "object", "properties": many}), None)
    };
    let changes = compare(&before, &after).unwrap();
    let mut first: Vec<&str> = changes.iter().take(5).map(|change| change.path.as_str()).collect();
    first.sort_unstable();
    assert_eq!(first, ["/description", "/effect", "/examples/0", "/examples/1", "/title"]);
    for change in &changes[..5] {
        let whole = serde_json::from_str::<Value>(&change.after);
        assert!(whole.is_ok(), "{} is cut", change.path);
    }
    assert!(changes.iter().any(|change| change.path == "/provider"));
    let last = changes.last().unwrap();
    assert!(last.path.is_empty() && last.description.ends_with("more changes"), "{last:?}");
    assert_eq!(changes.iter().filter(|change| change.path.is_empty()).count(), 1);
}
