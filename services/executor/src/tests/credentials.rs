//! A server that refuses a credential is shown the one that came after it within the same call, by every kind of
//! binding, and is asked for the work once.

use proto::registry::v1::{
    Binding, CredentialUse, GrpcBinding, McpBinding, ToolDefinition, binding::Kind as BindingKind,
    resolve_credential_response::Kind,
};
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Status, transport::Server};

use super::{
    drive::{Drive, of_server},
    fakes::Fakes,
    house::{bound, posting},
    upstream::{Seen, Upstream, json as answer},
};
use crate::outcome::{Reached, ToolErrorCode};

/// Fakes with two versions of the credential `key`.
fn two_keys() -> Fakes {
    let fakes = Fakes::default();
    let keys = ["first-key", "second-key"].map(|key| Kind::ApiKey(key.into()));
    fakes.credentials.lock().unwrap().insert("key".into(), keys);
    fakes
}

fn used(name: &str) -> Vec<CredentialUse> {
    vec![CredentialUse { credential: name.into(), ..CredentialUse::default() }]
}

/// The tool `t` of an MCP server, reached with a credential.
fn of_guarded(url: &str, name: &str) -> ToolDefinition {
    let mut tool = of_server(url);
    let Some(Binding { kind: Some(BindingKind::Mcp(McpBinding { transport: Some(transport), .. })) }) =
        &mut tool.binding
    else {
        panic!("a tool of an MCP server")
    };
    transport.credentials = used(name);
    tool
}

/// An MCP server over HTTP, and what it answers to whoever shows anything but the second key.
async fn mcp_server(refusal: &'static str, is_open: bool) -> Upstream {
    Upstream::new(move |seen: Seen| async move {
        let asked: Value = serde_json::from_str(&seen.body).unwrap_or_default();
        let is_known = seen.headers.get("authorization").is_some_and(|key| key == "Bearer second-key");
        let is_call = asked["method"] == "tools/call";
        if !is_known && (is_call || !is_open) {
            let mut refused = answer(401, refusal);
            if refusal.is_empty() {
                refused.headers_mut().insert("www-authenticate", "Bearer".parse().unwrap());
            }
            return refused;
        }
        let result = if is_call {
            json!({"resultType": "complete", "content": [], "structuredContent": {"done": true}})
        } else {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                   "ttlMs": 0, "cacheScope": "private"})
        };
        answer(200, &json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
    })
    .await
}

/// The calls of the tool that a server let in, and those that it did not.
fn calls(server: &Upstream) -> (usize, usize) {
    let calls = server.seen().into_iter().filter(|seen| seen.body.contains("tools/call"));
    let keys: Vec<_> = calls.map(|seen| seen.headers["authorization"].to_str().unwrap().to_owned()).collect();
    let let_in = keys.iter().filter(|key| *key == "Bearer second-key").count();
    (let_in, keys.len() - let_in)
}

#[tokio::test]
async fn an_mcp_server_that_refuses_a_key_is_shown_the_next_in_the_same_call() {
    let as_error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"not first-key"}}"#;
    for (refusal, is_open, refused) in
        [("", false, 0), ("", true, 1), ("who is there?", true, 1), (as_error, true, 1), (as_error, false, 0)]
    {
        let server = mcp_server(refusal, is_open).await;
        let drive = Drive::with(two_keys(), &reach::Authorities::default());
        let tool = of_guarded(&server.url, "key");
        let result = drive.run(&tool, &json!({})).await;
        assert_eq!(result.unwrap(), r#"{"done":true}"#, "{refusal} {is_open}");
        assert_eq!(calls(&server), (1, refused), "{refusal} {is_open}");
        // What was refused is not shown again.
        drive.run(&tool, &json!({})).await.unwrap();
        assert_eq!(calls(&server), (2, refused), "{refusal} {is_open}");
        drive.drivers.close().await;
    }
}

#[tokio::test]
async fn an_mcp_server_that_knows_no_key_has_not_begun() {
    for is_open in [false, true] {
        let server = mcp_server("not a-key-of-the-fakes", is_open).await;
        let drive = Drive::new();
        let error = drive.failure(&of_guarded(&server.url, "another"), &json!({})).await;
        assert_eq!((error.code, error.reached), (ToolErrorCode::UpstreamAuth, Reached::No), "{error:?}");
        assert!(!error.retryable && !error.message.contains("of-the-fakes"), "{error:?}");
        // There is no other key to show.
        assert_eq!(calls(&server), (0, usize::from(is_open)));
        drive.drivers.close().await;
    }
}

#[tokio::test]
async fn http_and_grpc_servers_are_shown_the_next_key_alike() {
    let http = Upstream::new(|seen: Seen| async move {
        let is_known = seen.headers["authorization"] == "Bearer second-key";
        if is_known { answer(200, r#"{"done":true}"#) } else { answer(401, "no") }
    })
    .await;
    let drive = Drive::with(two_keys(), &reach::Authorities::default());
    let mut tool = posting("tool", &http.url);
    if let Some(Binding { kind: Some(BindingKind::Http(binding)) }) = &mut tool.binding {
        binding.credentials = used("key");
    }
    assert_eq!(drive.run(&tool, &json!({})).await.unwrap(), r#"{"done":true}"#);
    assert_eq!(http.hits(), 2);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let (_, health) = tonic_health::server::health_reporter();
    let guarded = tonic::service::interceptor::InterceptedService::new(health, |request: Request<()>| {
        let is_known = request.metadata().get("authorization").is_some_and(|key| key == "Bearer second-key");
        if is_known { Ok(request) } else { Err(Status::unauthenticated("no")) }
    });
    let server = tokio::spawn(
        Server::builder().add_service(guarded).serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let drive = Drive::with(two_keys(), &reach::Authorities::default());
    let result = drive.run(&checking(&endpoint, "key"), &json!({})).await.unwrap();
    assert!(result.contains("SERVING"), "{result}");
    server.abort();
}

/// The tool that asks a gRPC server for its health, with a credential.
pub(crate) fn checking(endpoint: &str, name: &str) -> ToolDefinition {
    let binding = GrpcBinding {
        endpoint: endpoint.into(),
        service: "grpc.health.v1.Health".into(),
        method: "Check".into(),
        descriptor_set: tonic_health::pb::FILE_DESCRIPTOR_SET.to_vec(),
        credentials: if name.is_empty() { Vec::new() } else { used(name) },
        allow_private_network: true,
        ..GrpcBinding::default()
    };
    bound("checking", BindingKind::Grpc(binding))
}
