//! Schemas of every version stay what they say, in what is asked for and what is answered.

use super::*;

#[test]
fn schemas_of_3_0_say_the_same_in_2020_12() {
    let schema = json!({"type": "object", "required": ["a", "a"], "properties": {
        "a": {"type": "string", "nullable": true, "enum": ["x", "y"], "example": "x"},
        "b": {"type": "integer", "format": "int32", "minimum": 1, "exclusiveMinimum": true,
              "maximum": 9, "exclusiveMaximum": false},
        "c": {"$ref": "#/components/schemas/C", "description": "The c", "nullable": true, "type": "boolean"},
        "d": {"type": "file"},
        "e": {"nullable": true, "allOf": [{"$ref": "#/components/schemas/C"}]},
        "f": {"type": "string", "required": true, "xml": {"name": "f"}, "discriminator": {"propertyName": "x"}},
        "g": {"type": "array", "items": [{"type": "string"}]},
    }});
    let components = json!({"schemas": {"C": {"type": "object", "required": ["n"],
        "properties": {"n": {"type": "number"}}}, "Unused": {"type": "nonsense"}}});
    let paths = json!({"/a": {"post": {"responses": {}, "requestBody": {"required": true,
        "content": {"application/json": {"schema": schema}}}}}});
    let made = one(versioned("3.0.3", paths, components));
    let body = |value: Value| made.accepts(&json!({ "body": value }));
    for good in [
        json!({"a": null, "b": 2}),
        json!({"a": "x", "b": 9, "c": {"n": 1}, "d": "text"}),
        json!({"a": "y", "c": null, "e": null}),
        json!({"a": "y", "e": {"n": 1}, "g": [1, "x"]}),
    ] {
        assert!(body(good.clone()), "{good}");
    }
    for bad in [
        json!({}),
        json!({"a": "z"}),
        json!({"a": "x", "b": 1}),
        json!({"a": "x", "b": 10}),
        json!({"a": "x", "c": {}}),
        json!({"a": "x", "c": true}),
        json!({"a": "x", "e": {}}),
    ] {
        assert!(!body(bad.clone()), "{bad}");
    }
    let input = made.input();
    let properties = &input["properties"]["body"]["properties"];
    assert_eq!(properties["a"]["examples"], json!(["x"]));
    assert_eq!(properties["b"]["format"], "int32");
    assert_eq!(properties["c"]["description"], "The c");
    assert_eq!(properties["d"], json!({"type": "string", "format": "binary"}));
    assert!(properties["f"].get("xml").is_none() && properties["f"].get("discriminator").is_none());
    let defs: Vec<_> = input["$defs"].as_object().unwrap().keys().collect();
    assert_eq!(defs, ["C"]);
}

#[test]
fn schemas_of_3_1_stay_what_they_are() {
    let schema = json!({"type": ["object", "null"], "properties": {
        "a": {"$ref": "#/components/schemas/A", "maxLength": 2},
        "b": {"const": 1}, "c": {"type": "string", "x-sensitivity": "restricted", "x-other": 1},
    }, "patternProperties": {"^x-": {"$ref": "#/components/schemas/A"}}, "unevaluatedProperties": false,
       "$defs": {"unused": {}}, "if": {"required": ["b"]}, "then": {"required": ["a"]}});
    let components = json!({"schemas": {"A": {"type": "string", "minLength": 1}}});
    let paths = json!({"/a": {"post": {"responses": {}, "requestBody": {
        "content": {"application/json": {"schema": schema}}}}}});
    let made = one(document(paths, components));
    let body = |value: Value| made.accepts(&json!({ "body": value }));
    assert!(body(json!(null)) && body(json!({"a": "ab", "x-y": "z"})) && made.accepts(&json!({})));
    for bad in [json!({"a": "abc"}), json!({"a": ""}), json!({"x-y": ""}), json!({"b": 1}), json!({"z": 1})] {
        assert!(!body(bad.clone()), "{bad}");
    }
    let c = &made.input()["properties"]["body"]["properties"]["c"];
    assert_eq!(*c, json!({"type": "string", "x-sensitivity": "restricted"}));
}

#[test]
fn schemas_that_go_in_circles_stay_finite() {
    let components = json!({"schemas": {
        "Node": {"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string"}, "children": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            "other": {"$ref": "#/components/schemas/Other"}}},
        "Other": {"allOf": [{"$ref": "#/components/schemas/Node"}, {"$ref": "#/components/schemas/Other"}]},
        "Deep": {"properties": {"in/ner": {"type": "object", "properties": {
            "up": {"$ref": "#/components/schemas/Deep/properties/in~1ner"}}}}},
    }});
    let body = |name: &str| {
        json!({"responses": {}, "requestBody": {"content": {"application/json":
        {"schema": {"$ref": name}}}}})
    };
    let paths = json!({"/a": {"post": body("#/components/schemas/Node"),
        "put": body("#/components/schemas/Deep/properties/in~1ner")}});
    let all = made(request(document(paths, components)));
    let node = all["POST /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert!(node.accepts(&json!({"body": {"name": "a", "children": [{"name": "b", "children": []}]}})));
    assert!(!node.accepts(&json!({"body": {"name": "a", "children": [{"children": []}]}})));
    let deep = all["PUT /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert!(!deep.accepts(&json!({"body": {"up": {"up": 1}}})) && deep.accepts(&json!({"body": {"up": {}}})));
}

#[test]
fn what_only_answers_have_is_not_asked_for_and_the_reverse() {
    let components = json!({"schemas": {
        "User": {"type": "object", "required": ["id", "name", "password"], "additionalProperties": false,
            "properties": {"id": {"$ref": "#/components/schemas/Id"}, "name": {"type": "string"},
                "password": {"type": "string", "writeOnly": true}}},
        "Id": {"type": "integer", "readOnly": true},
        "Admin": {"allOf": [{"$ref": "#/components/schemas/Base"}, {"required": ["level", "rank"],
            "properties": {"rank": {"type": "string"}}}]},
        "Base": {"properties": {"level": {"type": "integer", "readOnly": true}}},
    }});
    let both = |name: &str| {
        let content =
            json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{name}")}}});
        json!({"requestBody": {"content": content}, "responses": {"200": {"content": content}}})
    };
    let all =
        made(request(document(json!({"/a": {"post": both("User"), "put": both("Admin")}}), components)));
    let user = all["POST /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert!(user.accepts(&json!({"body": {"name": "a", "password": "b"}})));
    assert!(!user.accepts(&json!({"body": {"id": 1, "name": "a", "password": "b"}})));
    assert_eq!(user.input()["$defs"]["User"]["properties"]["password"]["writeOnly"], true);
    let output = jsonschema::validator_for(&user.output()).unwrap();
    assert!(output.is_valid(&json!({"id": 1, "name": "a"})) && !output.is_valid(&json!({"name": "a"})));
    let admin = all["PUT /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert!(admin.accepts(&json!({"body": {"rank": "x"}})) && !admin.accepts(&json!({"body": {}})));
}

#[test]
fn answers_have_the_schema_of_every_success() {
    let json_of = |kind: &str| json!({"content": {"application/json": {"schema": {"type": kind}}}});
    let output = |responses: Value| {
        one(document(json!({"/a": {"get": {"responses": responses}}}), json!({}))).output()
    };
    assert_eq!(output(json!({"201": json_of("array"), "404": json_of("object")})), json!({"type": "array"}));
    assert_eq!(
        output(json!({"200": json_of("array"), "202": json_of("object"), "203": json_of("array")})),
        json!({"anyOf": [{"type": "array"}, {"type": "object"}]})
    );
    let empty = output(json!({"200": json_of("array"), "204": {"description": "nothing"}}));
    assert_eq!(empty["anyOf"][1]["required"], json!(["status"]));
    assert_eq!(output(json!({"204": {"description": "nothing"}})), Value::Null);
    assert_eq!(output(json!({"200": {"content": {"text/html": {}}}})), Value::Null);
    assert_eq!(output(json!({"200": json_of("array"), "206": {"content": {"text/html": {}}}})), Value::Null);
    assert_eq!(output(json!({"default": json_of("object")})), Value::Null);
    assert_eq!(output(json!({"2XX": json_of("array")})), json!({"type": "array"}));
}

#[test]
fn an_answer_whose_schema_cannot_be_kept_costs_the_tool_nothing_else() {
    let components = json!({"schemas": {
        "Large": {"type": "string", "description": "x".repeat(300_000)},
        "Remote": {"$ref": "https://example.com/x.json"},
        "Wrong": {"type": "nonsense"}, "Dynamic": {"$dynamicRef": "#x"},
    }});
    for name in ["Large", "Remote", "Wrong", "Dynamic", "None"] {
        let schema = json!({"$ref": format!("#/components/schemas/{name}")});
        let paths = json!({"/a": {"get": {"responses": {"200": {"content": {"application/json": {"schema": schema}}}}}}});
        let made = one(document(paths, components.clone()));
        assert_eq!(made.output(), Value::Null, "{name}");
        assert!(made.notes.contains("schema of the result is left out"), "{name}: {}", made.notes);
    }
}
