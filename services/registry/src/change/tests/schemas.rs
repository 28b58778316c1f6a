//! What a change of a schema means for callers.

use super::*;

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
