//! One call is one trace, over two real processes that export it by OTLP, to a receiver that speaks the
//! protocol's own contract; and no export holds a secret.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::any_value::Value,
    resource::v1::Resource,
};
use prost::Message;
use proto::{
    executor::v1::{
        ExecuteRequest, ExecutionStatus, execute_request::Input,
        executor_service_client::ExecutorServiceClient,
    },
    permissions::v1::Grant,
    registry::v1::{
        BasicSecret, CredentialSecret, CredentialUse, PutCredentialRequest, credential_secret::Kind,
        credential_use::Place,
    },
};
use rustix::process::{Pid, Signal, kill_process};
use secrecy::ExposeSecret;
use serde_json::json;
use tests::{Client, HttpTool, Upstream, eventually};
use tokio::{
    net::TcpListener,
    process::{Child, Command},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Channel};

/// The trace that the client begins (W3C Trace Context, section 3.2).
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// The roles of the second process.
const INNER: &str = "registry,selector,executor,permissions,audit";

/// Span names of one trace, by the roles of the process that sent them.
type Spans = Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>;

/// Everything that was exported, as it was on the wire, and how many spans there were of each name.
#[derive(Clone, Default)]
struct Exported {
    bytes: Arc<Mutex<Vec<u8>>>,
    spans: Arc<Mutex<BTreeMap<String, usize>>>,
}

struct Receiver {
    spans: Spans,
    exported: Exported,
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let request = request.into_inner();
        self.exported.bytes.lock().unwrap().extend(request.encode_to_vec());
        let (mut seen, mut all) = (self.spans.lock().unwrap(), self.exported.spans.lock().unwrap());
        for group in request.resource_spans {
            let roles = roles(group.resource.as_ref());
            for span in group.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                *all.entry(span.name.clone()).or_default() += 1;
                if hex::encode(&span.trace_id) == TRACE_ID {
                    seen.entry(roles.clone()).or_default().insert(span.name);
                }
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn roles(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let roles = attributes.iter().find(|attribute| attribute.key == "toolcrib.roles");
    match roles.and_then(|roles| roles.value.clone()?.value) {
        Some(Value::StringValue(roles)) => roles,
        _ => String::new(),
    }
}

async fn receiver() -> (SocketAddr, Spans, Exported) {
    let (spans, exported) = (Spans::default(), Exported::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let receiver = Receiver { spans: Arc::clone(&spans), exported: exported.clone() };
    let service = TraceServiceServer::new(receiver);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (address, spans, exported)
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[test]
fn one_call_over_two_processes_is_one_exported_trace() {
    tests::block_on(async {
        let (otlp, spans, _) = receiver().await;
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir().unwrap();
        let edge = free_address().await;
        let environment = environment(folder.path(), edge, otlp).await;
        let key = migrate(&environment).await;
        let processes = [serve(&environment, INNER), serve(&environment, "edge")];

        eventually("both processes serve a call", async || try_execute(edge, &key).await.ok()).await;

        eventually("every span of the call arrives", async || {
            let seen = spans.lock().unwrap();
            let has = |roles: &str, name: &str| seen.get(roles).is_some_and(|names| names.contains(name));
            let all = has("edge", "toolcrib.executor.v1.ExecutorService/Execute")
                && has(INNER, "toolcrib.executor.v1.ExecutorService/Execute")
                && has(INNER, "toolcrib.permissions.v1.PermissionsService/Authorize")
                && has(INNER, "tool");
            all.then_some(())
        })
        .await;
        for process in processes {
            stop(process).await;
        }
    });
}

/// Calls that an attempt carries a credential in, and that fail in ways of their own.
#[test]
fn no_export_holds_a_secret_of_a_call_that_runs_or_fails() {
    tests::block_on(async {
        let (otlp, _, exported) = receiver().await;
        let permissions = Permissions::from_mode(0o755);
        let folder = tempfile::Builder::new().permissions(permissions).tempdir().unwrap();
        let edge = free_address().await;
        let mut environment = environment(folder.path(), edge, otlp).await;
        let keys = folder.path().join("credential.keys");
        std::fs::write(&keys, format!("k1 {}\n", "5a".repeat(32))).unwrap();
        std::fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
        let key_file = keys.display().to_string();
        environment.push(("TOOLCRIB__REGISTRY__CREDENTIALS__KEY_FILE".into(), key_file));
        let key = migrate(&environment).await;
        let processes = [serve(&environment, INNER), serve(&environment, "edge")];
        eventually("both processes serve a call", async || try_execute(edge, &key).await.ok()).await;

        let calls = call_with_secrets(&Client::new(edge).with_key("admin", &key)).await;
        let has_all = async || (*exported.spans.lock().unwrap().get("tool")? > calls).then_some(());
        eventually("the span of every call arrives", has_all).await;
        // What waits is sent before a process ends.
        for process in processes {
            stop(process).await;
        }
        let bytes = exported.bytes.lock().unwrap().clone();
        let holds = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        assert!(holds(b"traced.header"), "the export names the tools that were called");
        for secret in SECRETS {
            let inner = BASE64.encode(secret);
            let hex = hex::encode(secret);
            for form in [secret, &hex, &hex.to_uppercase(), &inner[..inner.len() - 4]] {
                assert!(!holds(form.as_bytes()), "{form} was exported");
            }
        }
    });
}

const SECRETS: [&str; 4] =
    ["trace-header-canary-1", "trace-query-canary-2", "trace-basic-canary-3", "trace-lost-canary-4"];

/// Calls tools with each of the secrets, well and in vain, and gives the number of calls.
async fn call_with_secrets(admin: &Client) -> usize {
    let [header, query, password, lost] = SECRETS.map(str::to_owned);
    let basic = BasicSecret { user: "me".into(), password };
    // `/echo` repeats what it was asked.
    let upstream = Upstream::start().await;
    let nowhere = format!("http://{}", free_address().await);
    let mut calls = 0;
    for (name, kind, place, url) in [
        ("header", Kind::ApiKey(header), Some(Place::Header("x-key".into())), upstream.url("/echo")),
        ("query", Kind::ApiKey(query), Some(Place::Query("key".into())), upstream.url("/echo")),
        ("basic", Kind::Basic(basic), None, upstream.url("/failing")),
        ("lost", Kind::ApiKey(lost), Some(Place::Query("key".into())), nowhere),
    ] {
        let secret = Some(CredentialSecret { kind: Some(kind) });
        let request = PutCredentialRequest { name: name.into(), secret, ..PutCredentialRequest::default() };
        admin.registry().put_credential(request).await.unwrap();
        let tool = format!("traced.{name}");
        let mut definition = HttpTool::new(&tool, url);
        let used = CredentialUse { credential: name.into(), place, prefix: String::new() };
        definition.http.credentials = vec![used];
        admin.register(definition).await;
        admin.grant("admin", &tool, Grant::default()).await;
        let execution = admin.call(&tool, json!({"given": name})).await;
        let succeeds = matches!(name, "header" | "query");
        assert_eq!(execution.status() == ExecutionStatus::Succeeded, succeeds, "{execution:?}");
        calls += 1;
    }
    calls
}

/// The settings of both processes.
async fn environment(folder: &Path, edge: SocketAddr, otlp: SocketAddr) -> Vec<(String, String)> {
    let database = testkit::database_url().await;
    let signing_key = folder.join("audit-signing.key");
    let key = trail::note::SigningKey::generate("toolcrib").unwrap();
    std::fs::write(&signing_key, key.private_key()).unwrap();
    let audit_keys = folder.join("audit.keys");
    std::fs::write(&audit_keys, format!("k1 {}\n", "5b".repeat(32))).unwrap();
    std::fs::set_permissions(&audit_keys, Permissions::from_mode(0o600)).unwrap();
    let mut environment: Vec<(String, String)> = vec![
        ("TOOLCRIB__AUDIT__KEY_FILE".into(), audit_keys.display().to_string()),
        ("TOOLCRIB__AUDIT__SIGNING_KEY_FILE".into(), signing_key.display().to_string()),
        ("TOOLCRIB__DATABASE__URL".into(), database.expose_secret().into()),
        ("TOOLCRIB__SECURITY__CALLER_TOKEN_KEY".into(), "k".repeat(32)),
        ("TOOLCRIB__SECURITY__API_KEY_PEPPER".into(), "p".repeat(32)),
        ("TOOLCRIB__TELEMETRY__OTLP_ENDPOINT".into(), format!("http://{otlp}")),
        ("TOOLCRIB__EDGE__LISTEN".into(), edge.to_string()),
        ("TOOLCRIB__EXECUTOR__WORKSPACE_ROOT".into(), folder.join("work").display().to_string()),
        ("TOOLCRIB__EXECUTOR__SANDBOX__WORK_ROOT".into(), folder.join("box").display().to_string()),
        // How long a batch of spans is gathered, in ms (OpenTelemetry environment variable specification).
        ("OTEL_BSP_SCHEDULE_DELAY".into(), "100".into()),
    ];
    for role in ["REGISTRY", "SELECTOR", "EXECUTOR", "PERMISSIONS", "AUDIT"] {
        let address = free_address().await;
        environment.push((format!("TOOLCRIB__{role}__LISTEN"), address.to_string()));
        environment.push((format!("TOOLCRIB__PEERS__{role}"), format!("http://{address}")));
    }
    environment
}

/// Makes schemas, team and key with the real command, and gives the key that it prints.
async fn migrate(environment: &[(String, String)]) -> String {
    let mut command = Command::from(tests::command());
    command.args(["migrate", "--bootstrap", "traced"]).envs(environment.iter().cloned());
    let output = command.stderr(Stdio::inherit()).output().await.unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn serve(environment: &[(String, String)], roles: &str) -> Child {
    let mut command = Command::from(tests::command());
    command.args(["serve", "--roles", roles]).envs(environment.iter().cloned()).kill_on_drop(true);
    command.spawn().unwrap()
}

/// A call that carries the trace.
async fn try_execute(edge: SocketAddr, key: &str) -> Result<(), Status> {
    let unreachable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let channel =
        Channel::from_shared(format!("http://{edge}")).unwrap().connect().await.map_err(unreachable)?;
    let arguments = r#"{"operation":"write","path":"a.txt","content":"a"}"#;
    let mut request = Request::new(ExecuteRequest {
        tool: "file_operations".into(),
        input: Some(Input::ArgumentsJson(arguments.into())),
        ..ExecuteRequest::default()
    });
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
        .metadata_mut()
        .insert("traceparent", format!("00-{TRACE_ID}-b7ad6b7169203331-01").parse().unwrap());
    let answer = ExecutorServiceClient::new(channel).execute(request).await?.into_inner();
    let execution = answer.execution.unwrap();
    assert_eq!(execution.trace_id, TRACE_ID);
    assert_eq!(execution.status(), ExecutionStatus::Succeeded);
    Ok(())
}

/// SIGTERM, and the end that it must lead to.
async fn stop(mut process: Child) {
    let pid = Pid::from_raw(i32::try_from(process.id().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let ended = tokio::time::timeout(tests::PATIENCE, process.wait()).await;
    assert!(ended.expect("the process ends when told to").unwrap().success());
}
