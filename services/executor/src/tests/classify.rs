//! What each way in which a tool's server can misbehave is taken for: the kind of failure, whether trying again
//! may help, and whether the server may have acted, on which it hangs whether a call may be repeated.

use std::{process::Command, time::Duration};

use proto::registry::v1::{HttpBinding, ToolDefinition, binding::Kind, idempotency_key::Place};
use serde_json::{Value, json};

use super::{
    drive::{Drive, MAX_BYTES, of_server},
    house::{PATIENCE, bound, builtin, posting},
    upstream::{Raw, Step, Upstream, answer},
};
use crate::outcome::{
    Ended,
    Reached::{self, Maybe, No, Yes},
    ToolError,
    ToolErrorCode::{
        self, AddressRefused, InvalidResult, NotConfigured, Protocol, ResultTooLarge, Timeout, ToolFailed,
        Unreachable, UpstreamAuth, UpstreamRateLimited,
    },
};

/// Enough for an answer that comes at once; short, because some never come.
const SHORT: Duration = Duration::from_millis(700);
const JSON: &str = "content-type: application/json\r\nconnection: close\r\n";

/// The failure of a tool that posts to a server of this script, and whether its connection ended.
async fn met_with(script: Vec<Step>, timeout: Duration) -> Ended {
    let server = Raw::new(move |_| script.clone()).await;
    let tool = posting("tool", &server.url());
    Drive::new().run_within(timeout, &tool, &json!({"a": 1}), None).await
}

fn sends(text: &str) -> Vec<Step> {
    vec![Step::text(text)]
}

#[track_caller]
fn assert_is(case: &str, ended: Ended, code: ToolErrorCode, reached: Reached, retryable: bool) -> ToolError {
    let error = ended.expect_err(case);
    assert_eq!((error.code, error.reached, error.retryable), (code, reached, retryable), "{case}: {error:?}");
    assert!(!error.message.is_empty(), "{case}");
    error
}

#[tokio::test]
async fn each_status_says_whether_the_server_acted_and_whether_to_come_back() {
    for (head, code, reached, retryable, after) in [
        ("400 Bad Request", ToolFailed, Yes, false, 0),
        ("401 Unauthorized", UpstreamAuth, No, false, 0),
        ("403 Forbidden", UpstreamAuth, No, false, 0),
        ("404 Not Found", ToolFailed, Yes, false, 0),
        ("408 Request Timeout", ToolFailed, Maybe, true, 0),
        ("409 Conflict", ToolFailed, Yes, false, 0),
        ("422 Unprocessable", ToolFailed, Yes, false, 0),
        ("425 Too Early", ToolFailed, No, true, 0),
        ("429 Too Many Requests", UpstreamRateLimited, No, true, 0),
        ("429 Too Many Requests\r\nretry-after: 7", UpstreamRateLimited, No, true, 7_000),
        ("429 Too Many Requests\r\nretry-after: 99999999", UpstreamRateLimited, No, true, 86_400_000),
        (
            "429 Too Many Requests\r\nretry-after: Sun, 06 Nov 1994 08:49:37 GMT",
            UpstreamRateLimited,
            No,
            true,
            0,
        ),
        ("429 Too Many Requests\r\nretry-after: soon", UpstreamRateLimited, No, true, 0),
        ("500 Internal Server Error", ToolFailed, Maybe, true, 0),
        ("501 Not Implemented", ToolFailed, Maybe, false, 0),
        ("502 Bad Gateway", ToolFailed, Maybe, true, 0),
        ("503 Service Unavailable", ToolFailed, Maybe, true, 0),
        ("503 Service Unavailable\r\nretry-after: 7", ToolFailed, No, true, 7_000),
        ("504 Gateway Timeout", ToolFailed, Maybe, true, 0),
        ("304 Not Modified", ToolFailed, Yes, false, 0),
        ("302 Found", ToolFailed, Yes, false, 0),
    ] {
        let error =
            assert_is(head, met_with(Step::answer(head, "sorry"), PATIENCE).await, code, reached, retryable);
        assert_eq!(error.retry_after_ms, after, "{head}");
        assert!(error.message.contains(&head[..3]), "{head}: {error:?}");
    }
    let at = chrono::Utc::now() + chrono::Duration::seconds(600);
    let head = format!("503 Busy\r\nretry-after: {}", at.format("%a, %d %b %Y %H:%M:%S GMT"));
    let error = met_with(Step::answer(&head, ""), PATIENCE).await.unwrap_err();
    assert!((500_000..=600_000).contains(&error.retry_after_ms), "{error:?}");
}

#[tokio::test]
async fn what_never_went_out_had_no_effect() {
    let drive = Drive::new();
    let nobody = posting("tool", "http://127.0.0.1:1/?api_key=hunter2");
    let error = assert_is("refused", drive.run(&nobody, &json!({})).await, Unreachable, No, true);
    assert!(!error.message.contains("hunter2"), "{error:?}");
    // Without a body nothing is sent that could tell; the connection says it then.
    let http = HttpBinding {
        method: "GET".into(),
        url: "http://127.0.0.1:1/".into(),
        allow_private_network: true,
        ..HttpBinding::default()
    };
    let bare = bound("bare", Kind::Http(http));
    assert_is("bare", drive.run(&bare, &json!({})).await, Unreachable, No, true);
    let unknown = posting("tool", "http://unknown.test/");
    assert_is("no name", drive.run(&unknown, &json!({})).await, Unreachable, No, true);
    let plain = Raw::new(|_| Step::answer("400 Bad Request", "")).await;
    let tls = posting("tool", &plain.url().replace("http:", "https:"));
    assert_is("no TLS", drive.run(&tls, &json!({})).await, Unreachable, No, true);
    assert_eq!(plain.connections(), 1);
    let mut public = posting("tool", "http://10.0.0.1/");
    if let Some(Kind::Http(http)) = public.binding.as_mut().and_then(|binding| binding.kind.as_mut()) {
        http.allow_private_network = false;
    }
    assert_is("private", drive.run(&public, &json!({})).await, AddressRefused, No, false);
}

#[tokio::test]
async fn a_connection_that_is_lost_leaves_in_doubt_what_was_done() {
    let head = "HTTP/1.1 200 OK\r\n";
    for (case, script) in [
        ("closed after the request", sends("")),
        ("reset after the request", vec![Step::Reset]),
        ("closed in the status line", sends("HTTP/1.1 2")),
        ("closed in the headers", sends("HTTP/1.1 200 OK\r\nconte")),
        ("reset in the headers", vec![Step::text(head), Step::Reset]),
    ] {
        // No answer of these says "connection: close": the script closes by itself.
        let script = [script, vec![Step::Reset]].concat();
        assert_is(case, met_with(script, PATIENCE).await, Unreachable, Maybe, true);
    }
    for (case, script) in [
        ("cut body", format!("{head}{JSON}content-length: 100\r\n\r\n{{\"a\":")),
        ("cut chunk", format!("{head}{JSON}transfer-encoding: chunked\r\n\r\n64\r\n{{\"a\":")),
        ("no chunk size", format!("{head}{JSON}transfer-encoding: chunked\r\n\r\nxyz\r\n")),
        ("no gzip", format!("{head}{JSON}content-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc")),
    ] {
        let error = assert_is(case, met_with(sends(&script), PATIENCE).await, Protocol, Yes, true);
        assert!(error.message.contains("broke off"), "{case}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_told_as_such() {
    let many = "x: y\r\n".repeat(200);
    let long = format!("x: {}\r\n", "y".repeat(1 << 20));
    for (case, script) in [
        ("HTTP/0.9", "hello, here is your page\r\n".to_owned()),
        ("another protocol", "SSH-2.0-OpenSSH_9.2\r\n\r\n".to_owned()),
        ("too many headers", format!("HTTP/1.1 200 OK\r\n{many}{JSON}\r\n{{}}")),
        ("too long a header", format!("HTTP/1.1 200 OK\r\n{long}{JSON}\r\n{{}}")),
        ("a bad status", "HTTP/1.1 2000 OK\r\n\r\n".to_owned()),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned()),
    ] {
        let script = vec![Step::text(script), Step::Hold];
        assert_is(case, met_with(script, PATIENCE).await, Protocol, Maybe, false);
    }
}

#[tokio::test]
async fn slow_servers_meet_the_deadline_and_endless_ones_the_limit() {
    let head = format!("HTTP/1.1 200 OK\r\n{JSON}");
    let drip = || Step::Repeat(b"x".to_vec(), Duration::from_millis(50));
    for (case, script, reached) in [
        ("no answer", vec![Step::Hold], Maybe),
        ("slow headers", vec![Step::text("HTTP/1.1 200 OK\r\nx: "), drip()], Maybe),
        ("a hint and no answer", vec![Step::text("HTTP/1.1 103 Early Hints\r\n\r\n"), Step::Hold], Maybe),
        ("slow body", vec![Step::text(format!("{head}content-length: 1000000\r\n\r\n")), drip()], Yes),
        ("a refusal with a slow body", vec![Step::text("HTTP/1.1 429 No\r\n\r\n"), drip()], No),
    ] {
        let mut server = Raw::new(move |_| script.clone()).await;
        let tool = posting("tool", &server.url());
        let ended = Drive::new().run_within(SHORT, &tool, &json!({"a": 1}), None).await;
        assert_is(case, ended, Timeout, reached, true);
        server.until_gone().await;
    }
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).into_bytes();
    let endless = Step::Repeat(chunk, Duration::ZERO);
    let mut server = Raw::new(move |_| {
        let head = format!("HTTP/1.1 200 OK\r\n{JSON}transfer-encoding: chunked\r\n\r\n");
        vec![Step::text(head), endless.clone()]
    })
    .await;
    let ended = Drive::new().run(&posting("tool", &server.url()), &json!({})).await;
    let error = assert_is("endless", ended, ResultTooLarge, Yes, false);
    assert!(error.message.contains(&MAX_BYTES.to_string()), "{error:?}");
    server.until_gone().await;
}

#[tokio::test]
async fn a_body_longer_than_it_says_is_cut_there_and_a_hint_before_the_answer_is_skipped() {
    let head = format!(
        "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\n{JSON}content-length: 2\r\n\r\n"
    );
    let ended = met_with(sends(&format!("{head}{{}}HTTP/1.1 200 OK\r\n\r\nsmuggled")), PATIENCE).await;
    assert_eq!(ended.unwrap(), "{}");
    assert_eq!(met_with(Step::answer("204 No Content", ""), PATIENCE).await.unwrap(), r#"{"status":204}"#);
    assert_eq!(met_with(Step::answer("200 OK", ""), PATIENCE).await.unwrap(), r#"{"status":200}"#);
}

fn compressed(program: &str) -> Vec<u8> {
    let program = format!("import gzip, sys; z = gzip.compress; sys.stdout.buffer.write({program})");
    Command::new("python3").args(["-c", &program]).output().unwrap().stdout
}

#[tokio::test]
async fn what_is_compressed_counts_as_what_it_becomes() {
    let bomb = compressed("z(bytes(10 << 20), 9)");
    let nested = compressed("z(z(bytes(10 << 20), 9), 9)");
    assert!(bomb.len() < 20_000 && nested.len() < bomb.len());
    let upstream = Upstream::new(move |seen| {
        let (encoding, body) = match seen.target.as_str() {
            "/bomb" => ("gzip", bomb.clone()),
            "/nested" => ("gzip, gzip", nested.clone()),
            other => (other.trim_start_matches('/').to_owned().leak() as &str, b"x".to_vec()),
        };
        async move { answer(200, &[("content-encoding", encoding), ("content-type", "text/plain")], body) }
    })
    .await;
    let drive = Drive::new();
    let run =
        async |path: &str| drive.run(&posting("tool", &format!("{}/{path}", upstream.url)), &json!({})).await;
    assert_is("bomb", run("bomb").await, ResultTooLarge, Yes, false);
    // Only what was asked for is decoded, and only once.
    for encoding in ["nested", "br", "deflate", "zstd"] {
        let error = assert_is(encoding, run(encoding).await, Protocol, Yes, false);
        assert!(error.message.contains("encoded"), "{error:?}");
    }
    assert_eq!(run("identity").await.unwrap(), r#"{"text":"x"}"#);
    let asked = upstream.seen()[0].headers["accept-encoding"].clone();
    assert_eq!(asked, "gzip");
}

#[tokio::test]
async fn the_content_type_says_how_a_body_is_read() {
    let wants_total = r#"{"type":"object","required":["total"]}"#;
    let wants_text = r#"{"type":"object","required":["text"]}"#;
    let json_type = "application/json";
    for (kind, body, schema, expected) in [
        ("application/json", &b"{\"a\":1}"[..], "", Some(r#"{"a":1}"#)),
        ("application/problem+json", b"[1]", "", Some("[1]")),
        ("application/json", b"\xef\xbb\xbf{}", "", Some("{}")),
        ("application/json; charset=utf-8", b"\"\xc3\xa9\"", "", Some("\"é\"")),
        ("application/json; charset=iso-8859-1", b"\"\xe9\"", "", Some("\"é\"")),
        ("text/plain; charset=\"latin1\"", b"\xe9", "", Some(r#"{"text":"é"}"#)),
        ("text/plain; charset=utf-16le", b"h\0i\0", "", Some(r#"{"text":"hi"}"#)),
        ("text/html", b"<p>", "", Some(r#"{"text":"<p>"}"#)),
        ("text/html", b"<p>", wants_text, Some(r#"{"text":"<p>"}"#)),
        ("", b"{}", "", Some(r#"{"text":"{}"}"#)),
        ("text/html", b"<p>login</p>", wants_total, None),
        ("", b"{}", wants_total, None),
        (json_type, b"\xff\xfe", "", None),
        ("text/plain", b"\xff\xfe", "", None),
    ] {
        let body = body.to_vec();
        let upstream = Upstream::new(move |_| {
            let body = body.clone();
            async move { answer(200, &[("content-type", kind)], body) }
        })
        .await;
        let tool = ToolDefinition { output_schema_json: schema.into(), ..posting("tool", &upstream.url) };
        let ended = Drive::new().run(&tool, &json!({})).await;
        match expected {
            Some(text) => assert_eq!(ended.unwrap(), text, "{kind}"),
            None => drop(assert_is(kind, ended, InvalidResult, Yes, false)),
        }
    }
}

#[tokio::test]
async fn after_a_redirect_the_first_server_may_have_acted() {
    let drive = Drive::new();
    let to_nobody = |status: u16| {
        Raw::new(move |_| Step::answer(&format!("{status} Moved\r\nlocation: http://127.0.0.1:1/"), ""))
    };
    for status in [301, 302, 303] {
        let server = to_nobody(status).await;
        let ended = drive.run(&posting("tool", &server.url()), &json!({"a": 1})).await;
        assert_is("redirect", ended, Unreachable, Maybe, true);
    }
    // Where the request moved on unchanged, nothing was done with it.
    let server = Raw::new(|request| {
        if request.contains("/again") {
            return Step::answer("429 Too Many Requests", "");
        }
        Step::answer("307 Moved\r\nlocation: /again", "")
    })
    .await;
    let ended = drive.run(&posting("tool", &server.url()), &json!({"a": 1})).await;
    assert_is("moved", ended, UpstreamRateLimited, No, true);
}

/// An MCP server of the new era over HTTP that answers a call like this.
async fn mcp(call: impl Fn(&Value) -> Vec<Step> + Send + Sync + 'static) -> Raw {
    Raw::new(move |request| {
        let message: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap_or_default();
        match message["method"].as_str() {
            Some("server/discover") => rpc(&message, &json!({"result": {
                "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
                "ttlMs": 0, "cacheScope": "private",
            }})),
            _ => call(&message),
        }
    })
    .await
}

fn rpc(request: &Value, answer: &Value) -> Vec<Step> {
    let mut answer = answer.clone();
    answer["jsonrpc"] = "2.0".into();
    answer["id"] = request["id"].clone();
    Step::answer("200 OK\r\ncontent-type: application/json", &answer.to_string())
}

#[tokio::test]
async fn each_fault_of_an_mcp_server_says_whether_the_tool_may_have_run() {
    type Row = (&'static str, fn(&Value) -> Vec<Step>, ToolErrorCode, Reached, bool);
    let rows: [Row; 14] = [
        ("no method", |r| rpc(r, &json!({"error": {"code": -32601, "message": "no"}})), Protocol, No, false),
        ("no params", |r| rpc(r, &json!({"error": {"code": -32602, "message": "no"}})), Protocol, No, false),
        (
            "internal",
            |r| rpc(r, &json!({"error": {"code": -32603, "message": "no"}})),
            Protocol,
            Maybe,
            false,
        ),
        (
            "of the tool",
            |r| rpc(r, &json!({"result": {"content": [{"type": "text", "text": "no"}], "isError": true}})),
            ToolFailed,
            Yes,
            false,
        ),
        ("a task", |r| rpc(r, &json!({"result": {"odd": 1}})), Protocol, Maybe, false),
        ("401", |_| Step::answer("401 Unauthorized", ""), UpstreamAuth, No, false),
        ("403", |_| Step::answer("403 Forbidden", ""), UpstreamAuth, No, false),
        ("404", |_| Step::answer("404 Not Found", ""), ToolFailed, Yes, false),
        ("429", |_| Step::answer("429 Busy\r\nretry-after: 7", ""), UpstreamRateLimited, No, true),
        ("500", |_| Step::answer("500 No", ""), ToolFailed, Maybe, true),
        ("503", |_| Step::answer("503 No", ""), ToolFailed, Maybe, true),
        ("503 with Retry-After", |_| Step::answer("503 No\r\nretry-after: 7", ""), ToolFailed, No, true),
        ("closed", |_| vec![Step::Reset], Unreachable, Maybe, true),
        ("still", |_| vec![Step::Hold], Timeout, Maybe, true),
    ];
    for (case, call, code, reached, retryable) in rows {
        let server = mcp(call).await;
        let timeout = if case == "still" { SHORT * 3 } else { PATIENCE };
        let ended = Drive::new().run_within(timeout, &of_server(&server.url()), &json!({}), None).await;
        let error = assert_is(case, ended, code, reached, retryable);
        let after = if case == "429" || case.contains("Retry") { 7_000 } else { 0 };
        assert_eq!(error.retry_after_ms, after, "{case}");
    }
}

#[tokio::test]
async fn a_tool_whose_server_gives_no_session_was_not_called() {
    let drive = Drive::new();
    let nobody = of_server("http://127.0.0.1:1/mcp");
    assert_is("nobody", drive.run(&nobody, &json!({})).await, Unreachable, No, true);
    for (case, script, code, timeout, retryable) in [
        ("500", Step::answer("500 No", ""), ToolFailed, PATIENCE, true),
        ("a web page", Step::answer("200 OK\r\ncontent-type: text/html", "<p>"), Protocol, PATIENCE, false),
        ("still", vec![Step::Hold], Timeout, SHORT, true),
    ] {
        let server = Raw::new(move |_| script.clone()).await;
        let ended = drive.run_within(timeout, &of_server(&server.url()), &json!({}), None).await;
        assert_is(case, ended, code, No, retryable);
    }
}

#[tokio::test]
async fn the_idempotency_key_goes_where_the_tool_takes_it() {
    let drive = Drive::new();
    let server = Raw::new(|_| Step::answer("200 OK", "")).await;
    let run = async |tool: &ToolDefinition, place: &Place, given: Value| {
        drive.run_within(PATIENCE, tool, &given, Some((place, "key-1"))).await
    };
    let tool = posting("tool", &server.url());
    let (header, argument) = (Place::Header("Idempotency-Key".into()), Place::Argument("dedupe".into()));
    run(&tool, &header, json!({"a": 1})).await.unwrap();
    run(&tool, &argument, json!({"a": 1})).await.unwrap();
    run(&tool, &argument, json!({"dedupe": "own"})).await.unwrap();
    let query = HttpBinding {
        method: "GET".into(),
        url: server.url(),
        query_arguments: vec!["dedupe".into()],
        allow_private_network: true,
        ..HttpBinding::default()
    };
    run(&bound("query", Kind::Http(query)), &argument, json!({})).await.unwrap();
    let sent = server.requests();
    assert!(sent[0].contains("\r\nidempotency-key: key-1\r\n") && !sent[0].contains("dedupe"), "{}", sent[0]);
    assert!(
        sent[1].ends_with(r#"{"a":1,"dedupe":"key-1"}"#) && !sent[1].contains("idempotency-key"),
        "{}",
        sent[1]
    );
    assert!(sent[2].ends_with(r#"{"dedupe":"own"}"#), "{}", sent[2]);
    assert!(sent[3].starts_with("GET /?dedupe=key-1 "), "{}", sent[3]);
    // What no server can tell two calls by is no key.
    for none in [json!(null), json!(""), json!(" "), json!(7)] {
        run(&tool, &argument, json!({ "dedupe": none })).await.unwrap();
        let last = server.requests().pop().unwrap();
        assert!(last.ends_with(r#"{"dedupe":"key-1"}"#), "{last}");
    }
    let local = Raw::on("127.0.0.2:0", |_| Step::answer("200 OK", "")).await;
    for (own, sent) in [("", "key-1"), ("own", "own")] {
        let given = json!({"url": local.url(), "headers": {"Idempotency-Key": own}});
        run(&builtin("http_request"), &header, given).await.unwrap();
        let last = local.requests().pop().unwrap();
        assert!(last.contains(&format!("\r\nidempotency-key: {sent}\r\n")), "{last}");
    }
    // An unusable place must not pass for a kept promise.
    let unsent = HttpBinding {
        method: "POST".into(),
        url: server.url(),
        query_arguments: vec!["a".into()],
        allow_private_network: true,
        ..HttpBinding::default()
    };
    let given = json!({"a": "1", "dedupe": "own", "url": local.url()});
    for tool in [bound("unsent", Kind::Http(unsent)), builtin("http_request")] {
        assert_is("unsent", run(&tool, &argument, given.clone()).await, NotConfigured, No, false);
    }
    let meta = Place::Meta("io.example/key".into());
    for place in [&meta, &Place::Header("not a name".into())] {
        assert_is("unusable", run(&tool, place, json!({})).await, NotConfigured, No, false);
    }
    assert_is(
        "built-in",
        run(&builtin("brave_web_search"), &header, json!({})).await,
        NotConfigured,
        No,
        false,
    );
    assert_eq!((server.connections(), local.connections()), (8, 2));

    let called = mcp(|request| {
        let meta = &request["params"]["_meta"]["io.example/key"];
        rpc(request, &json!({"result": {"content": [], "structuredContent": {"key": meta, "given": request["params"]["arguments"]}}}))
    })
    .await;
    let tool = of_server(&called.url());
    let result = run(&tool, &meta, json!({"a": 1})).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap(), json!({"key": "key-1", "given": {"a": 1}}));
    let result = run(&tool, &argument, json!({})).await.unwrap();
    assert_eq!(serde_json::from_str::<Value>(&result).unwrap()["given"], json!({"dedupe": "key-1"}));
    assert_is("mcp header", run(&tool, &header, json!({})).await, NotConfigured, No, false);
}
