//! An organisation's own certificate authority, named once in the settings, and client certificates: tools over HTTP and
//! gRPC, MCP servers, imports and token endpoints, each against a server that really asks for them.

use std::{fs, path::Path};

use proto::{
    executor::v1::{ExecutionStatus, Reached, ToolErrorCode},
    registry::v1::{
        CredentialSecret, CredentialUse, HttpTransport, ImportGrpcRequest, McpTransport, MutualTlsSecret,
        OAuth2ClientSecret, PutCredentialRequest, RegisterServerRequest, credential_secret::Kind,
        mcp_transport,
    },
};
use serde_json::{Value, json};
use testkit::{Authority, Pair, TlsRequest, TlsServer};
use tests::{HttpTool, Mode, Suite};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

tests::scenarios_alone! {
    an_authority_of_the_settings_is_trusted_by_every_client,
    without_it_each_of_them_says_what_is_wrong,
}

const HOST: &str = "127.0.0.1";

async fn put(suite: &Suite, name: &str, kind: Kind) -> Result<(), Status> {
    let secret = Some(CredentialSecret { kind: Some(kind) });
    let request = PutCredentialRequest { name: name.into(), secret, ..PutCredentialRequest::default() };
    suite.admin.registry().put_credential(request).await.map(drop)
}

/// The client certificate `mtls`, with no authorities of its own.
async fn put_identity(suite: &Suite, pair: &Pair) {
    let secret = MutualTlsSecret {
        certificate_pem: pair.certificate_pem.clone(),
        private_key_pem: pair.key_pem.clone(),
        ca_pem: String::new(),
    };
    put(suite, "mtls", Kind::MutualTls(secret)).await.unwrap();
}

fn with(credential: &str) -> Vec<CredentialUse> {
    vec![CredentialUse { credential: credential.into(), ..CredentialUse::default() }]
}

fn getting(name: &str, url: String, credential: &str) -> HttpTool {
    let mut tool = HttpTool::new(name, url);
    tool.http.credentials = with(credential);
    tool
}

/// A gRPC server with health and reflection that wants client certificates of an authority.
async fn grpc_server(pair: &Pair, clients: &Authority) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind((HOST, 0)).await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pair.certificate_pem, &pair.key_pem))
        .client_ca_root(Certificate::from_pem(clients.pem()));
    let (_, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .unwrap();
    let server = Server::builder().tls_config(tls).unwrap().add_service(health).add_service(reflection);
    let serving = async { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() };
    (endpoint, tokio::spawn(serving))
}

fn importing(endpoint: &str) -> ImportGrpcRequest {
    ImportGrpcRequest {
        endpoint: endpoint.to_owned(),
        provider: "far".into(),
        services: vec!["grpc.health.v1.Health".into()],
        methods: vec!["Check".into()],
        credentials: with("mtls"),
        allow_private_network: true,
        ..ImportGrpcRequest::default()
    }
}

/// Answers as an MCP server, as a token endpoint, and to whoever shows its token.
fn answer(request: &TlsRequest) -> (u16, String) {
    if request.head.starts_with("POST /token") {
        return (200, json!({"access_token": "token-canary", "token_type": "Bearer"}).to_string());
    }
    if request.head.starts_with("GET /token-wanted") && !request.head.contains("Bearer token-canary") {
        return (401, "{}".to_owned());
    }
    let asked: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = match asked["method"].as_str() {
        None => return (200, json!({"done": true}).to_string()),
        Some("tools/call") => {
            json!({"resultType": "complete", "content": [{"type": "text", "text": "done"}]})
        }
        Some("tools/list") => {
            let tool = json!({"name": "work", "description": "Works.", "inputSchema": {"type": "object"}});
            json!({"resultType": "complete", "tools": [tool], "ttlMs": 0, "cacheScope": "private"})
        }
        Some(_) => json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
                          "capabilities": {"tools": {}}, "ttlMs": 0, "cacheScope": "private"}),
    };
    (200, json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
}

fn registering(url: String) -> RegisterServerRequest {
    let http = HttpTransport { url, headers: [].into() };
    let transport =
        Some(McpTransport { kind: Some(mcp_transport::Kind::Http(http)), credentials: Vec::new() });
    RegisterServerRequest { name: "near".into(), transport, verify: true, ..RegisterServerRequest::default() }
}

fn token_of(server: &TlsServer) -> Kind {
    Kind::Oauth2Client(OAuth2ClientSecret {
        token_url: server.url(HOST, "/token"),
        client_id: "me".into(),
        client_secret: "hunter2-canary".into(),
        ..OAuth2ClientSecret::default()
    })
}

/// A suite whose settings name this file of authorities.
async fn suite(mode: Mode, file: &Path) -> Suite {
    Suite::start_with(mode, |settings| file.clone_into(&mut settings.tls.extra_ca_file)).await
}

async fn an_authority_of_the_settings_is_trusted_by_every_client(mode: Mode) {
    let (ours, clients) = (Authority::new(), Authority::new());
    let folder = testkit::folder();
    let file = folder.path().join("ca.pem");
    fs::write(&file, format!("{}{}", Authority::new().pem(), ours.pem())).unwrap();
    let suite = suite(mode, &file).await;
    let open = TlsServer::start(&ours.issue(HOST), None, answer);
    let closed = TlsServer::start(&ours.issue(HOST), Some(&clients), answer);
    let (endpoint, serving) = grpc_server(&ours.issue(HOST), &clients).await;
    put_identity(&suite, &clients.issue("client.example")).await;
    put(&suite, "token", token_of(&open)).await.unwrap();

    suite.admin.registry().register_server(registering(open.url(HOST, "/mcp"))).await.unwrap();
    let imported = suite.admin.registry().import_grpc(importing(&endpoint)).await.unwrap().into_inner();
    let check = imported.tools[0].name.clone();
    let agent = suite.agent("").await;
    for tool in [
        getting("near.token", open.url(HOST, "/token-wanted"), "token"),
        getting("near.mtls", closed.url(HOST, "/"), "mtls"),
    ] {
        suite.register(tool).await;
    }
    for name in ["near.work", "near.token", "near.mtls", &check] {
        suite.grant(&agent, name).await;
        let execution = agent.call(name, json!({})).await;
        assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{name}: {execution:?}");
    }
    // Without a certificate, and with one that its server does not take.
    suite.register(getting("near.bare", closed.url(HOST, "/"), "token")).await;
    suite.grant(&agent, "near.bare").await;
    let error = agent.call("near.bare", json!({})).await.error.unwrap();
    assert!(error.message.contains("wants a client certificate"), "{error:?}");
    assert_eq!(error.reached(), Reached::No);
    put_identity(&suite, &Authority::new().issue("client.example")).await;
    let refusal = suite.admin.registry().import_grpc(importing(&endpoint)).await.unwrap_err();
    assert!(refusal.message().contains("refuses the client certificate"), "{refusal:?}");
    serving.abort();
    suite.stop().await;
}

async fn without_it_each_of_them_says_what_is_wrong(mode: Mode) {
    let (theirs, clients) = (Authority::new(), Authority::new());
    let suite = suite(mode, Path::new("")).await;
    let open = TlsServer::start(&theirs.issue(HOST), None, answer);
    let (endpoint, serving) = grpc_server(&theirs.issue(HOST), &clients).await;
    put_identity(&suite, &clients.issue("client.example")).await;
    let why = "authority that is not trusted";

    let refusal =
        suite.admin.registry().register_server(registering(open.url(HOST, "/mcp"))).await.unwrap_err();
    assert!(refusal.code() == Code::Unavailable && refusal.message().contains(why), "{refusal:?}");
    let refusal = suite.admin.registry().import_grpc(importing(&endpoint)).await.unwrap_err();
    assert!(refusal.code() == Code::Unavailable && refusal.message().contains(why), "{refusal:?}");
    // A token is fetched before its credential is kept.
    let refusal = put(&suite, "token", token_of(&open)).await.unwrap_err();
    assert!(refusal.code() == Code::Unavailable && refusal.message().contains(why), "{refusal:?}");
    assert!(!format!("{refusal:?}").contains("hunter2"), "{refusal:?}");
    let agent = suite.agent_with(getting("far.plain", open.url(HOST, "/"), "mtls")).await;
    let error = agent.call("far.plain", json!({})).await.error.unwrap();
    assert!(error.code() == ToolErrorCode::Unreachable && error.message.contains(why), "{error:?}");
    assert_eq!(open.requests(), 0);
    serving.abort();
    suite.stop().await;
}
