//! Which operations are taken, of which documents, and what one that is wrong costs.

use super::*;

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
