//! Parameters and bodies go where the document says, in the style and the type it says.

use super::*;

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
