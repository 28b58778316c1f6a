//! Credentials of tools: sent to the tool's server and to nobody else, replaced while calls run, ended at once, and
//! nowhere to be found afterwards.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Form, Json, Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, post},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use proto::{
    executor::v1::{Execution, ExecutionStatus, ToolErrorCode},
    registry::v1::{
        BasicSecret, CredentialSecret, CredentialState, CredentialUse, ListCredentialsRequest, McpTransport,
        OAuth2ClientSecret, OAuth2RefreshSecret, PutCredentialRequest, PutCredentialResponse,
        RegisterServerRequest, ResolveCredentialRequest, RevokeCredentialRequest, RotateCredentialRequest,
        StdioTransport, credential_secret::Kind, credential_use::Place, mcp_transport,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{HttpTool, Suite, eventually, refused, result};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::Code;

tests::scenarios! {
    each_kind_reaches_its_server_and_nobody_else,
    a_token_is_fetched_once_and_anew_when_it_is_refused,
    a_refresh_token_that_is_replaced_each_time_is_never_used_twice,
    a_child_process_has_its_credential_and_cannot_tell_it,
    an_mcp_server_that_refuses_a_key_is_shown_the_next_in_the_same_call,
    a_rotation_under_load_fails_no_call,
    a_revoked_credential_is_refused_everywhere_within_a_second,
    what_is_missing_or_not_allowed_is_told,
}

/// A server that lets in whoever shows one of its keys, wherever it stands, and repeats all that it was shown.
struct Guarded {
    url: String,
    keys: Arc<Mutex<HashSet<String>>>,
    /// Tokens that its token endpoint gave out.
    tokens: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Door {
    keys: Arc<Mutex<HashSet<String>>>,
    tokens: Arc<AtomicUsize>,
}

impl Guarded {
    async fn start(keys: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let keys = Arc::new(Mutex::new(keys.iter().map(ToString::to_string).collect()));
        let tokens = Arc::<AtomicUsize>::default();
        let door = Door { keys: Arc::clone(&keys), tokens: Arc::clone(&tokens) };
        let routes =
            Router::new().route("/token", post(token)).route("/{*rest}", any(enter)).with_state(door);
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { url, keys, tokens, server }
    }

    fn let_in(&self, keys: &[&str]) {
        *self.keys.lock().unwrap() = keys.iter().map(ToString::to_string).collect();
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Gives out the next token to whoever knows the client's secret, and lets in those who show it.
async fn token(State(door): State<Door>, Form(form): Form<Vec<(String, String)>>) -> Response {
    if !form.contains(&("client_secret".to_owned(), "oauth-secret-canary-77".to_owned())) {
        return (StatusCode::UNAUTHORIZED, Json(json!({"error": "invalid_client"}))).into_response();
    }
    let number = door.tokens.fetch_add(1, Ordering::SeqCst) + 1;
    let token = format!("token-canary-number-{number}");
    door.keys.lock().unwrap().insert(token.clone());
    Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600})).into_response()
}

async fn enter(State(door): State<Door>, request: Request) -> Response {
    let shown: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .chain([request.uri().to_string()])
        .collect();
    let decoded: Vec<String> = shown
        .iter()
        .filter_map(|line| line.split_once("Basic ").and_then(|(_, pair)| BASE64.decode(pair).ok()))
        .map(|pair| String::from_utf8(pair).unwrap())
        .collect();
    let keys = door.keys.lock().unwrap().clone();
    let is_known = |line: &String| keys.iter().any(|key| line.contains(key.as_str()));
    if !shown.iter().chain(&decoded).any(is_known) {
        return (StatusCode::UNAUTHORIZED, format!("not one of mine: {shown:?}")).into_response();
    }
    let of_this = |key: &&String| shown.iter().chain(&decoded).any(|line| line.contains(key.as_str()));
    let forms: Vec<Value> = keys
        .iter()
        .filter(of_this)
        .map(|key| {
            json!({"raw": key, "hex": hex::encode(key), "base64": BASE64.encode(format!("u:{key}")),
            "json": json!({"in": key}).to_string()})
        })
        .collect();
    Json(json!({"in": true, "shown": shown, "forms": forms})).into_response()
}

async fn put(suite: &Suite, name: &str, kind: Kind) -> PutCredentialResponse {
    let secret = Some(CredentialSecret { kind: Some(kind) });
    let request = PutCredentialRequest { name: name.into(), secret, ..PutCredentialRequest::default() };
    suite.admin.registry().put_credential(request).await.unwrap().into_inner()
}

fn using(name: &str, url: String, credential: &str, place: Option<Place>, prefix: &str) -> HttpTool {
    let mut tool = HttpTool::new(name, url);
    let used = CredentialUse { credential: credential.into(), place, prefix: prefix.into() };
    tool.http.credentials = vec![used];
    tool
}

fn succeeded(execution: &Execution) {
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
}

/// Everything in the database, as text.
async fn dump(suite: &Suite) -> String {
    let database = suite.database();
    let pool = database.pool().unwrap();
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT schemaname::text, tablename::text FROM pg_tables
         WHERE schemaname IN ('audit', 'executor', 'permissions', 'registry', 'selector')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut dump = String::new();
    for (schema, table) in tables {
        // Names of our own tables.
        let query = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {schema}.{table} t"));
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        dump.extend(rows);
    }
    dump
}

fn holds_no(text: &str, canary: &str) {
    let hex = hex::encode(canary);
    let inner = BASE64.encode(canary);
    for form in [canary, &hex, &hex.to_uppercase(), &inner[..inner.len() - 4]] {
        assert!(!text.contains(form), "{form} stands where it must not: {text:.2000}");
    }
}

async fn each_kind_reaches_its_server_and_nobody_else(suite: &Suite) {
    let header = || Some(Place::Header("x-api-key".into()));
    let basic = |user: &str, password: &str| {
        Kind::Basic(BasicSecret { user: user.into(), password: password.into() })
    };
    let key = |text: &str| Kind::ApiKey(text.into());
    for (name, secret, canary, seen, place, prefix) in [
        ("header", key("header-canary-11"), "header-canary-11", "header-canary-11", header(), "Key "),
        ("bearer", key("bearer-canary-22"), "bearer-canary-22", "bearer-canary-22", None, ""),
        (
            "query",
            key("query&canary=33"),
            "query&canary=33",
            "query%26canary%3D33",
            Some(Place::Query("k".into())),
            "",
        ),
        (
            "cookie",
            key("cookie-canary-44"),
            "cookie-canary-44",
            "cookie-canary-44",
            Some(Place::Cookie("c".into())),
            "",
        ),
        ("basic", basic("me", "basic canary/55"), "basic canary/55", "basic canary/55", None, ""),
        ("user", basic("user-canary-66", ""), "user-canary-66", "user-canary-66", None, ""),
    ] {
        // A server of its own: what another one knows is not this credential's to hide.
        let guarded = Guarded::start(&[seen]).await;
        put(suite, name, secret).await;
        let tool = format!("door.{name}");
        let url = format!("{}/{name}", guarded.url);
        let agent = suite.agent_with(using(&tool, url, name, place, prefix)).await;
        let execution = agent.call(&tool, json!({})).await;
        succeeded(&execution);
        assert_eq!(result(&execution)["in"], json!(true));
        let text = format!("{execution:?}");
        assert!(text.contains(&format!("[credential {name}]")), "{text}");
        holds_no(&text, canary);
        suite.wait_until_delivered().await;
        holds_no(&dump(suite).await, canary);
    }
}

async fn a_token_is_fetched_once_and_anew_when_it_is_refused(suite: &Suite) {
    let guarded = Guarded::start(&[]).await;
    let secret = OAuth2ClientSecret {
        token_url: format!("{}/token", guarded.url),
        client_id: "me".into(),
        client_secret: "oauth-secret-canary-77".into(),
        secret_in_body: true,
        ..OAuth2ClientSecret::default()
    };
    put(suite, "granted", Kind::Oauth2Client(secret)).await;
    let agent =
        suite.agent_with(using("door.oauth", format!("{}/o", guarded.url), "granted", None, "")).await;
    let calls = (0..10).map(|_| agent.call("door.oauth", json!({})));
    for execution in futures_util::future::join_all(calls).await {
        succeeded(&execution);
        holds_no(&format!("{execution:?}"), "token-canary-number-1");
    }
    assert_eq!(guarded.tokens.load(Ordering::SeqCst), 1);
    // The token is not asked for again within a second of its birth.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    guarded.let_in(&[]);
    let execution = agent.call("door.oauth", json!({})).await;
    succeeded(&execution);
    assert_eq!((guarded.tokens.load(Ordering::SeqCst), execution.attempts.len()), (2, 1));
    suite.wait_until_delivered().await;
    let dump = dump(suite).await;
    for canary in ["token-canary-number-1", "token-canary-number-2", "oauth-secret-canary-77"] {
        holds_no(&dump, canary);
    }
}

/// A token endpoint that replaces the refresh token whenever it is used, and takes each one once (RFC 9700, section
/// 4.14.2).
#[derive(Clone, Default)]
struct Refreshing {
    keys: Arc<Mutex<HashSet<String>>>,
    /// Number of the refresh token that is valid.
    valid: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
}

async fn refresh(State(endpoint): State<Refreshing>, Form(form): Form<Vec<(String, String)>>) -> Response {
    let number = endpoint.valid.load(Ordering::SeqCst);
    let expected = ("refresh_token".to_owned(), format!("refresh-canary-number-{number}"));
    let is_valid = form.contains(&("grant_type".to_owned(), "refresh_token".to_owned()))
        && form.contains(&("client_id".to_owned(), "me".to_owned()))
        && form.contains(&expected);
    if !is_valid {
        endpoint.refused.fetch_add(1, Ordering::SeqCst);
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
    }
    let next = number + 1;
    endpoint.valid.store(next, Ordering::SeqCst);
    let token = format!("access-canary-number-{next}");
    endpoint.keys.lock().unwrap().insert(token.clone());
    let refresh_token = format!("refresh-canary-number-{next}");
    let token = json!({"access_token": token, "refresh_token": refresh_token, "token_type": "bearer"});
    Json(token).into_response()
}

async fn a_refresh_token_that_is_replaced_each_time_is_never_used_twice(suite: &Suite) {
    let guarded = Guarded::start(&[]).await;
    let endpoint = Refreshing { keys: Arc::clone(&guarded.keys), ..Refreshing::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let secret = OAuth2RefreshSecret {
        token_url: format!("http://{}/token", listener.local_addr().unwrap()),
        client_id: "me".into(),
        refresh_token: "refresh-canary-number-0".into(),
        scopes: vec!["read".into()],
        ..OAuth2RefreshSecret::default()
    };
    let routes = Router::new().route("/token", post(refresh)).with_state(endpoint.clone());
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    put(suite, "refreshed", Kind::Oauth2Refresh(secret)).await;
    let tool = using("door.refreshed", format!("{}/r", guarded.url), "refreshed", None, "");
    let agent = suite.agent_with(tool).await;
    for round in 1..=3 {
        let calls = (0..10).map(|_| agent.call("door.refreshed", json!({})));
        for execution in futures_util::future::join_all(calls).await {
            succeeded(&execution);
            holds_no(&format!("{execution:?}"), &format!("access-canary-number-{round}"));
        }
        let (valid, refused) = (&endpoint.valid, &endpoint.refused);
        assert_eq!((valid.load(Ordering::SeqCst), refused.load(Ordering::SeqCst)), (round, 0));
        // The token is not asked for again within a second of its birth.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        guarded.let_in(&[]);
    }
    let dump = dump(suite).await;
    for number in 0..=3 {
        holds_no(&dump, &format!("refresh-canary-number-{number}"));
        holds_no(&dump, &format!("access-canary-number-{number}"));
    }
    // Somebody else has used it.
    endpoint.valid.store(100, Ordering::SeqCst);
    let error =
        eventually("the endpoint refuses", async || agent.call("door.refreshed", json!({})).await.error)
            .await;
    assert_eq!(error.code(), ToolErrorCode::UpstreamAuth, "{error:?}");
    assert!(error.message.contains("credential refreshed"), "{error:?}");
    holds_no(&format!("{error:?}"), "refresh-canary-number-3");
    let listed =
        suite.admin.registry().list_credentials(ListCredentialsRequest {}).await.unwrap().into_inner();
    let warning = listed.credentials.into_iter().find(|known| known.name == "refreshed").unwrap().warning;
    assert!(warning.contains("invalid_grant"), "{warning}");
    server.abort();
}

async fn register_server(suite: &Suite, name: &str, transport: McpTransport) {
    let transport = Some(transport);
    let request = RegisterServerRequest {
        name: name.into(),
        transport,
        verify: true,
        ..RegisterServerRequest::default()
    };
    let mut request = tonic::Request::new(request);
    request.set_timeout(Duration::from_secs(40));
    suite.admin.registry().register_server(request).await.unwrap();
}

async fn a_child_process_has_its_credential_and_cannot_tell_it(suite: &Suite) {
    let program = "mcp/node/node_modules/.bin/mcp-server-everything";
    let Some(program) = testkit::installed(program, "scripts/install-mcp-servers") else { return };
    put(suite, "shell", Kind::ApiKey("variable-canary-88".into())).await;
    let stdio = StdioTransport {
        command: program.to_str().unwrap().to_owned(),
        args: vec!["stdio".into()],
        env: [("PLAIN".to_owned(), "seen by all".to_owned())].into(),
    };
    let place = Some(Place::Env("SECRET_TOKEN".into()));
    let used = CredentialUse { credential: "shell".into(), place, prefix: "token ".into() };
    let transport = McpTransport { kind: Some(mcp_transport::Kind::Stdio(stdio)), credentials: vec![used] };
    register_server(suite, "every", transport).await;
    let agent = suite.agent("").await;
    suite.grant(&agent, "every.get-env").await;
    let execution = agent.call("every.get-env", json!({})).await;
    succeeded(&execution);
    // The whole environment of the process, as it prints it.
    let text = format!("{execution:?}");
    for shown in ["SECRET_TOKEN", "[credential shell]", "seen by all"] {
        assert!(text.contains(shown), "{shown}: {text}");
    }
    holds_no(&text, "variable-canary-88");
    suite.wait_until_delivered().await;
    holds_no(&dump(suite).await, "variable-canary-88");
}

/// An MCP server over HTTP that answers whoever shows one of its keys, and 401 to anybody else.
async fn speak(State(keys): State<Arc<Mutex<HashSet<String>>>>, request: Request) -> Response {
    let shown = request.headers().get("authorization").and_then(|key| key.to_str().ok()).unwrap_or_default();
    let is_known = keys.lock().unwrap().contains(shown.trim_start_matches("Bearer "));
    let told = format!("not one of mine: {shown}");
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    if !is_known {
        return (StatusCode::UNAUTHORIZED, told).into_response();
    }
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let result = match asked["method"].as_str() {
        Some("tools/call") => {
            json!({"resultType": "complete", "content": [{"type": "text", "text": "done"}]})
        }
        Some("tools/list") => {
            let tool = json!({"name": "work", "description": "Works.", "inputSchema": {"type": "object"}});
            json!({"resultType": "complete", "tools": [tool], "ttlMs": 0, "cacheScope": "private"})
        }
        _ => {
            json!({"resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                    "ttlMs": 0, "cacheScope": "private"})
        }
    };
    Json(json!({"jsonrpc": "2.0", "id": asked["id"], "result": result})).into_response()
}

async fn an_mcp_server_that_refuses_a_key_is_shown_the_next_in_the_same_call(suite: &Suite) {
    let keys: Arc<Mutex<HashSet<String>>> = Arc::new(Mutex::new(["old-canary-1".to_owned()].into()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let routes = Router::new().route("/mcp", any(speak)).with_state(Arc::clone(&keys));
    let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    put(suite, "spoken", Kind::ApiKey("old-canary-1".into())).await;
    let http = proto::registry::v1::HttpTransport { url, headers: [].into() };
    let used = CredentialUse { credential: "spoken".into(), ..CredentialUse::default() };
    let transport = McpTransport { kind: Some(mcp_transport::Kind::Http(http)), credentials: vec![used] };
    register_server(suite, "spoken", transport).await;
    let agent = suite.agent("").await;
    suite.grant(&agent, "spoken.work").await;
    succeeded(&agent.call("spoken.work", json!({})).await);
    // The executor knows the key for most of a second; from one moment to the next the server knows another.
    let secret = Some(CredentialSecret { kind: Some(Kind::ApiKey("new-canary-2".into())) });
    let request =
        RotateCredentialRequest { name: "spoken".into(), secret, ..RotateCredentialRequest::default() };
    suite.admin.registry().rotate_credential(request).await.unwrap();
    *keys.lock().unwrap() = ["new-canary-2".to_owned()].into();
    let execution = agent.call("spoken.work", json!({})).await;
    succeeded(&execution);
    assert_eq!(execution.attempts.len(), 1, "{execution:?}");
    *keys.lock().unwrap() = HashSet::new();
    let refused = agent.call("spoken.work", json!({})).await;
    assert_eq!(refused.error.clone().unwrap().code(), ToolErrorCode::UpstreamAuth, "{refused:?}");
    assert_eq!(refused.status(), ExecutionStatus::Failed, "it was not begun");
    holds_no(&format!("{refused:?}"), "new-canary-2");
    server.abort();
}

async fn a_rotation_under_load_fails_no_call(suite: &Suite) {
    let guarded = Arc::new(Guarded::start(&["first-canary-1", "second-canary-2"]).await);
    put(suite, "rolling", Kind::ApiKey("first-canary-1".into())).await;
    let mut tool = using("door.rolling", format!("{}/r", guarded.url), "rolling", None, "");
    tool.definition.rate_limit_per_minute = 1_000_000;
    let agent = suite.agent_with(tool).await;
    let (mut calls, begin) = (tokio::task::JoinSet::new(), Instant::now());
    for number in 0..600_u32 {
        tokio::time::sleep_until((begin + Duration::from_millis(5) * number).into()).await;
        let agent = agent.clone();
        calls.spawn(async move { agent.call("door.rolling", json!({})).await });
        if number == 200 {
            let secret = Some(CredentialSecret { kind: Some(Kind::ApiKey("second-canary-2".into())) });
            let request = RotateCredentialRequest {
                name: "rolling".into(),
                secret,
                ..RotateCredentialRequest::default()
            };
            let rotated = suite.admin.registry().rotate_credential(request).await.unwrap().into_inner();
            let states: Vec<_> = rotated
                .credential
                .unwrap()
                .versions
                .iter()
                .map(proto::registry::v1::CredentialVersion::state)
                .collect();
            assert_eq!(states, [CredentialState::Active, CredentialState::Retiring]);
        }
        if number == 400 {
            // The old one ends at the server from one moment to the next.
            guarded.let_in(&["second-canary-2"]);
        }
    }
    let ended = calls.join_all().await;
    let failed: Vec<_> = ended.iter().filter(|call| call.status() != ExecutionStatus::Succeeded).collect();
    assert!(failed.is_empty(), "{} of {} calls failed: {:?}", failed.len(), ended.len(), failed.first());
    suite.wait_until_delivered().await;
    let dump = dump(suite).await;
    holds_no(&dump, "first-canary-1");
    holds_no(&dump, "second-canary-2");
}

async fn a_revoked_credential_is_refused_everywhere_within_a_second(suite: &Suite) {
    let guarded = Guarded::start(&["ended-canary-1"]).await;
    put(suite, "ended", Kind::ApiKey("ended-canary-1".into())).await;
    let agent = suite.agent_with(using("door.ended", format!("{}/e", guarded.url), "ended", None, "")).await;
    succeeded(&agent.call("door.ended", json!({})).await);
    let request = RevokeCredentialRequest { name: "ended".into(), version: 0 };
    suite.admin.registry().revoke_credential(request).await.unwrap();
    let begin = Instant::now();
    let refusal = eventually("the credential is refused", async || {
        let execution = agent.call("door.ended", json!({})).await;
        (execution.status() == ExecutionStatus::Failed).then_some(execution)
    })
    .await;
    println!("refused {} ms after the revocation", begin.elapsed().as_millis());
    assert!(begin.elapsed() < Duration::from_secs(5));
    let error = refusal.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::UpstreamAuth, "{error:?}");
    assert!(error.message.contains("credential ended"), "{error:?}");
    holds_no(&dump(suite).await, "ended-canary-1");
}

async fn what_is_missing_or_not_allowed_is_told(suite: &Suite) {
    let guarded = Guarded::start(&["any-canary-1"]).await;
    let agent =
        suite.agent_with(using("door.nothing", format!("{}/n", guarded.url), "nothing", None, "")).await;
    let error = agent.call("door.nothing", json!({})).await.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::NotConfigured);
    assert!(error.message.contains("credential nothing"), "{error:?}");
    put(suite, "stale", Kind::ApiKey("another-canary-1".into())).await;
    let agent = suite.agent_with(using("door.stale", format!("{}/s", guarded.url), "stale", None, "")).await;
    let error = agent.call("door.stale", json!({})).await.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::UpstreamAuth);
    holds_no(&format!("{error:?}"), "another-canary-1");
    let request = || ResolveCredentialRequest { name: "stale".into(), refused_version: 0 };
    let asked = suite.admin.registry().resolve_credential(request()).await;
    refused(asked, Code::PermissionDenied, ErrorReason::RoleRequired);
    let secret = Some(CredentialSecret { kind: Some(Kind::ApiKey("x".into())) });
    let put = PutCredentialRequest { name: "Not a name".into(), secret, ..PutCredentialRequest::default() };
    refused(
        suite.admin.registry().put_credential(put).await,
        Code::InvalidArgument,
        ErrorReason::InvalidRequest,
    );
}
