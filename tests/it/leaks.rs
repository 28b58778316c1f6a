//! A credential that its server repeats in every form, and what an operator adds to redaction: searched for in every
//! table of every service, in answers and failures, in the trail; and in the log of the real binary.

use axum::{
    Router,
    extract::Path,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::any,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use proto::{
    audit::v1::QueryTrailRequest,
    executor::v1::ListExecutionsRequest,
    registry::v1::{
        CacheSettings, CredentialSecret, CredentialUse, PutCredentialRequest, RedactionPattern,
        RedactionSettings, ToolSettings, UpdateToolRequest, credential_secret::Kind,
    },
};
use serde_json::{Value, json};
use tests::{Client, HttpTool, Installation, Suite};
use tokio::{net::TcpListener, task::JoinHandle};

tests::scenarios! {
    a_credential_that_its_server_repeats_stands_in_no_table_of_any_service,
    what_a_tool_adds_to_redaction_holds_at_once_and_a_bad_pattern_is_refused_with_its_place,
}

/// With a character for each encoding to change.
const CANARY: &str = "l3ak\"canary/+?=~&4242";
/// What an operator of a tool calls secret.
const SEAT: &str = "ROW-4242-leak";

#[allow(clippy::format_collect, reason = "short texts of a test")]
fn encodings() -> Vec<String> {
    let mut all = vec![
        CANARY.to_owned(),
        hex::encode(CANARY),
        hex::encode_upper(CANARY),
        CANARY.bytes().map(|byte| format!("%{byte:02X}")).collect(),
        json!(CANARY).to_string().trim_matches('"').to_owned(),
        CANARY.chars().rev().collect(),
        CANARY.replace('&', "&amp;").replace('"', "&quot;"),
        CANARY.replace('=', "=3D"),
    ];
    for before in ["", "a", "ab"] {
        let text = format!("{before}{CANARY}xy");
        all.extend([STANDARD.encode(&text), URL_SAFE.encode(&text)]);
    }
    all
}

/// What of such a form is the secret's alone: digits of base64 at either end are its neighbours', too.
fn core(form: &str) -> &str {
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || b"+/_-=".contains(&byte);
    if form.len().is_multiple_of(4) && form.bytes().all(is_digit) { &form[4..form.len() - 5] } else { form }
}

fn holds_none(text: &str, place: &str) {
    for form in encodings() {
        // As `bytea` is printed.
        for written in [hex::encode(core(&form)), core(&form).to_owned()] {
            let found = text.find(&written).map(|at| text.get(at.saturating_sub(300)..).unwrap_or(text));
            assert!(found.is_none(), "{place} holds {written}: {:.700}", found.unwrap_or_default());
        }
    }
}

fn echoed() -> Value {
    let forms = encodings();
    let names: serde_json::Map<String, Value> = forms.iter().map(|form| (form.clone(), json!(1))).collect();
    let inner = json!({"again": forms, "names": names}).to_string();
    json!({"forms": forms, "deep": [[{"a": {"b": [forms]}}]], "names": names, "json": inner,
        "twice": json!({"text": inner}).to_string(), "prose": format!("so: {}, and Bearer {CANARY}.", forms.join(", "))})
}

async fn answer(Path(how): Path<String>) -> Response {
    if how == "plain" {
        // It was given no credential: scenarios beside each other share a trail, and in it this one has nothing to hide.
        return "{}".into_response();
    }
    let body = echoed().to_string();
    let status = match how.as_str() {
        "refusal" => StatusCode::BAD_REQUEST,
        "fault" => StatusCode::INTERNAL_SERVER_ERROR,
        "unauthorized" => StatusCode::UNAUTHORIZED,
        _ => StatusCode::OK,
    };
    let header = hex::encode(CANARY);
    (status, [("www-authenticate", header.clone()), ("retry-after", header)], body).into_response()
}

/// A server that repeats the credential in an answer of this status.
async fn server() -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().route("/{how}", any(answer));
    (url, tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }))
}

async fn put_canary(admin: &Client) {
    let secret = Some(CredentialSecret { kind: Some(Kind::ApiKey(CANARY.into())) });
    let request = PutCredentialRequest { name: "leaky".into(), secret, ..PutCredentialRequest::default() };
    admin.registry().put_credential(request).await.unwrap();
}

fn tool(name: &str, url: String) -> HttpTool {
    let mut tool = HttpTool::new(name, url).reading();
    tool.http.credentials = vec![CredentialUse { credential: "leaky".into(), ..CredentialUse::default() }];
    tool
}

/// Every row of every table of every schema, as text; bytes as hexadecimal digits.
async fn everything(suite: &Suite) -> String {
    let database = suite.database();
    let pool = database.pool().unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables
         WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.len() > 20, "{tables:?}");
    let mut everything = String::new();
    for table in tables {
        // Names of our own tables.
        let query = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        everything.extend(rows);
    }
    everything
}

async fn a_credential_that_its_server_repeats_stands_in_no_table_of_any_service(suite: &Suite) {
    let (url, server) = server().await;
    put_canary(&suite.admin).await;
    let cache = Some(CacheSettings { enabled: true, ttl_s: 60, ..CacheSettings::default() });
    for how in ["ok", "refusal", "fault", "unauthorized"] {
        let name = format!("leaks.{how}");
        let settings = ToolSettings { cache: cache.clone(), ..ToolSettings::default() };
        let agent = suite.agent_with_settings(tool(&name, format!("{url}/{how}")), settings).await;
        for _ in 0..2 {
            let execution = agent.call(&name, json!({})).await;
            holds_none(&format!("{execution:?}"), &name);
            assert_eq!(execution.error.is_none(), how == "ok", "{execution:?}");
        }
        let listed = agent.executions(ListExecutionsRequest::default()).await;
        holds_none(&format!("{listed:?}"), "the list of executions");
    }
    suite.wait_until_delivered().await;
    let trail = suite.trail(QueryTrailRequest::default()).await;
    assert!(!trail.is_empty());
    holds_none(&format!("{trail:?}"), "the trail");
    holds_none(&everything(suite).await, "the database");
    server.abort();
}

async fn what_a_tool_adds_to_redaction_holds_at_once_and_a_bad_pattern_is_refused_with_its_place(
    suite: &Suite,
) {
    let (url, server) = server().await;
    let agent = suite.agent_with(HttpTool::new("leaks.seats", format!("{url}/plain"))).await;
    let adding = |pattern: &str| {
        let patterns = vec![RedactionPattern { name: "seat".into(), pattern: pattern.into() }];
        let redaction = RedactionSettings { keys: vec!["seat_no".into()], patterns };
        ToolSettings { redaction: Some(redaction), ..ToolSettings::default() }
    };
    suite.update("leaks.seats", adding(r"ROW-\d{4}-[a-z]{1,20}"), &["redaction"]).await;
    let arguments = json!({"seat_no": SEAT, "note": format!("in {SEAT}"), "open": "stays"});
    let execution = tests::eventually("the settings hold", async || {
        let execution = agent.call("leaks.seats", arguments.clone()).await;
        (!execution.arguments_json.contains(SEAT)).then_some(execution)
    })
    .await;
    let stored: Value = serde_json::from_str(&execution.arguments_json).unwrap();
    assert_eq!(stored, json!({"note": "in [redacted]", "open": "stays", "seat_no": "[redacted]"}));
    let request = UpdateToolRequest {
        name: "leaks.seats".into(),
        settings: Some(adding("ROW-(")),
        update_mask: Some(prost_types::FieldMask { paths: vec!["redaction".into()] }),
        ..UpdateToolRequest::default()
    };
    let refused = suite.admin.registry().update_tool(request).await.unwrap_err();
    let details = tonic_types::StatusExt::get_error_details(&refused);
    let violations = details.bad_request().unwrap().field_violations.clone();
    assert_eq!(violations[0].field, "settings.redaction.patterns[0].pattern");
    server.abort();
}

#[test]
fn the_log_of_the_real_binary_holds_no_credential_at_any_level() {
    tests::block_on(async {
        let (url, server) = server().await;
        let mut up = Installation::start_logging("trace").await;
        let admin = up.client();
        put_canary(&admin).await;
        for how in ["ok", "refusal", "fault", "unauthorized"] {
            let name = format!("leaks.{how}");
            admin.register(tool(&name, format!("{url}/{how}"))).await;
            admin.grant("dev", &name, proto::permissions::v1::Grant::default()).await;
            let answer = admin.try_call(&name, json!({"password": CANARY})).await;
            holds_none(&format!("{answer:?}"), &name);
        }
        let secret = up.beside("secret.json");
        std::fs::write(&secret, json!({"password": CANARY}).to_string()).unwrap();
        let told = up.cli(&["audit", "redact", &format!("@{}", secret.display()), "--tool", "leaks.ok"]);
        let (told, status) = (String::from_utf8_lossy(&told.stdout).into_owned(), told.status);
        assert!(status.success() && told.contains("/password") && told.contains("key_name"), "{told}");
        holds_none(&told, "what the command line says");
        up.stop().await;
        let log = up.log();
        assert!(log.contains("TRACE") && log.contains("leaks.ok"), "{log:.1000}");
        holds_none(&log, "the log");
        server.abort();
    });
}
