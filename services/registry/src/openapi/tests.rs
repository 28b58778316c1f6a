//! `OpenAPI` documents, feature by feature: what becomes of them, and that nothing else does.
#![allow(clippy::needless_pass_by_value, reason = "documents are written where they are used")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use types::{Category, Effect};

use super::*;
use crate::{
    check::Origin,
    definition::{
        Binding, CredentialPlace, Definition, Http, HttpBodyFormat, HttpLocation, HttpStyle, NextPage,
    },
};

fn request(document: impl Into<Vec<u8>>) -> Request {
    Request {
        source: Source::Document(document.into()),
        provider: "api".into(),
        server_url: String::new(),
        selection: Selection::default(),
        credentials: BTreeMap::new(),
        defaults: Defaults { trust_effects: true, ..Defaults::default() },
        allow_private_network: false,
        validate_only: false,
    }
}

/// A document of 3.1 with these paths and components.
fn document(paths: Value, components: Value) -> Vec<u8> {
    versioned("3.1.0", paths, components)
}

fn versioned(version: &str, paths: Value, components: Value) -> Vec<u8> {
    json!({"openapi": version, "info": {"title": "Test", "version": "1"},
        "servers": [{"url": "https://api.example.com/v1/"}], "paths": paths, "components": components})
    .to_string()
    .into_bytes()
}

struct Made {
    definition: Definition,
    notes: String,
}

impl Made {
    fn http(&self) -> &Http {
        let Binding::Http(http) = &self.definition.binding else { panic!("not http") };
        http
    }

    fn input(&self) -> Value {
        serde_json::from_str(&self.definition.input_schema).unwrap()
    }

    fn output(&self) -> Value {
        match self.definition.output_schema.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap(),
        }
    }

    fn accepts(&self, arguments: &Value) -> bool {
        jsonschema::validator_for(&self.input()).unwrap().is_valid(arguments)
    }

    fn parameter(&self, argument: &str) -> (HttpLocation, String, HttpStyle, bool, bool) {
        let mut parameters = self.http().parameters.iter();
        let found = parameters.find(|parameter| parameter.argument == argument).unwrap();
        (found.location, found.name.clone(), found.style, found.explode, found.json)
    }
}

/// Every operation by its source: the checked tool, or why there is none.
fn made(request: Request) -> BTreeMap<String, Result<Made, String>> {
    let candidates = candidates(request).unwrap();
    let made = candidates.into_iter().map(|candidate| {
        let checked = candidate.proposal.and_then(|proposal| {
            check::check(proposal, Origin::Import).map_err(|found| format!("{:?}", found.0))
        });
        let notes = candidate.notes.join("; ");
        (candidate.source, checked.map(|definition| Made { definition, notes }))
    });
    made.collect()
}

/// The tool of the only operation.
fn one(document: Vec<u8>) -> Made {
    only(made(request(document)))
}

fn only(mut all: BTreeMap<String, Result<Made, String>>) -> Made {
    assert_eq!(all.len(), 1);
    all.pop_first().unwrap().1.unwrap_or_else(|reason| panic!("{reason}"))
}

fn refusal(request: Request) -> String {
    candidates(request).map(|made| made.len()).unwrap_err().to_string()
}

#[test]
fn an_operation_becomes_a_tool() {
    let paths = json!({"/users/{id}": {"get": {
        "operationId": "getUser", "summary": "Read a user", "description": "Reads one\u{200b} user.\r\n\r\n\r\nBy id.",
        "tags": ["users", "people"],
        "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"},
            "description": "Which one", "example": 7}],
        "responses": {"200": {"description": "ok", "content": {"application/json": {"schema":
            {"type": "object", "properties": {"name": {"type": "string", "example": "x"}}}}}}},
    }}});
    let made = one(document(paths, json!({})));
    let definition = &made.definition;
    assert_eq!((definition.name.as_str(), definition.provider.as_str()), ("api.get_user", "api"));
    assert_eq!(definition.title, "Read a user");
    assert_eq!(definition.description, "Read a user.\n\nReads one user.\n\nBy id.");
    assert_eq!((definition.effect, definition.category), (Effect::ReadOnly, Category::ApiIntegration));
    assert_eq!(definition.capabilities, ["integrate"]);
    assert_eq!(definition.labels["openapi.tags"], "users, people");
    assert_eq!(definition.labels["openapi.operation"], "GET /users/{id}");
    assert_eq!(made.http().url, "https://api.example.com/v1/users/{id}");
    assert_eq!(made.http().headers["accept"], "application/json");
    assert_eq!(
        made.input(),
        json!({"type": "object", "required": ["id"], "additionalProperties": false,
            "properties": {"id": {"type": "integer", "description": "Which one", "examples": [7]}}})
    );
    assert_eq!(made.output(), json!({"type": "object", "properties": {"name": {"type": "string"}}}));
    assert_eq!(made.notes, "");
}

#[test]
fn methods_say_what_an_operation_does_and_a_stranger_can_only_say_worse() {
    let operation = |said: &str| json!({"summary": "x", "x-toolcrib-effect": said, "responses": {}});
    let plain = || json!({"summary": "x", "responses": {}});
    let paths = json!({
        "/a": {"get": plain(), "put": plain(), "post": plain(), "patch": plain(), "delete": plain(), "head": plain()},
        "/b": {"get": operation("SIDE_EFFECT"), "post": operation("read_only"), "put": operation("nonsense")},
    });
    let all = made(request(document(paths, json!({}))));
    let effect = |source: &str| all[source].as_ref().map(|made| made.definition.effect).map_err(Clone::clone);
    for (source, expected) in [
        ("GET /a", Effect::ReadOnly),
        ("PUT /a", Effect::Idempotent),
        ("DELETE /a", Effect::Idempotent),
        ("POST /a", Effect::SideEffect),
        ("PATCH /a", Effect::SideEffect),
        ("GET /b", Effect::SideEffect),
        ("POST /b", Effect::SideEffect),
    ] {
        assert_eq!(effect(source), Ok(expected), "{source}");
    }
    assert!(effect("HEAD /a").unwrap_err().contains("HEAD"));
    assert!(effect("PUT /b").unwrap_err().contains("nonsense"));
}

#[test]
fn that_get_only_reads_is_believed_only_where_the_document_is_trusted() {
    let operation = |said: &str| json!({"summary": "x", "x-toolcrib-effect": said, "responses": {}});
    let paths = json!({"/a": {"get": {"responses": {}}, "put": {"responses": {}}},
        "/b": {"get": operation("read_only")}, "/c": {"get": operation("side_effect")}});
    let bytes = document(paths, json!({}));
    let effects = |trust_effects| {
        let defaults = Defaults { trust_effects, ..Defaults::default() };
        let all = made(Request { defaults, ..request(bytes.clone()) });
        all.into_values().map(Result::unwrap).map(|made| (made.definition.effect, made.notes)).collect()
    };
    let told = |effect| (effect, "taken as IDEMPOTENT".to_owned());
    let plain = |effect| (effect, String::new());
    let doubted: Vec<(Effect, String)> = effects(false);
    let doubted: Vec<_> = doubted
        .into_iter()
        .map(|(effect, note)| (effect, note.split(':').next().unwrap().to_owned()))
        .collect();
    // GET /a, GET /b, GET /c, PUT /a.
    use Effect::{Idempotent, ReadOnly, SideEffect};
    assert_eq!(doubted, [told(Idempotent), told(Idempotent), plain(SideEffect), plain(Idempotent)]);
    assert_eq!(effects(true), [plain(ReadOnly), plain(ReadOnly), plain(SideEffect), plain(Idempotent)]);
}

#[test]
fn parameters_go_where_the_document_says_in_the_style_it_says() {
    let array = json!({"type": "array", "items": {"type": "string"}});
    let paths = json!({"/a/{ids}/{plain}": {
        "parameters": [
            {"name": "ids", "in": "path", "required": true, "schema": array},
            {"name": "q", "in": "query", "schema": {"type": "integer"}},
            {"name": "kept", "in": "query", "schema": {"type": "string"}},
        ],
        "get": {"operationId": "x", "responses": {}, "parameters": [
            {"name": "plain", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "q", "in": "query", "required": true, "schema": {"type": "string"}},
            {"name": "tags", "in": "query", "schema": array},
            {"name": "pipes", "in": "query", "style": "pipeDelimited", "explode": false, "schema": array},
            {"name": "filter[by]", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
            {"name": "json", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
            {"name": "X-Trace", "in": "header", "schema": {"type": "string"}},
            {"name": "q", "in": "header", "schema": {"type": "string"}},
            {"name": "q", "in": "cookie", "schema": {"type": "string"}},
            {"name": "odd", "in": "header", "style": "form", "schema": {"type": "string"}},
            {"name": "Authorization", "in": "header", "required": true, "schema": {"type": "string"}},
            {"name": "accept", "in": "header", "schema": {"type": "string"}},
            {"name": "gone", "in": "path", "required": true, "schema": {"type": "string"}},
        ]},
    }});
    let made = one(document(paths, json!({})));
    use HttpLocation::{Cookie, Header, Path, Query};
    use HttpStyle::{DeepObject, Form, PipeDelimited, Simple};
    let expected = [
        ("ids", Path, "ids", Simple, false, false),
        ("q", Query, "q", Form, true, false),
        ("kept", Query, "kept", Form, true, false),
        ("tags", Query, "tags", Form, true, false),
        ("pipes", Query, "pipes", PipeDelimited, false, false),
        ("filter_by", Query, "filter[by]", DeepObject, true, false),
        ("json", Query, "json", Form, true, true),
        ("X-Trace", Header, "X-Trace", Simple, false, false),
        ("q_header", Header, "q", Simple, false, false),
        ("q_cookie", Cookie, "q", Form, true, false),
        ("odd", Header, "odd", Simple, false, false),
    ];
    assert_eq!(made.http().parameters.len(), expected.len());
    for (argument, location, name, style, explode, json) in expected {
        assert_eq!(made.parameter(argument), (location, name.to_owned(), style, explode, json), "{argument}");
    }
    let required = made.input()["required"].clone();
    assert_eq!(required, json!(["ids", "plain", "q"]));
    assert!(made.accepts(&json!({"ids": ["a"], "plain": "b", "q": "c"})));
    assert!(!made.accepts(&json!({"ids": ["a"], "plain": "b", "q": 1})));
    assert!(!made.accepts(&json!({"ids": ["a"], "plain": "b", "q": "c", "Authorization": "x"})));
    for says in ["\"odd\"", "\"gone\""] {
        assert!(made.notes.contains(says), "{}", made.notes);
    }
}

#[test]
fn a_placeholder_that_nothing_describes_is_a_text() {
    let made = one(document(json!({"/a/{user id}": {"get": {"responses": {}}}}), json!({})));
    assert_eq!(made.parameter("user_id").1, "user id");
    assert!(made.notes.contains("{user id}"));
    assert_eq!(made.input()["required"], json!(["user_id"]));
}

#[test]
fn bodies_are_sent_in_the_best_type() {
    let object = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let body = |content: Value| {
        let body = json!({"required": true, "content": content});
        let paths = json!({"/a": {"post": {"requestBody": body, "responses": {}, "parameters": [
            {"name": "body", "in": "query", "schema": {"type": "string"}}]}}});
        let made = one(document(paths, json!({})));
        let http = made.http().body.clone().unwrap();
        assert_eq!((http.argument.as_str(), made.parameter("body_query").1.as_str()), ("body", "body"));
        assert_eq!(made.input()["required"], json!(["body"]));
        (http.format, http.content_type, made.input()["properties"]["body"].clone())
    };
    let media = json!({ "schema": object });
    assert_eq!(
        body(json!({"text/plain": media, "application/json": media})),
        (HttpBodyFormat::Json, String::new(), object.clone())
    );
    let (format, content_type, _) = body(json!({"application/merge-patch+json": media}));
    assert_eq!((format, content_type.as_str()), (HttpBodyFormat::Json, "application/merge-patch+json"));
    assert_eq!(body(json!({"application/x-www-form-urlencoded": media})).0, HttpBodyFormat::Form);
    let file = json!({"schema": {"properties": {
        "file": {"type": "string", "format": "binary"},
        "files": {"type": "array", "items": {"type": "string", "contentMediaType": "application/octet-stream"}},
        "note": {"type": "string"}}}});
    let (format, _, schema) = body(json!({ "multipart/form-data": file }));
    assert_eq!((format, &schema["type"]), (HttpBodyFormat::Multipart, &json!("object")));
    assert_eq!(schema["properties"]["file"]["contentEncoding"], "base64");
    assert_eq!(schema["properties"]["files"]["items"]["contentEncoding"], "base64");
    assert!(schema["properties"]["note"].get("contentEncoding").is_none());
    let (format, content_type, schema) = body(json!({"application/xml": media}));
    assert_eq!((format, content_type.as_str()), (HttpBodyFormat::Text, "application/xml"));
    assert_eq!(schema["type"], "string");
    let (format, content_type, schema) = body(json!({"image/png": {}}));
    assert_eq!((format, content_type.as_str()), (HttpBodyFormat::Base64, "image/png"));
    assert_eq!(schema["contentEncoding"], "base64");
}

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

#[test]
fn one_bad_operation_costs_no_other_and_says_where_it_is_bad() {
    let body = |schema: Value| json!({"responses": {}, "requestBody": {"content": {"application/json": {"schema": schema}}}});
    let mut deep = json!({"type": "object"});
    for _ in 0..70 {
        deep = json!({ "not": deep });
    }
    let paths = json!({
        "/good": {"get": {"responses": {}}},
        "/remote": {"post": body(json!({"properties": {"a": {"$ref": "https://example.com/x.json#/A"}}}))},
        "/file": {"post": body(json!({"$ref": "models.yaml#/A"}))},
        "/none": {"post": body(json!({"items": {"$ref": "#/components/schemas/None"}}))},
        "/wrong": {"post": body(json!({"properties": {"a": {"type": "nonsense"}}}))},
        "/text": {"post": body(json!("a schema?"))},
        "/large": {"post": body(json!({"description": "x".repeat(300_000)}))},
        "/deep": {"post": body(deep)},
        "/parameter": {"get": {"responses": {}, "parameters": [{"$ref": "other.json#/p"}]}},
        "/circle": {"post": body(json!({"$ref": "#/components/schemas/C"}))},
        "/in": {"get": {"responses": {}, "parameters": [{"name": "x", "in": "formData"}]}},
        "/item": {"$ref": "https://example.com/item.json"},
        "/fragment#x": {"get": {"responses": {}}},
    });
    let components = json!({"schemas": {"C": {"$ref": "#/components/schemas/C"}}});
    let all = made(request(document(paths, components)));
    assert_eq!(all.len(), 13);
    assert!(all["GET /good"].is_ok());
    for (source, says) in [
        ("POST /remote", ["https://example.com/x.json#/A", "/schema/properties/a"]),
        ("POST /file", ["models.yaml#/A", "out of the document"]),
        ("POST /none", ["#/components/schemas/None", "/schema/items"]),
        ("POST /wrong", ["input_schema_json", "/properties/body/properties/a/type"]),
        ("POST /text", ["/paths/~1text/post/requestBody/content/application~1json/schema", "not a schema"]),
        ("POST /large", ["262144", "input_schema_json"]),
        ("POST /deep", ["64", "deep"]),
        ("GET /parameter", ["other.json#/p", "/paths/~1parameter/get/parameters/0"]),
        ("POST /circle", ["circle", "/components/schemas/C"]),
        ("GET /in", ["formData", "/paths/~1in/get/parameters/0"]),
        ("/item", ["https://example.com/item.json", "/paths/~1item"]),
        ("GET /fragment#x", ["fragment", "url"]),
    ] {
        let told = all[source].as_ref().err().unwrap_or_else(|| panic!("{source} was taken"));
        for part in says {
            assert!(told.contains(part), "{source}: {part} in {told}");
        }
    }
}

#[test]
fn servers_are_chosen_from_near_to_far_and_the_operator_knows_better() {
    let server = |url: &str| json!([{"url": url}, {"url": "https://second.example.com"}]);
    let paths = json!({
        "/a": {"get": {"responses": {}}},
        "/b": {"servers": server("https://path.example.com"), "get": {"responses": {}},
            "post": {"servers": server("https://op.example.com/"), "responses": {}}},
        "/c": {"servers": [{"url": "https://{region}.example.com:{port}/{base}", "variables": {
            "region": {"default": "eu"}, "port": {"default": 8443}, "base": {"default": "v2"}}}],
            "get": {"responses": {}}},
        "/d": {"servers": server("/relative"), "get": {"responses": {}}},
        "/e": {"servers": server("https://{tenant}.example.com"), "get": {"responses": {}}},
    });
    let bytes = document(paths, json!({}));
    let all = made(request(bytes.clone()));
    let url = |source: &str| all[source].as_ref().map(|made| made.http().url.clone()).map_err(Clone::clone);
    assert_eq!(url("GET /a").unwrap(), "https://api.example.com/v1/a");
    assert_eq!(url("GET /b").unwrap(), "https://path.example.com/b");
    assert_eq!(url("POST /b").unwrap(), "https://op.example.com/b");
    assert_eq!(url("GET /c").unwrap(), "https://eu.example.com:8443/v2/c");
    assert!(url("GET /d").unwrap_err().contains("server_url"));
    assert!(url("GET /e").unwrap_err().contains("server_url"));
    let given = made(Request { server_url: "http://127.0.0.1:8080/base/".into(), ..request(bytes.clone()) });
    for (source, made) in given {
        let url = made.unwrap().http().url.clone();
        assert_eq!(url, format!("http://127.0.0.1:8080/base{}", source.split_once(' ').unwrap().1));
    }
    for bad in ["example.com", "ftp://a/", "https://u:p@a/", "https://a/?q=1", "https://{a}/"] {
        let told = refusal(Request { server_url: bad.into(), ..request(bytes.clone()) });
        assert!(told.contains("server_url"), "{bad}: {told}");
    }
}

#[test]
fn no_path_leads_to_another_host() {
    let get = json!({"get": {"responses": {}}});
    let paths =
        json!({".evil.com/collect": get, "@evil.com/": get, ":8443/a": get, "//evil.com/a": get, "/a": get});
    let bytes = document(paths, json!({}));
    let pinned = "https://api.good.com".to_owned();
    for (server_url, base) in [(pinned.clone(), pinned), (String::new(), "https://api.example.com/v1".into())]
    {
        let all = made(Request { server_url, ..request(bytes.clone()) });
        for path in [".evil.com/collect", "@evil.com/", ":8443/a"] {
            let told = all[&format!("GET {path}")].as_ref().err().unwrap();
            assert!(told.contains("slash") && told.contains(path), "{told}");
        }
        for path in ["/a", "//evil.com/a"] {
            let made = all[&format!("GET {path}")].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
            assert_eq!(made.http().url, format!("{base}{path}"));
        }
    }
}

#[test]
fn a_credential_goes_to_one_server_and_never_in_the_open() {
    let at = |server: &str| json!({"servers": [{"url": server}], "get": {"responses": {}}});
    let paths = json!({
        "/own": {"get": {"responses": {}}}, "/same": at("https://API.example.com:443/v2"),
        "/other": at("https://evil.com"), "/port": at("https://api.example.com:8443"),
        "/http": at("http://api.example.com"), "/free": {"servers": [{"url": "https://evil.com"}],
            "get": {"security": [], "responses": {}}},
    });
    let bytes = document(paths, json!({}));
    let any: BTreeMap<String, String> = [("*".to_owned(), "key".to_owned())].into();
    let refused = |server_url: &str, allow_private_network| {
        let (credentials, server_url) = (any.clone(), server_url.to_owned());
        let all = made(Request { server_url, credentials, allow_private_network, ..request(bytes.clone()) });
        let refused = all.into_iter().filter_map(|(source, made)| Some((source, made.err()?)));
        refused.collect::<BTreeMap<_, _>>()
    };
    let away = refused("", true);
    assert_eq!(away.keys().collect::<Vec<_>>(), ["GET /http", "GET /other", "GET /port"]);
    assert!(away.values().all(|told| told.contains("give server_url")), "{away:?}");
    assert!(refused("https://api.good.com", false).is_empty());
    let open = refused("http://api.good.com", false);
    assert_eq!(open.len(), 5);
    assert!(open.values().all(|told| told.contains("over http")), "{open:?}");
    assert!(refused("http://127.0.0.1:9", true).is_empty());
    // Without a credential the document may lead where it likes.
    assert!(made(request(bytes)).values().all(Result::is_ok));
}

#[test]
fn credentials_stand_for_the_first_way_in_that_is_given_whole() {
    let components = json!({"securitySchemes": {
        "key": {"type": "apiKey", "in": "header", "name": "X-Key", "x-toolcrib-prefix": "Key "},
        "query": {"type": "apiKey", "in": "query", "name": "api_key"},
        "cookie": {"type": "apiKey", "in": "cookie", "name": "sid"},
        "bearer": {"type": "http", "scheme": "Bearer"}, "basic": {"type": "http", "scheme": "basic"},
        "digest": {"type": "http", "scheme": "digest"}, "oauth": {"type": "oauth2", "flows": {}},
        "oidc": {"type": "openIdConnect"}, "tls": {"type": "mutualTLS"},
    }});
    let get = |security: Value| {
        json!({"get": {"security": security, "responses": {}, "parameters": [
        {"name": "api_key", "in": "query", "schema": {}}, {"name": "x-key", "in": "header", "schema": {}}]}})
    };
    let paths = json!({
        "/both": get(json!([{"key": [], "tls": []}, {"query": []}])),
        "/second": get(json!([{"digest": []}, {"query": []}])),
        "/cookie": get(json!([{"cookie": []}])), "/bearer": get(json!([{"bearer": []}])),
        "/basic": get(json!([{}, {"basic": []}])), "/oauth": get(json!([{"oauth": ["a"]}])),
        "/oidc": get(json!([{"oidc": []}])), "/digest": get(json!([{"digest": []}])),
        "/open": get(json!([])), "/optional": get(json!([{}, {"digest": []}])),
        "/inherited": {"get": {"responses": {}}},
    });
    let mut text: Value = serde_json::from_slice(&document(paths, components)).unwrap();
    text["security"] = json!([{"bearer": []}]);
    let bytes = text.to_string().into_bytes();
    let named =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), format!("{name}-secret"))).collect();
    let all = made(Request {
        credentials: named(&["key", "query", "cookie", "bearer", "basic", "oauth", "oidc", "tls", "digest"]),
        ..request(bytes.clone())
    });
    let used = |source: &str| {
        let made = all[source].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
        let credentials = &made.http().credentials;
        credentials
            .iter()
            .map(|used| (used.credential.clone(), used.place.clone(), used.prefix.clone()))
            .collect::<Vec<_>>()
    };
    let plain = |name: &str| (format!("{name}-secret"), None, String::new());
    let header = Some(CredentialPlace::Header("X-Key".into()));
    assert_eq!(used("GET /both"), [("key-secret".into(), header, "Key ".into()), plain("tls")]);
    let query = Some(CredentialPlace::Query("api_key".into()));
    assert_eq!(used("GET /second"), [("query-secret".into(), query, String::new())]);
    let cookie = Some(CredentialPlace::Cookie("sid".into()));
    assert_eq!(used("GET /cookie"), [("cookie-secret".into(), cookie, String::new())]);
    for name in ["bearer", "basic", "oauth", "oidc"] {
        assert_eq!(used(&format!("GET /{name}")), [plain(name)]);
    }
    assert_eq!(used("GET /inherited"), [plain("bearer")]);
    assert_eq!((used("GET /open"), used("GET /optional"), used("GET /digest")), (vec![], vec![], vec![]));
    let properties = |source: &str| {
        let input = all[source].as_ref().unwrap_or_else(|reason| panic!("{reason}")).input();
        input["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    // What holds a key is no argument, whether or not a credential is given.
    assert_eq!(properties("GET /both"), Vec::<String>::new());
    assert_eq!(properties("GET /cookie"), ["api_key", "x-key"]);

    let none = made(request(bytes.clone()));
    let note = |source: &str| none[source].as_ref().map(|made| made.notes.clone()).unwrap_or_default();
    assert!(note("GET /both").contains("key and tls, or query:"), "{}", note("GET /both"));
    assert!(note("GET /digest").contains("does not know") && note("GET /inherited").contains("bearer"));
    assert_eq!((note("GET /open"), note("GET /optional")), (String::new(), String::new()));
    let every = [("*".to_owned(), "any".to_owned())].into();
    let any = made(Request { credentials: every, ..request(bytes.clone()) });
    let any =
        |source: &str| any[source].as_ref().map(|made| made.http().credentials.len()).unwrap_or_default();
    assert_eq!((any("GET /inherited"), any("GET /open"), any("GET /both")), (1, 0, 1));
    let told = refusal(Request { credentials: named(&["nobody"]), ..request(bytes) });
    assert!(told.contains("nobody") && told.contains("bearer"), "{told}");
}

#[test]
fn pages_are_asked_for_as_the_document_says_or_shows() {
    let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string"}});
    let answer = |schema: Value, link: bool| {
        let headers = if link { json!({"link": {"schema": {"type": "string"}}}) } else { json!({}) };
        json!({"200": {"headers": headers, "content": {"application/json": {"schema": schema}}}})
    };
    let get = |name: &str, responses: Value, more: Value| {
        let mut get = json!({"parameters": [parameter(name), parameter("other")], "responses": responses});
        get.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "get": get })
    };
    let list = json!({"type": "array"});
    let cursor = json!({"properties": {"nextPageToken": {"type": "string"}}});
    let given = |given: Value| json!({ "x-toolcrib-pagination": given });
    let paths = json!({
        "/link": get("page", answer(list.clone(), true), json!({})),
        "/no-link": get("page", answer(list.clone(), false), json!({})),
        "/cursor": get("pageToken", answer(cursor, false), json!({})),
        "/given": get("at", answer(list.clone(), true), given(json!({"cursor_pointer": "/meta/next", "argument": "at"}))),
        "/wrong": get("at", answer(list.clone(), true), given(json!({"cursor_pointer": "meta", "argument": "at"}))),
        "/nobody": get("at", answer(list, true), given(json!({"link_parameter": "x", "argument": "none"}))),
    });
    let all = made(request(document(paths, json!({}))));
    let pagination = |source: &str| {
        let made = all[source].as_ref().map_err(Clone::clone)?;
        Ok::<_, String>(
            made.http().pagination.clone().map(|pagination| (pagination.argument, pagination.next)),
        )
    };
    let link = NextPage::LinkParameter("page".into());
    assert_eq!(pagination("GET /link"), Ok(Some(("page".into(), link))));
    assert_eq!(pagination("GET /no-link"), Ok(None));
    let pointer = |text: &str| NextPage::CursorPointer(text.into());
    assert_eq!(pagination("GET /cursor"), Ok(Some(("pageToken".into(), pointer("/nextPageToken")))));
    assert_eq!(pagination("GET /given"), Ok(Some(("at".into(), pointer("/meta/next")))));
    assert!(pagination("GET /wrong").unwrap_err().contains("cursor_pointer"));
    assert!(pagination("GET /nobody").unwrap_err().contains("\"none\""));
    let wrapped = all["GET /link"].as_ref().map(Made::output).unwrap_or_default();
    assert_eq!(wrapped["properties"]["result"], json!({"type": "array"}));
    assert_eq!(wrapped["required"], json!(["result", "next_arguments"]));
}

#[test]
fn operations_are_chosen_by_name_tag_and_method() {
    let get = |id: &str, tag: &str| json!({"operationId": id, "tags": [tag], "responses": {}});
    let paths = json!({"/a": {"get": get("readA", "a")}, "/z": {"get": get("readZ", "z"), "post": get("createZ", "z")}});
    let bytes = document(paths, json!({}));
    let chosen = |operations: &[&str], tags: &[&str], methods: &[&str]| {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect::<Vec<_>>();
        let selection =
            Selection { operations: texts(operations), tags: texts(tags), methods: texts(methods) };
        let candidates = candidates(Request { selection, ..request(bytes.clone()) });
        candidates
            .map(|all| all.into_iter().map(|each| each.source).collect::<Vec<_>>())
            .map_err(|e| e.to_string())
    };
    let sources = |sources: &[&str]| Ok(sources.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(chosen(&["readA", "get /z"], &[], &[]), sources(&["GET /a", "GET /z"]));
    assert_eq!(chosen(&[], &["z"], &["get"]), sources(&["GET /z"]));
    assert_eq!(chosen(&[], &["a"], &[]), sources(&["GET /a"]));
    assert!(chosen(&["readB"], &[], &[]).unwrap_err().contains("readA"));
    assert!(chosen(&[], &["nope"], &["PUT"]).unwrap_err().contains("methods[0]"));
    assert!(chosen(&["readA"], &["z"], &[]).unwrap_err().contains("no operation"));
}

#[test]
fn operations_come_in_the_order_of_the_document() {
    let text = "openapi: 3.1.0\nservers: [{url: https://a.example}]\npaths:\n  /z:\n    post: {responses: {}}\n    \
                get: {responses: {}}\n  x-y: {}\n  /a:\n    get: {responses: {}}\n    parameters: []\n";
    let sources: Vec<_> =
        candidates(request(text)).unwrap().into_iter().map(|candidate| candidate.source).collect();
    assert_eq!(sources, ["POST /z", "GET /z", "GET /a"]);
}

#[test]
fn a_path_that_stands_elsewhere_in_the_document_is_found() {
    let paths = json!({"/a/{id}": {"$ref": "#/components/pathItems/A"}});
    let components = json!({"pathItems": {"A": {"parameters": [{"name": "id", "in": "path", "required": true,
        "schema": {"type": "string"}}], "get": {"responses": {}}, "delete": {"responses": {}}}}});
    let all = made(request(document(paths, components)));
    assert_eq!(all.keys().collect::<Vec<_>>(), ["DELETE /a/{id}", "GET /a/{id}"]);
    assert!(all.values().all(Result::is_ok));
}

#[test]
fn what_a_document_comes_to_is_bounded_while_it_is_read() {
    let many: serde_json::Map<String, Value> =
        (0..10_001).map(|n| (format!("/{n}"), json!({"get": {"responses": {}}}))).collect();
    let bytes = document(many.into(), json!({}));
    assert!(refusal(request(bytes.clone())).contains("10001 operations"));
    let selection = Selection { operations: vec!["GET /7".into()], ..Selection::default() };
    assert_eq!(made(Request { selection, ..request(bytes) }).len(), 1);

    // A few bytes for each operation in the document, and a whole schema in each tool.
    let body = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Large"}}}});
    let paths: serde_json::Map<String, Value> = (0..600)
        .map(|n| (format!("/{n}"), json!({"post": {"requestBody": body, "responses": {}}})))
        .collect();
    let components = json!({"schemas": {"Large": {"description": "x".repeat(250_000)}}});
    assert!(refusal(request(document(paths.into(), components))).contains("bytes together"));
}

#[test]
fn words_are_cut_and_deprecation_is_told() {
    let paths = json!({
        "/a": {"get": {"deprecated": true, "summary": "s".repeat(300), "description": "é".repeat(9_000), "responses": {}}},
        "/b": {"get": {"responses": {}}},
    });
    let all = made(request(document(paths, json!({}))));
    let a = all["GET /a"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!((a.definition.title.chars().count(), a.definition.description.chars().count()), (200, 8_192));
    assert!(a.definition.description.starts_with("Deprecated. ") && a.notes.contains("deprecated"));
    let b = all["GET /b"].as_ref().unwrap_or_else(|reason| panic!("{reason}"));
    assert_eq!(
        (b.definition.description.as_str(), b.definition.title.as_str()),
        ("GET /b of Test.", "GET /b")
    );
}

#[test]
fn what_is_assumed_fills_what_the_document_does_not_say() {
    let paths = json!({"/a": {"get": {"x-toolcrib-rate-limit-per-minute": 7, "responses": {}}}, "/b": {"get": {"responses": {}}}});
    let defaults = Defaults {
        category: Some(Category::Communication),
        capabilities: vec!["search".into()],
        sensitivity: Some(types::Sensitivity::Confidential),
        timeout_ms: 5_000,
        rate_limit_per_minute: 9,
        trust_effects: true,
    };
    let all = made(Request { defaults, allow_private_network: true, ..request(document(paths, json!({}))) });
    let definition = |source: &str| all[source].as_ref().map(|made| made.definition.clone()).unwrap();
    let (a, b) = (definition("GET /a"), definition("GET /b"));
    assert_eq!((a.rate_limit_per_minute, b.rate_limit_per_minute), (7, 9));
    assert_eq!((b.category, b.timeout_ms), (Category::Communication, 5_000));
    assert_eq!(
        (b.capabilities, b.sensitivity),
        (vec!["search".to_owned()], types::Sensitivity::Confidential)
    );
    assert!(all["GET /b"].as_ref().is_ok_and(|made| made.http().allow_private_network));
    let wrong = Defaults {
        capabilities: vec!["No".into()],
        timeout_ms: 1,
        rate_limit_per_minute: -1,
        ..Defaults::default()
    };
    let told = wrong.check().unwrap_err().to_string();
    for field in ["defaults.capabilities", "defaults.timeout_ms", "defaults.rate_limit_per_minute"] {
        assert!(told.contains(field), "{told}");
    }
}

#[test]
fn the_request_itself_is_checked() {
    let good = || document(json!({"/a": {"get": {"responses": {}}}}), json!({}));
    for provider in ["", "A", "a.b", &"x".repeat(65)] {
        assert!(
            refusal(Request { provider: provider.into(), ..request(good()) }).contains("provider"),
            "{provider}"
        );
    }
    assert!(refusal(request(document(json!({}), json!({})))).contains("no operations"));
    let pack = |name: &str| Request {
        source: Source::Pack(name.into()),
        provider: String::new(),
        ..request(vec![])
    };
    let told = refusal(pack("nope"));
    assert!(told.contains("github") && told.contains("slack"), "{told}");
}

#[test]
fn packs_are_right_in_every_part() {
    for name in packs::names() {
        let pack = Request {
            source: Source::Pack(name.into()),
            provider: String::new(),
            credentials: [("token".to_owned(), "key".to_owned())].into(),
            ..request(vec![])
        };
        let all = made(pack);
        assert!(all.len() >= 10, "{name}: {}", all.len());
        let mut names = BTreeSet::new();
        for (source, made) in all {
            let made = made.unwrap_or_else(|reason| panic!("{name} {source}: {reason}"));
            assert_eq!(made.notes, "", "{name} {source}");
            let definition = &made.definition;
            assert!(
                definition.name.starts_with(&format!("{name}.")) && names.insert(definition.name.clone())
            );
            assert_eq!((made.http().credentials.len(), definition.provider.as_str()), (1, name));
            assert!(!definition.output_schema.is_empty(), "{source} says nothing of its result");
            let input = made.input();
            for (argument, schema) in input["properties"].as_object().unwrap() {
                assert!(schema["description"].is_string() || argument == "body", "{source}: {argument}");
            }
            let lists = definition.title.starts_with("List") || definition.title.starts_with("Find ");
            assert!(
                !lists || made.http().pagination.is_some() || source.contains("Email"),
                "{source} has one page only"
            );
        }
    }
}
