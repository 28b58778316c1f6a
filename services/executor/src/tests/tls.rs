//! Certificates of an organisation's own authority, and certificates of clients: against servers that really ask for
//! them. What is wrong with one is told, and nothing was begun then.

use proto::registry::v1::{
    Binding, CredentialUse, MutualTlsSecret, ToolDefinition, binding::Kind as BindingKind,
    resolve_credential_response::Kind,
};
use reach::Authorities;
use serde_json::{Value, json};
use testkit::{Authority, Pair, TlsRequest, TlsServer};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use super::{
    credentials::checking,
    drive::{Drive, of_server},
    fakes::Fakes,
    house::posting,
};
use crate::outcome::{Reached, ToolError, ToolErrorCode};

const HOST: &str = "127.0.0.1";

fn well(_: &TlsRequest) -> (u16, String) {
    (200, r#"{"done":true}"#.to_owned())
}

fn trusted(authority: &Authority) -> Authorities {
    Authorities::of(authority.pem().to_owned()).unwrap()
}

/// A server with a certificate of `authority` that lets in clients of `clients`.
fn server(authority: &Authority, clients: Option<&Authority>) -> TlsServer {
    TlsServer::start(&authority.issue(HOST), clients, well)
}

fn getting(server: &TlsServer, credential: &str) -> ToolDefinition {
    let mut tool = posting("tool", &server.url(HOST, "/"));
    if let Some(Binding { kind: Some(BindingKind::Http(http)) }) = &mut tool.binding
        && !credential.is_empty()
    {
        http.credentials = vec![CredentialUse { credential: credential.into(), ..CredentialUse::default() }];
    }
    tool
}

fn shown(pair: &Pair, authority: Option<&Authority>) -> Kind {
    Kind::MutualTls(MutualTlsSecret {
        certificate_pem: pair.certificate_pem.clone(),
        private_key_pem: pair.key_pem.clone(),
        ca_pem: authority.map_or(String::new(), |authority| authority.pem().to_owned()),
    })
}

/// Fakes that have two versions of the client certificate `mtls`.
fn identities(versions: [Kind; 2]) -> Fakes {
    let fakes = Fakes::default();
    fakes.credentials.lock().unwrap().insert("mtls".into(), versions);
    fakes
}

fn identity(kind: &Kind) -> Fakes {
    identities([kind.clone(), kind.clone()])
}

/// It is about a certificate, nothing was begun, and another try is no help.
fn is_told(error: &ToolError, code: ToolErrorCode, words: &str) {
    assert_eq!((error.code, error.reached, error.retryable), (code, Reached::No, false), "{error:?}");
    assert!(error.message.contains(words), "{error:?}");
}

/// The health service of gRPC behind TLS.
async fn grpc_server(pair: &Pair, clients: Option<&Authority>) -> (String, JoinHandle<()>) {
    let listener = tokio::net::TcpListener::bind((HOST, 0)).await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(&pair.certificate_pem, &pair.key_pem));
    if let Some(clients) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(clients.pem()));
    }
    let (_, health) = tonic_health::server::health_reporter();
    let server = Server::builder().tls_config(tls).unwrap().add_service(health);
    let serving = async { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() };
    (endpoint, tokio::spawn(serving))
}

/// Answers as an MCP server with the tool `t`.
fn mcp(request: &TlsRequest) -> (u16, String) {
    let asked: Value = serde_json::from_str(&request.body).unwrap_or_default();
    let result = if asked["method"] == "tools/call" {
        json!({"resultType": "complete", "content": [], "structuredContent": {"done": true}})
    } else {
        json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
               "ttlMs": 0, "cacheScope": "private"})
    };
    (200, json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}).to_string())
}

#[tokio::test]
async fn servers_of_an_authority_of_ones_own_are_reached_by_every_kind_of_binding() {
    let ours = Authority::new();
    let (http, (endpoint, serving)) = (server(&ours, None), grpc_server(&ours.issue(HOST), None).await);
    let mcp = TlsServer::start(&ours.issue(HOST), None, mcp);
    let tools = [getting(&http, ""), checking(&endpoint, ""), of_server(&mcp.url(HOST, "/mcp"))];

    let drive = Drive::with(Fakes::default(), &trusted(&ours));
    for tool in &tools {
        let result = drive.run(tool, &json!({})).await.unwrap();
        assert!(result.contains("done") || result.contains("SERVING"), "{result}");
    }
    drive.drivers.close().await;
    for authorities in [Authorities::default(), trusted(&Authority::new())] {
        let stranger = Drive::with(Fakes::default(), &authorities);
        for tool in &tools {
            let error = stranger.failure(tool, &json!({})).await;
            is_told(&error, ToolErrorCode::Unreachable, "authority that is not trusted");
            assert!(error.message.contains("tls.extra_ca_file"), "{error:?}");
        }
    }
    serving.abort();
}

#[tokio::test]
async fn a_certificate_that_ended_or_is_for_another_name_is_told() {
    let ours = Authority::new();
    let drive = Drive::with(Fakes::default(), &trusted(&ours));
    for (pair, words) in [
        (ours.issue_expired(HOST), "the server's certificate has expired"),
        (ours.issue("elsewhere.example"), "the server's certificate is for another host name"),
    ] {
        let http = TlsServer::start(&pair, None, well);
        let mcp = TlsServer::start(&pair, None, mcp);
        let (endpoint, serving) = grpc_server(&pair, None).await;
        for tool in [getting(&http, ""), checking(&endpoint, ""), of_server(&mcp.url(HOST, "/mcp"))] {
            is_told(&drive.failure(&tool, &json!({})).await, ToolErrorCode::Unreachable, words);
        }
        assert_eq!((http.requests(), mcp.requests()), (0, 0));
        serving.abort();
    }
}

#[tokio::test]
async fn a_server_that_wants_client_certificates_is_shown_that_of_the_credential() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let http = server(&theirs, Some(&ours));
    let (endpoint, serving) = grpc_server(&theirs.issue(HOST), Some(&ours)).await;
    let pair = ours.issue("client.example");
    // By the credential's own authorities, or by those of the operator.
    let own = Drive::with(identity(&shown(&pair, Some(&theirs))), &Authorities::default());
    let operators = Drive::with(identity(&shown(&pair, None)), &trusted(&theirs));
    for drive in [own, operators] {
        for tool in [getting(&http, "mtls"), checking(&endpoint, "mtls")] {
            let result = drive.run(&tool, &json!({})).await.unwrap();
            assert!(result.contains("done") || result.contains("SERVING"), "{result}");
        }
    }
    // Where the credential names authorities, no others count.
    let other = shown(&pair, Some(&Authority::new()));
    let narrow = Drive::with(identity(&other), &trusted(&theirs));
    for tool in [getting(&http, "mtls"), checking(&endpoint, "mtls")] {
        let error = narrow.failure(&tool, &json!({})).await;
        is_told(&error, ToolErrorCode::Unreachable, "authority that is not trusted");
    }
    assert_eq!(http.requests(), 2);
    serving.abort();
}

#[tokio::test]
async fn who_shows_no_client_certificate_or_a_wrong_one_is_told_and_nothing_was_begun() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let http = server(&theirs, Some(&ours));
    let (endpoint, serving) = grpc_server(&theirs.issue(HOST), Some(&ours)).await;
    let nobody = Drive::with(Fakes::default(), &trusted(&theirs));
    for tool in [getting(&http, ""), checking(&endpoint, ""), getting(&http, "key")] {
        let error = nobody.failure(&tool, &json!({})).await;
        is_told(&error, ToolErrorCode::Unreachable, "wants a client certificate");
    }
    for (pair, words) in [
        (ours.issue_expired("client.example"), "it has expired"),
        (Authority::new().issue("client.example"), "does not know the authority"),
    ] {
        let drive = Drive::with(identity(&shown(&pair, Some(&theirs))), &Authorities::default());
        for tool in [getting(&http, "mtls"), checking(&endpoint, "mtls")] {
            is_told(&drive.failure(&tool, &json!({})).await, ToolErrorCode::UpstreamAuth, words);
        }
    }
    assert_eq!(http.requests(), 0);
    serving.abort();
}

#[tokio::test]
async fn a_refused_client_certificate_is_followed_by_its_next_version_in_the_same_call() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let http = server(&theirs, Some(&ours));
    let (endpoint, serving) = grpc_server(&theirs.issue(HOST), Some(&ours)).await;
    let versions = [ours.issue_expired("client.example"), ours.issue("client.example")];
    let drive =
        Drive::with(identities(versions.map(|pair| shown(&pair, Some(&theirs)))), &Authorities::default());
    for tool in [getting(&http, "mtls"), checking(&endpoint, "mtls")] {
        drive.run(&tool, &json!({})).await.unwrap();
    }
    assert_eq!(http.requests(), 1);
    serving.abort();
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_without_a_piece_of_it() {
    let ours = Authority::new();
    let (one, other) = (ours.issue("client.example"), ours.issue("client.example"));
    let mixed = Pair { certificate_pem: one.certificate_pem.clone(), key_pem: other.key_pem.clone() };
    let broken = Pair { certificate_pem: one.certificate_pem.clone(), key_pem: "hunter2".into() };
    let http = server(&ours, Some(&ours));
    for pair in [mixed, broken] {
        let drive = Drive::with(identity(&shown(&pair, Some(&ours))), &Authorities::default());
        for tool in [getting(&http, "mtls"), checking("https://127.0.0.1:1", "mtls")] {
            let error = drive.failure(&tool, &json!({})).await;
            assert_eq!((error.code, error.reached), (ToolErrorCode::NotConfigured, Reached::No), "{error:?}");
            let lines: Vec<_> = other.key_pem.lines().skip(1).collect();
            assert!(!error.message.contains("hunter2") && !error.message.contains(lines[0]), "{error:?}");
        }
    }
}
