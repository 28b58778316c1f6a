//! A credential that a tool's server repeats, in whatever form, wherever in its answer and however the call ends, stands
//! nowhere afterwards: not in the answer, the cache, the database or the log.

use std::{
    io::Write,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes},
    http::Response,
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE},
};
use proto::{
    executor::v1::{ExecutionStatus, GetExecutionRequest, ListExecutionsRequest},
    registry::v1::{
        Binding, CacheSettings, CredentialUse, ToolDefinition, binding::Kind as BindingKind,
        resolve_credential_response::Kind,
    },
};
use serde_json::{Value, json};

use super::{
    cache::{keeping, read_only},
    fakes::{Fakes, Mood},
    house::{House, posting, request},
    upstream::{Seen, Upstream},
};

/// With a character for each encoding to change.
const CANARY: &str = "c4n\"ry/+?=~&secret";

/// What a server may make of a secret, written here anew: what takes them out does not say what they are.
#[allow(clippy::format_collect, reason = "short texts of a test")]
fn encodings() -> Vec<String> {
    let mut all = vec![
        CANARY.to_owned(),
        hex::encode(CANARY),
        hex::encode_upper(CANARY),
        url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect(),
        CANARY.bytes().map(|byte| format!("%{byte:02x}")).collect(),
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
    let is_base64 = form.len().is_multiple_of(4)
        && form.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/_-=".contains(&b));
    if is_base64 { &form[4..form.len() - 5] } else { form }
}

fn holds_none(text: &str, place: &str) {
    for form in encodings() {
        // As `bytea` is printed.
        for written in [hex::encode(core(&form)), core(&form).to_owned()] {
            assert!(!text.contains(&written), "{place} holds {written}: {text:.3000}");
        }
    }
    // Half of it is a secret, too.
    assert!(!text.contains(&CANARY[..10]), "{place} holds the first half: {text:.3000}");
}

/// Every form, in a value of several levels, in names, and in JSON within texts within texts.
fn echoed() -> Value {
    let forms = encodings();
    let names: serde_json::Map<String, Value> = forms.iter().map(|form| (form.clone(), json!(1))).collect();
    let inner = json!({"again": forms, "names": names}).to_string();
    let twice = json!({"text": inner}).to_string();
    json!({"forms": forms, "deep": [[{"a": {"b": [forms]}}]], "names": names, "json": inner, "twice": twice,
        "prose": format!("so: {}, and Bearer {CANARY}.", forms.join(", "))})
}

type Answer = fn() -> Response<Body>;

/// How a server may answer; what it says besides is not of interest.
fn answers() -> Vec<(&'static str, Answer)> {
    vec![
        ("ok", || respond(200, &echoed().to_string())),
        ("text", || respond(200, &encodings().join(" and "))),
        ("refusal", || respond(400, &echoed().to_string())),
        ("short refusal", || respond(403, &format!("no: {CANARY}"))),
        ("fault", || respond(500, &encodings().join("\n"))),
        ("unauthorized", || {
            let mut answer = respond(401, &echoed().to_string());
            answer
                .headers_mut()
                .insert("www-authenticate", format!("Bearer realm={}", hex::encode(CANARY)).parse().unwrap());
            answer
        }),
        ("redirect", || {
            let mut answer = respond(302, &echoed().to_string());
            let encoded: String = url::form_urlencoded::byte_serialize(CANARY.as_bytes()).collect();
            answer
                .headers_mut()
                .insert("location", format!("http://127.0.0.1:1/?key={encoded}").parse().unwrap());
            answer
        }),
        ("header", || {
            let mut answer = respond(429, "slow down");
            answer.headers_mut().insert("retry-after", hex::encode(CANARY).parse().unwrap());
            answer.headers_mut().insert("x-echo", STANDARD.encode(CANARY).parse().unwrap());
            answer
        }),
        ("chunks", || {
            // Each byte by itself: every secret is cut everywhere.
            let bytes = echoed().to_string().into_bytes();
            let chunks = bytes.chunks(7).map(|chunk| Ok::<_, std::io::Error>(Bytes::copy_from_slice(chunk)));
            let chunks: Vec<_> = chunks.collect();
            Response::new(Body::from_stream(futures_util::stream::iter(chunks)))
        }),
        ("cut", || respond(400, &format!("{}{CANARY}", "x".repeat(3_990)))),
    ]
}

fn respond(status: u16, body: &str) -> Response<Body> {
    let answer = Response::builder().status(status).header("content-type", "application/json");
    answer.body(Body::from(body.to_owned())).unwrap()
}

fn shown(mut tool: ToolDefinition) -> ToolDefinition {
    if let Some(Binding { kind: Some(BindingKind::Http(binding)) }) = &mut tool.binding {
        binding.credentials = vec![CredentialUse { credential: "key".into(), ..CredentialUse::default() }];
    }
    tool
}

/// Everything that the process logs, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every row of every table, as text; bytes as hexadecimal digits.
async fn everything(house: &House) -> String {
    let tables = house
        .texts(
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables
             WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')",
        )
        .await;
    let mut everything = String::new();
    for table in tables {
        let query = sqlx::AssertSqlSafe(format!("SELECT t::text FROM {table} t"));
        let rows: Vec<String> =
            sqlx::query_scalar(query).fetch_all(house.database.pool().unwrap()).await.unwrap();
        everything.extend(rows);
    }
    everything
}

#[tokio::test]
async fn a_credential_that_a_server_repeats_in_any_form_stands_nowhere_afterwards() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    // With one subscriber alone, what a thread without it meets first is taken for switched off everywhere.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(subscriber);
    let house = House::new().await;
    // What is told stays where it is written.
    Fakes::set(&house.fakes.audit, Mood::Down);
    Fakes::set(&house.fakes.selector, Mood::Down);
    let key = || Kind::ApiKey(CANARY.into());
    house.fakes.credentials.lock().unwrap().insert("key".into(), [key(), key()]);
    for (name, answer) in answers() {
        let server = Upstream::new(move |_: Seen| async move { answer() }).await;
        house.add_with(shown(read_only(posting(name, &server.url))), keeping(CacheSettings::default()));
        // The second one may be the cache's.
        for _ in 0..2 {
            let answer = house.execute(request(name, "{}")).await;
            holds_none(&format!("{answer:?}"), name);
        }
        assert!(server.seen()[0].headers["authorization"].to_str().unwrap().ends_with(CANARY), "{name}");
        if name == "ok" {
            assert_eq!(server.hits(), 1, "the second answer is the cache's");
        }
    }
    let mut client = house.client.clone();
    let listed = client.list_executions(house.as_agent(ListExecutionsRequest::default())).await.unwrap();
    let listed = listed.into_inner().executions;
    assert!(listed.len() >= answers().len(), "{}", listed.len());
    holds_none(&format!("{listed:?}"), "the list of executions");
    let told = listed.iter().filter(|one| one.status() == ExecutionStatus::Succeeded);
    for execution in told {
        let request = GetExecutionRequest { id: execution.id.clone() };
        let one = client.get_execution(house.as_agent(request)).await.unwrap().into_inner();
        holds_none(&format!("{one:?}"), "an execution");
    }
    let everything = everything(&house).await;
    assert!(everything.len() > 10_000, "{}", everything.len());
    holds_none(&everything, "the database");
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(log.contains("TRACE") && log.contains("tool.name"), "{log:.500}");
    holds_none(&log, "the log");
}
