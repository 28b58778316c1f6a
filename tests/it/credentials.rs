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
        BasicSecret, CredentialSecret, CredentialState, CredentialUse, OAuth2ClientSecret,
        PutCredentialRequest, PutCredentialResponse, ResolveCredentialRequest, RevokeCredentialRequest,
        RotateCredentialRequest, credential_secret::Kind, credential_use::Place,
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
