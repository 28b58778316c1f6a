//! Tools made of OpenAPI documents: imported through the edge, called, paged through.

use std::{io::Write as _, time::Duration};

use flate2::{Compression, write::GzEncoder};
use proto::{
    executor::v1::ExecutionStatus,
    registry::v1::{
        ImportCounts, ImportOpenApiRequest, ImportOpenApiResponse, ListToolsRequest,
        import_open_api_request::Source,
    },
};
use serde_json::json;
use tests::{Client, Suite, Upstream, result};
use tonic::Request;

tests::scenarios! {
    an_imported_operation_is_called_where_its_document_says,
    githubs_whole_document_goes_through_the_edge,
}

/// Longest wait for a document with over a thousand operations, in a debug build on a busy machine.
const PATIENCE: Duration = Duration::from_mins(5);

async fn import(client: &Client, request: ImportOpenApiRequest) -> ImportOpenApiResponse {
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE);
    client.registry().import_open_api(request).await.unwrap().into_inner()
}

async fn an_imported_operation_is_called_where_its_document_says(suite: &Suite) {
    let upstream = Upstream::start().await;
    let text = json!({"openapi": "3.0.3", "info": {"title": "T", "version": "1"}, "servers": [{"url": "/never"}],
    "paths": {"/echo/{place}": {"post": {
        "operationId": "putThere", "responses": {"200": {"description": "ok", "content": {"application/json": {
            "schema": {"type": "object", "required": ["method", "target", "body"]}}}}},
        "parameters": [
            {"name": "place", "in": "path", "required": true, "schema": {"type": "string"}},
            {"name": "tags", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}}],
        "requestBody": {"required": true, "content": {"application/json": {"schema": {
            "type": "object", "required": ["n"], "properties": {"n": {"type": "integer", "nullable": true}}}}}},
    }}}});
    let request = ImportOpenApiRequest {
        source: Some(Source::Document(text.to_string().into_bytes())),
        provider: "there".into(),
        server_url: upstream.url(""),
        allow_private_network: true,
        ..ImportOpenApiRequest::default()
    };
    let answer = import(&suite.admin, request).await;
    assert_eq!(answer.counts.unwrap().created, 1, "{answer:?}");
    let agent = suite.agent("").await;
    suite.grant(&agent, "there.put_there").await;
    let arguments = json!({"place": "a b", "tags": ["x", "y&z"], "body": {"n": null}});
    let execution = agent.call("there.put_there", arguments).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    let hits = upstream.hits();
    assert_eq!(hits[0].target, "/echo/a%20b?tags=x&tags=y%26z");
    assert_eq!((hits[0].method.as_str(), hits[0].body.as_str()), ("POST", r#"{"n":null}"#));
    assert_eq!(result(&execution)["method"], "POST");
}

async fn githubs_whole_document_goes_through_the_edge(suite: &Suite) {
    let Some(path) = testkit::installed("openapi/github.json", "scripts/install-openapi-documents") else {
        return;
    };
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(&std::fs::read(path).unwrap()).unwrap();
    let document = encoder.finish().unwrap();
    assert!(document.len() < 4 * 1024 * 1024, "{}", document.len());
    let request = |validate_only| ImportOpenApiRequest {
        source: Some(Source::Document(document.clone())),
        provider: "hub".into(),
        validate_only,
        ..ImportOpenApiRequest::default()
    };
    let all = |created, unchanged| ImportCounts { created, unchanged, ..ImportCounts::default() };
    let started = std::time::Instant::now();
    let answer = import(&suite.admin, request(false)).await;
    println!("1,223 operations imported in {:?}", started.elapsed());
    assert_eq!((answer.counts, answer.tools.len(), answer.truncated), (Some(all(1_223, 0)), 1_223, false));
    let listed = ListToolsRequest { provider: "hub".into(), page_size: 1_000, ..ListToolsRequest::default() };
    let listed = suite.admin.registry().list_tools(listed).await.unwrap().into_inner();
    assert!(!listed.tools.is_empty() && !listed.next_page_token.is_empty());
    let again = import(&suite.admin, request(true)).await;
    assert_eq!(again.counts, Some(all(0, 1_223)));
}
