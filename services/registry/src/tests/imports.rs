//! Imports from `OpenAPI` documents, as the catalog keeps them.
#![allow(clippy::needless_pass_by_value, reason = "documents are written where they are used")]

use std::{io::Write as _, net::TcpListener};

use flate2::{Compression, write::GzEncoder};
use proto::registry::v1::{
    ChangeKind, ImportCounts, ImportOpenApiRequest, ImportOpenApiResponse, ImportResult, ImportedTool,
    import_open_api_request::Source,
};
use serde_json::{Value, json};
use tonic::Status;

use super::*;

fn document(paths: Value) -> ImportOpenApiRequest {
    let text = json!({"openapi": "3.1.0", "info": {"title": "T"}, "servers": [{"url": "https://api.example.com"}],
        "paths": paths, "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}});
    ImportOpenApiRequest {
        source: Some(Source::Document(text.to_string().into_bytes())),
        provider: "api".into(),
        ..ImportOpenApiRequest::default()
    }
}

fn get(id: &str, schema: Value) -> Value {
    json!({"operationId": id, "summary": "Reads it", "responses": {},
        "parameters": [{"name": "q", "in": "query", "schema": schema}]})
}

async fn import(registry: &Registry, request: ImportOpenApiRequest) -> Result<ImportOpenApiResponse, Status> {
    let request = request!(registry, "team", request);
    registry.client.clone().import_open_api(request).await.map(tonic::Response::into_inner)
}

fn counts(answer: &ImportOpenApiResponse) -> [i32; 4] {
    let ImportCounts { created, updated, unchanged, refused } = answer.counts.unwrap();
    [created, updated, unchanged, refused]
}

fn told(tool: &ImportedTool) -> (&str, ImportResult, &str) {
    (tool.name.as_str(), tool.result(), tool.version.as_str())
}

#[tokio::test]
async fn an_import_again_changes_what_differs_and_says_how() {
    let registry = registry(&config(), &database().await);
    let paths = |schema: Value| json!({"/a": {"get": get("a", schema)}, "/b": {"get": get("b", json!({"type": "string"}))}});
    let first = paths(json!({"type": ["string", "integer"]}));
    let tried = import(&registry, ImportOpenApiRequest { validate_only: true, ..document(first.clone()) })
        .await
        .unwrap();
    assert_eq!(counts(&tried), [2, 0, 0, 0]);
    assert!(registry.get("api.a").await.is_none());

    let made = import(&registry, document(first.clone())).await.unwrap();
    assert_eq!(counts(&made), [2, 0, 0, 0]);
    assert_eq!(told(&made.tools[0]), ("api.a", ImportResult::Created, "1.0.0"));
    assert_eq!((made.tools[0].source.as_str(), made.truncated), ("GET /a", false));
    let tool = registry.get("api.a").await.unwrap();
    assert_eq!(tool.definition.unwrap().provider, "api");

    let again = import(&registry, document(first)).await.unwrap();
    assert_eq!(counts(&again), [0, 0, 2, 0]);
    assert_eq!(told(&again.tools[1]), ("api.b", ImportResult::Unchanged, "1.0.0"));

    let narrower = paths(json!({"type": "string"}));
    let tried = ImportOpenApiRequest { validate_only: true, ..document(narrower.clone()) };
    assert_eq!(counts(&import(&registry, tried).await.unwrap()), [0, 1, 1, 0]);
    let changed = import(&registry, document(narrower)).await.unwrap();
    assert_eq!(counts(&changed), [0, 1, 1, 0]);
    assert_eq!(told(&changed.tools[0]), ("api.a", ImportResult::Updated, "2.0.0"));
    assert!(changed.tools[0].changes.iter().any(|change| change.kind() == ChangeKind::Breaking));
    assert_eq!(registry.get("api.a").await.unwrap().definition.unwrap().version, "2.0.0");
    registry.stop().await;
}

#[tokio::test]
async fn a_tool_of_somebody_else_is_left_alone_and_its_owner_named() {
    let registry = registry(&config(), &database().await);
    let mut own = definition("api.a");
    own.provider = "people".into();
    let request = request!(registry, "team", registration(own));
    registry.client.clone().register_tool(request).await.unwrap();
    let paths = json!({"/a": {"get": get("a", json!({}))}, "/b": {"get": get("b", json!({}))}});
    let answer = import(&registry, document(paths)).await.unwrap();
    assert_eq!(counts(&answer), [1, 0, 0, 1]);
    assert_eq!(answer.tools[0].result(), ImportResult::Refused);
    assert!(answer.tools[0].note.contains("people"), "{}", answer.tools[0].note);
    assert_eq!(registry.get("api.a").await.unwrap().definition.unwrap().provider, "people");
    registry.stop().await;
}

#[tokio::test]
async fn a_reference_that_leads_out_is_refused_and_nobody_is_asked() {
    let registry = registry(&config(), &database().await);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let remote = json!({"$ref": format!("http://{}/schema.json#/A", listener.local_addr().unwrap())});
    let paths = json!({
        "/schema": {"get": get("schema", remote.clone())},
        "/parameter": {"get": {"responses": {}, "parameters": [remote]}},
        "/body": {"post": {"responses": {}, "requestBody": remote}},
        "/item": remote,
        "/answer": {"get": {"operationId": "answer", "responses": {"200": remote}}},
    });
    let answer = import(&registry, document(paths)).await.unwrap();
    assert_eq!(counts(&answer), [1, 0, 0, 4]);
    for tool in &answer.tools {
        assert!(tool.note.contains("schema.json#/A") && tool.note.contains("/paths/~1"), "{tool:?}");
    }
    assert_eq!(
        listener.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock,
        "a connection was made"
    );
    registry.stop().await;
}

#[tokio::test]
async fn packs_and_compressed_documents_are_taken_and_bad_requests_told() {
    let registry = registry(&config(), &database().await);
    let pack = |name: &str| ImportOpenApiRequest {
        source: Some(Source::Pack(name.into())),
        credentials: [("token".to_owned(), "slack-bot".to_owned())].into(),
        ..ImportOpenApiRequest::default()
    };
    let answer = import(&registry, pack("slack")).await.unwrap();
    assert_eq!(counts(&answer)[1..], [0, 0, 0]);
    assert!(registry.get("slack.chat.post_message").await.is_some());

    let mut compressed = document(json!({"/a": {"get": get("a", json!({}))}}));
    if let Some(Source::Document(bytes)) = &mut compressed.source {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        *bytes = encoder.finish().unwrap();
    }
    assert_eq!(counts(&import(&registry, compressed).await.unwrap()), [1, 0, 0, 0]);

    for (request, says) in [
        (ImportOpenApiRequest::default(), "source"),
        (pack("nope"), "github"),
        (ImportOpenApiRequest { provider: "A b".into(), ..document(json!({})) }, "provider"),
        (
            ImportOpenApiRequest { source: Some(Source::Document(b"{".to_vec())), ..document(json!({})) },
            "document",
        ),
    ] {
        let status = import(&registry, request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(says), "{}", status.message());
    }
    registry.stop().await;
}
