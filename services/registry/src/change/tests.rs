//! Every kind of difference is told, with what it means for callers, and none is left out.

use serde_json::json;
use types::{Category, Effect, Sensitivity};

use super::*;
use crate::definition::{Builtin, CredentialUse, Example, Http, Mcp, tests::definition as plain};

const B: Kind = Kind::Breaking;
const A: Kind = Kind::Addition;
const P: Kind = Kind::Patch;

fn with(input: &Value, output: Option<&Value>) -> Definition {
    let output_schema = output.map(Value::to_string).unwrap_or_default();
    Definition { input_schema: input.to_string(), output_schema, ..plain() }
}

fn object(property: &Value) -> Value {
    json!({"type": "object", "properties": {"a": property}})
}

/// Kind of the change, and where it is told.
fn told(before: &Definition, after: &Definition) -> (Option<Kind>, Vec<String>) {
    let changes = compare(before, after).unwrap();
    (greatest(&changes), changes.into_iter().map(|change| change.path).collect())
}

/// Of a property of the arguments, and of one of the result.
fn kinds(before: &Value, after: &Value) -> (Option<Kind>, Option<Kind>) {
    let any = json!({"type": "object"});
    let (old, new) = (object(before), object(after));
    let input = told(&with(&old, None), &with(&new, None));
    let output = told(&with(&any, Some(&old)), &with(&any, Some(&new)));
    assert!(input.1.iter().all(|path| path.starts_with("/input_schema")), "{input:?}");
    assert!(output.1.iter().all(|path| path.starts_with("/output_schema")), "{output:?}");
    (input.0, output.0)
}

#[test]
fn what_restricts_arguments_breaks_and_what_widens_results_does() {
    let text = json!({"type": "string"});
    let deep =
        |inner: Value| json!({"type": "object", "properties": {"b": {"type": "array", "items": inner}}});
    for (before, after) in [
        (json!({}), text.clone()),
        (json!({"type": ["string", "null"]}), text.clone()),
        (json!({"type": "number"}), json!({"type": "integer"})),
        (json!({"enum": ["x", "y"]}), json!({"enum": ["x"]})),
        (json!({"enum": ["x", "y"]}), json!({"const": "x"})),
        (text.clone(), json!({"type": "string", "enum": ["x"]})),
        (json!({"minimum": 1}), json!({"minimum": 2})),
        (json!({"minimum": 9_007_199_254_740_992_u64}), json!({"minimum": 9_007_199_254_740_993_u64})),
        (json!({}), json!({"exclusiveMaximum": 9})),
        (json!({"maxLength": 9}), json!({"maxLength": 8})),
        (json!({"maxItems": 9}), json!({"maxItems": 1})),
        (json!({}), json!({"minLength": 1})),
        (text.clone(), json!({"type": "string", "pattern": "^x"})),
        (text.clone(), json!({"type": "string", "format": "date"})),
        (json!({"uniqueItems": false}), json!({"uniqueItems": true})),
        (json!({"required": []}), json!({"required": ["b"]})),
        (json!({"items": true}), json!({"items": {"type": "string"}})),
        (json!({}), json!({"items": {"type": "string"}})),
        (json!({"anyOf": [{"type": "string"}, {"type": "null"}]}), text.clone()),
        (json!({"oneOf": [{"type": "string"}, {"type": "null"}]}), text.clone()),
        (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!({"anyOf": [{"const": 1}]})),
        (json!({"allOf": [{"minimum": 1}]}), json!({"allOf": [{"minimum": 1}, {"maximum": 5}]})),
        (json!(true), text.clone()),
        (deep(json!({"maximum": 2})), deep(json!({"maximum": 1}))),
    ] {
        assert_eq!(kinds(&before, &after), (Some(B), Some(A)), "{before} to {after}");
        assert_eq!(kinds(&after, &before), (Some(A), Some(B)), "{after} to {before}");
    }
}

#[test]
fn properties_and_what_is_left_open() {
    let any = json!({"type": "object"});
    let open = object(&json!({"type": "string"}));
    let mut closed = open.clone();
    closed["additionalProperties"] = false.into();
    let empty_closed = json!({"type": "object", "additionalProperties": false});
    let mut required = open.clone();
    required["required"] = json!(["a"]);
    for (before, after, input, output) in [
        (&closed, &empty_closed, B, B),
        (&empty_closed, &closed, A, A),
        (&open, &any, B, B),
        (&any, &open, A, A),
        (&any, &required, B, A),
        (&open, &required, B, A),
        (&required, &open, A, B),
        (&open, &closed, B, A),
        (&closed, &open, A, A),
    ] {
        let got = (
            told(&with(before, None), &with(after, None)).0,
            told(&with(&any, Some(before)), &with(&any, Some(after))).0,
        );
        assert_eq!(got, (Some(input), Some(output)), "{before} to {after}");
    }
    assert_eq!(told(&with(&any, None), &with(&any, Some(&open))).0, Some(A));
    assert_eq!(told(&with(&any, Some(&open)), &with(&any, None)).0, Some(B));
}

#[test]
fn what_is_not_understood_breaks_and_words_do_not() {
    for (before, after) in [
        (json!({"pattern": "^a"}), json!({"pattern": "^b"})),
        (json!({"not": {"const": 1}}), json!({"not": {"const": 2}})),
        (json!({"if": {"const": 1}, "then": {}}), json!({"if": {"const": 2}, "then": {}})),
        (json!({"contains": {"const": 1}}), json!({"contains": {"const": 2}})),
        (json!({"oneOf": [{"minimum": 1}]}), json!({"oneOf": [{"minimum": 1}, {"maximum": 1}]})),
        (
            json!({"oneOf": [{"minimum": 2}, {"maximum": 1}]}),
            json!({"oneOf": [{"minimum": 1}, {"maximum": 1}]}),
        ),
        (json!({"enum": [1, 2]}), json!({"enum": [2, 3]})),
        (json!({"type": "string"}), json!({"type": "number"})),
        (json!({"unheard": 1}), json!({"unheard": 2})),
        (json!({"minimum": "x"}), json!({"minimum": 2})),
        (json!({"$ref": "#nowhere"}), json!({"$ref": "#elsewhere"})),
        (json!({"items": [{}]}), json!({"items": [{}, {}]})),
    ] {
        assert_eq!(kinds(&before, &after), (Some(B), Some(B)), "{before} to {after}");
    }
    for (before, after) in [
        (json!({"title": "a"}), json!({"title": "b"})),
        (json!({}), json!({"description": "b"})),
        (json!({"examples": [1]}), json!({})),
        (json!({"x-order": 1}), json!({"x-order": 2})),
        (json!({"enum": [1, 2]}), json!({"enum": [2, 1]})),
        (json!({"enum": [1]}), json!({"const": 1})),
        (json!({"type": "string"}), json!({"type": ["string"]})),
        (json!({"required": ["a", "b"]}), json!({"required": ["b", "a"]})),
        (json!({"anyOf": [{"const": 1}, {"const": 2}]}), json!({"anyOf": [{"const": 2}, {"const": 1}]})),
        (json!({}), json!({"minLength": 0})),
        (json!({"items": true}), json!({})),
        (json!(true), json!({"description": "any"})),
        (json!({}), json!({"default": 1})),
    ] {
        assert_eq!(kinds(&before, &after), (Some(P), Some(P)), "{before} to {after}");
    }
    // A call that leaves it out meant something else.
    assert_eq!(kinds(&json!({"default": 1}), &json!({"default": 2})), (Some(B), Some(P)));
}

#[test]
fn references_are_followed_circles_too() {
    let tree = |limit: u32, word: &str| {
        json!({"type": "object", "properties": {"root": {"$ref": "#/$defs/node"}}, "$defs": {
            "node": {"type": "object", "properties": {
                "size": {"type": "integer", "maximum": limit},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}}},
            "unused": {"description": word}}})
    };
    let compare = |before: &Value, after: &Value| told(&with(before, None), &with(after, None));
    let at = "/input_schema/properties/root/properties/size/maximum".to_owned();
    assert_eq!(compare(&tree(9, ""), &tree(8, "")), (Some(B), vec![at.clone()]));
    assert_eq!(compare(&tree(8, ""), &tree(9, "")), (Some(A), vec![at]));
    let unused = "/input_schema/$defs/unused".to_owned();
    assert_eq!(compare(&tree(8, ""), &tree(8, "obey me")), (Some(P), vec![unused]));

    // What was referred to is written in place, and the other way round.
    let apart = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/t", "description": "x"}},
                       "$defs": {"t": {"type": "string"}}});
    let inline = object(&json!({"type": "string", "description": "x"}));
    assert_eq!(compare(&apart, &inline).0, Some(P));
    assert_eq!(compare(&inline, &apart).0, Some(P));
    assert_eq!(compare(&apart, &object(&json!({"type": "integer"}))).0, Some(B));

    // Two circles out of step end all the same.
    let one = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}},
                     "$defs": {"x": {"items": {"items": {"$ref": "#/$defs/x"}}}}});
    let two = json!({"type": "object", "properties": {"a": {"items": {"$ref": "#/$defs/y"}}},
                     "$defs": {"y": {"items": {"items": {"$ref": "#/$defs/y"}}}}});
    assert!(compare(&one, &two).0.is_some());
    let lost = object(&json!({"$ref": "#/$defs/a~1b%20c"}));
    let mut found = lost.clone();
    found["$defs"] = json!({"a/b c": {"type": "string"}});
    assert_eq!(compare(&lost, &found).0, Some(B));
    let mut wider = found.clone();
    wider["$defs"]["a/b c"] = json!({});
    assert_eq!(compare(&found, &wider).0, Some(A));
    // Within what is not understood, it breaks.
    let under =
        |kind: &str| json!({"type": "object", "not": {"$ref": "#/$defs/t"}, "$defs": {"t": {"type": kind}}});
    assert_eq!(compare(&under("null"), &under("string")).0, Some(B));
}

#[test]
fn what_is_not_the_schemas() {
    type Edit = fn(&mut Definition);
    let edits: [(Kind, &str, Edit); 20] = [
        (B, "/name", |d| d.name.push('x')),
        (P, "/title", |d| d.title.push('x')),
        (P, "/description", |d| d.description.push('x')),
        (B, "/category", |d| d.category = Category::Custom),
        (A, "/capabilities", |d| d.capabilities.push("search".into())),
        (B, "/capabilities", |d| d.capabilities.clear()),
        (B, "/effect", |d| d.effect = Effect::SideEffect),
        (A, "/effect", |d| d.effect = Effect::ReadOnly),
        (B, "/sensitivity", |d| d.sensitivity = Sensitivity::Restricted),
        (A, "/sensitivity", |d| d.sensitivity = Sensitivity::Public),
        (P, "/provider", |d| d.provider.push('x')),
        (P, "/timeout_ms", |d| d.timeout_ms = 1_000),
        (P, "/rate_limit_per_minute", |d| d.rate_limit_per_minute = 1),
        (P, "/cost_micro_usd", |d| d.cost_micro_usd = 1),
        (P, "/labels", |d| drop(d.labels.insert("a".into(), "b".into()))),
        (P, "/examples/0", |d| {
            d.examples =
                vec![Example { description: "x".into(), arguments: "{}".into(), result: String::new() }];
        }),
        (B, "/binding", |d| d.binding = Binding::Builtin(Builtin { name: "echo".into() })),
        (B, "/binding/http/method", |d| d.binding = Binding::Http(Http::new("POST", "https://example.com/"))),
        (B, "/binding/http/url", |d| d.binding = Binding::Http(Http::new("GET", "https://evil.example/"))),
        (P, "/binding/http/credentials", |d| {
            let credential = CredentialUse { credential: "k".into(), place: None, prefix: String::new() };
            d.binding = Binding::Http(Http {
                credentials: vec![credential],
                ..Http::new("GET", "https://example.com/")
            });
        }),
    ];
    let before = Definition {
        effect: Effect::Idempotent,
        sensitivity: Sensitivity::Internal,
        binding: Binding::Http(Http::new("GET", "https://example.com/")),
        ..plain()
    };
    for (kind, path, edit) in edits {
        let mut after = before.clone();
        edit(&mut after);
        assert_eq!(told(&before, &after), (Some(kind), vec![path.to_owned()]));
    }
    let mcp = |tool: &str, url: &str| {
        let transport = mcp::Transport::Http { url: url.into(), headers: [].into() };
        let binding = Mcp { server: "s".into(), tool: tool.into(), transport, credentials: vec![] };
        Definition { binding: Binding::Mcp(binding), ..plain() }
    };
    let stands = mcp("t", "http://a/");
    assert_eq!(told(&stands, &mcp("u", "http://a/")), (Some(B), vec!["/binding/mcp/tool".into()]));
    assert_eq!(told(&stands, &mcp("t", "http://b/")), (Some(B), vec!["/binding/mcp/transport".into()]));
    let versioned = Definition { version: "9.0.0".into(), ..before.clone() };
    assert_eq!(told(&before, &versioned), (None, vec![]));
}

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
fn versions_say_what_changed() {
    for (newest, highest, kind, next) in [
        ("1.4.2", "1.4.2", P, "1.4.3"),
        ("1.4.2", "1.4.2", A, "1.5.0"),
        ("1.4.2", "1.4.2", B, "2.0.0"),
        ("0.4.2", "0.4.2", B, "0.5.0"),
        ("0.4.2", "0.4.2", P, "0.4.3"),
        // One that waits or was rejected keeps its version.
        ("1.4.2", "2.0.0", P, "2.0.1"),
        ("1.4.2", "2.0.0", B, "2.0.1"),
        ("1.4.2", "1.4.9", A, "1.5.0"),
        ("2.0.0-rc.1", "2.0.0-rc.1", P, "2.0.1"),
        // One of before there was a limit.
        ("18446744073709551615.0.0", "18446744073709551615.0.0", B, "18446744073709551615.0.1"),
        ("1.18446744073709551615.0", "1.18446744073709551615.0", A, "1.18446744073709551615.1"),
    ] {
        assert_eq!(next_version(newest, highest, kind), next, "{newest}, {highest}, {kind:?}");
        assert!(says_enough(next, newest, kind));
    }
    assert!(!says_enough("1.9.0", "1.4.2", B) && says_enough("2.0.0-rc.1", "1.4.2", B));
    assert!(says_enough("0.4.3", "0.4.2", B), "nothing is promised below 1.0.0");
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

#[test]
fn what_is_followed_where_any_may_fit_is_followed_where_one_may() {
    let schema = |most: u32| {
        json!({"type": "object",
            "properties": {
                "a": {"$ref": "#/$defs/d"},
                "b": {"oneOf": [{"$ref": "#/$defs/d"}, {"type": "string", "minLength": 5}]},
            },
            "$defs": {"d": {"type": "string", "maxLength": most}}})
    };
    let (kind, paths) = told(&with(&schema(3), None), &with(&schema(10), None));
    assert_eq!(kind, Some(B), "{paths:?}");
}

#[test]
fn a_new_property_that_was_described_before_is_compared_with_that() {
    let tool = |others: &Value, name: Option<Value>| {
        let mut schema = json!({"type": "object"});
        for (keyword, value) in others.as_object().unwrap() {
            schema[keyword.as_str()] = value.clone();
        }
        if let Some(total) = name {
            schema["properties"] = json!({"total": total});
        }
        with(&schema, None)
    };
    let (whole, text) = (json!({"type": "integer"}), json!({"type": "string"}));
    for (others, total, kind) in [
        (json!({"additionalProperties": whole}), &text, B),
        (json!({"additionalProperties": whole}), &json!({"type": "number"}), A),
        (json!({"additionalProperties": whole}), &whole, A),
        (json!({"additionalProperties": false}), &text, A),
        (json!({"additionalProperties": true}), &text, A),
        (json!({"patternProperties": {"^to": whole}}), &text, B),
        (json!({"patternProperties": {"^x-": whole}}), &text, A),
        (json!({"patternProperties": {"^x-": whole}, "additionalProperties": whole}), &text, B),
    ] {
        let got = told(&tool(&others, None), &tool(&others, Some(total.clone())));
        assert_eq!(got.0, Some(kind), "{others} then {total}: {:?}", got.1);
    }
}

#[test]
fn large_schemas_are_compared_in_bounded_time() {
    let started = std::time::Instant::now();
    let texts = |from: u32| -> Vec<String> { (from..from + 30_000).map(|n| n.to_string()).collect() };
    let (kind, _) = told(
        &with(&object(&json!({"enum": texts(0)})), None),
        &with(&object(&json!({"enum": texts(1)})), None),
    );
    assert_eq!(kind, Some(B));
    // Each property is read anew, for only one side refers to the large part.
    let parts: serde_json::Map<String, Value> = (0..3_000).map(|n| (format!("k{n}"), json!(n))).collect();
    let large = |property: Value| {
        let properties: serde_json::Map<_, _> =
            (0..1_000).map(|n| (format!("p{n}"), property.clone())).collect();
        with(&json!({"type": "object", "properties": properties, "$defs": {"big": parts.clone()}}), None)
    };
    let (before, after) = (large(json!({"$ref": "#/$defs/big"})), large(json!({})));
    let changes = compare(&before, &after).unwrap();
    assert!(changes.iter().any(|change| change.kind == B && change.description.contains("too large")));
    // Each keyword leads to a chain of references that is long.
    let chain = |end: &str| {
        let parts: serde_json::Map<_, _> = (0..3_000)
            .map(|n| (format!("d{n}"), json!({"not": {"$ref": format!("#/$defs/d{}", n + 1)}})))
            .chain([("d3000".to_owned(), json!({"type": end}))])
            .collect();
        let properties: serde_json::Map<_, _> =
            (0..1_500).map(|n| (format!("p{n}"), json!({"not": {"$ref": "#/$defs/d0"}}))).collect();
        with(&json!({"type": "object", "properties": properties, "$defs": parts}), None)
    };
    assert_eq!(told(&chain("string"), &chain("number")).0, Some(B));
    assert!(started.elapsed() < std::time::Duration::from_secs(15), "{:?}", started.elapsed());
}
