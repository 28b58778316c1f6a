//! The client against HTTP endpoints that misbehave: redirects, error statuses, answers without end.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mcp::{Client, Error, MAX_MESSAGE_BYTES, Transport};
use serde_json::{Map, Value, json};
use support::{PATIENCE, http};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// An HTTP endpoint that answers every request, given as its JSON, with the bytes chosen for it; none means
/// never.
struct Endpoint {
    url: String,
    requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Endpoint {
    async fn start(answer: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let (answer, counter) = (Arc::new(answer), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), counter.clone()));
            }
        });
        Self { url, requests, task }
    }

    fn count(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The head of the next request, and its body as JSON.
async fn read_whole(stream: &mut BufReader<TcpStream>) -> (String, Value) {
    let (mut length, mut head, mut line) = (0, String::new(), String::new());
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 2) {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        head.push_str(&line);
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    (head, serde_json::from_slice(&body).unwrap_or_default())
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Value {
    read_whole(stream).await.1
}

/// One request and one answer a connection.
async fn serve(stream: TcpStream, answer: Arc<impl Fn(&Value) -> Vec<u8>>, counter: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    let request = read_request(&mut stream).await;
    counter.fetch_add(1, Ordering::SeqCst);
    let answer = answer(&request);
    if answer.is_empty() {
        std::future::pending::<()>().await;
    }
    // A client that gave up closes its side early; that is its right.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

fn response(head: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn as_json(id: &Value, result: &Value) -> Vec<u8> {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    response("200 OK\r\ncontent-type: application/json", &body)
}

/// Answers the handshake of the new era; a call gets what is given.
fn modern(call: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> impl Fn(&Value) -> Vec<u8> {
    let found = json!({
        "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}},
        "ttlMs": 0, "cacheScope": "private",
    });
    move |request| match request["method"].as_str() {
        Some("server/discover") => as_json(&request["id"], &found),
        _ => call(request),
    }
}

async fn call_of(call: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Result<mcp::ToolResult, Error> {
    let endpoint = Endpoint::start(modern(call)).await;
    let client = Client::connect(&http(&endpoint.url), PATIENCE).await.unwrap();
    client.call_tool("t", Map::new(), PATIENCE).await
}

#[tokio::test]
async fn a_plain_answer_is_understood() {
    let result =
        call_of(|request| as_json(&request["id"], &json!({"structuredContent": {"a": 1}}))).await.unwrap();
    assert_eq!((result.structured, result.is_error), (Some(json!({"a": 1})), false));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let target = Endpoint::start(|_| response("200 OK", "")).await;
    for status in ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
        let head = format!("{status}\r\nlocation: {}", target.url);
        let from = Endpoint::start(move |_| response(&head, "")).await;
        let error = Client::connect(&http(&from.url), PATIENCE).await.unwrap_err();
        assert!(matches!(error, Error::Http { status: 300..400, .. }), "{error}");
    }
    assert_eq!(target.count(), 0);
}

#[tokio::test]
async fn proxies_of_the_environment_are_ignored() {
    let trap = Endpoint::start(|_| response("500 no", "")).await;
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_plain_answer_is_understood"])
        .envs([("http_proxy", &trap.url), ("HTTP_PROXY", &trap.url), ("ALL_PROXY", &trap.url)])
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert!(status.success());
    assert_eq!(trap.count(), 0);
}

#[tokio::test]
async fn a_refused_login_is_not_tried_again() {
    let endpoint = Endpoint::start(|_| response("401 Unauthorized\r\nwww-authenticate: Bearer", "")).await;
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer hunter2".to_owned())]);
    let transport = Transport::Http { url: format!("{}?key=hunter2", endpoint.url), headers };
    let error = Client::connect(&transport, PATIENCE).await.unwrap_err();
    assert_eq!(error, Error::Http { status: 401, retry_after: None });
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let error = call_of(|_| response("429 Too Many Requests\r\nretry-after: 7", "")).await.unwrap_err();
    assert_eq!(error, Error::Http { status: 429, retry_after: Some(Duration::from_secs(7)) });
}

#[tokio::test]
async fn a_closed_port_is_told_without_the_secrets_of_its_address() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let url = format!("http://me:hunter2@127.0.0.1:{port}/mcp?key=hunter2");
    let error = Client::connect(&http(url), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
}

#[tokio::test]
async fn a_web_page_is_no_mcp_server() {
    let endpoint = Endpoint::start(|_| response("200 OK\r\ncontent-type: text/html", "<html>")).await;
    let error = Client::connect(&http(&endpoint.url), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }) && error.to_string().contains("text/html"), "{error}");
}

#[tokio::test]
async fn answers_over_the_limit_are_given_up_as_json_and_as_a_stream() {
    let text = "x".repeat(MAX_MESSAGE_BYTES + 1);
    let huge = text.clone();
    let error = call_of(move |request| as_json(&request["id"], &json!({"structuredContent": huge}))).await;
    assert!(matches!(error, Err(Error::TooLarge { .. })), "{:?}", error.err());
    let error = call_of(move |request| {
        let message = json!({"jsonrpc": "2.0", "id": request["id"], "result": {"structuredContent": text}});
        response("200 OK\r\ncontent-type: text/event-stream", &format!("data: {message}\n\n"))
    })
    .await;
    assert!(matches!(error, Err(Error::TooLarge { .. })), "{:?}", error.err());
}

#[tokio::test]
async fn a_stream_that_ends_early_is_told_as_closed() {
    let error = call_of(|_| response("200 OK\r\ncontent-type: text/event-stream", "")).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_never_answers_is_given_up_in_time() {
    let endpoint = Endpoint::start(|_| vec![]).await;
    let limit = Duration::from_secs(1);
    let error = Client::connect(&http(&endpoint.url), limit).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after, .. } if after == limit), "{error}");
}

#[tokio::test]
async fn a_call_given_up_on_a_new_server_closes_its_stream_and_sends_nothing() {
    let (started, mut begun) = tokio::sync::mpsc::unbounded_channel();
    let (ended, mut gone) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let answer = modern(|_| vec![]);
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let request = read_request(&mut stream).await;
            started.send(request["method"].clone()).unwrap();
            if request["method"] == "tools/call" {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                let ended = ended.clone();
                tokio::spawn(async move {
                    // The end of what the client sends is the end of its connection.
                    let read = stream.read(&mut [0; 16]).await;
                    ended.send(read.unwrap_or(0)).unwrap();
                });
            } else {
                stream.write_all(&answer(&request)).await.unwrap();
            }
        }
    });
    let client = Client::connect(&http(&url), PATIENCE).await.unwrap();
    for given_up_by_timeout in [true, false] {
        let limit = if given_up_by_timeout { Duration::from_millis(300) } else { PATIENCE };
        let caller = client.clone();
        let call = tokio::spawn(async move { caller.call_tool("t", Map::new(), limit).await });
        while begun.recv().await.unwrap() != "tools/call" {}
        if given_up_by_timeout {
            let error = call.await.unwrap().unwrap_err();
            assert!(matches!(error, Error::Timeout { sent: true, .. }), "{error}");
        } else {
            call.abort();
        }
        assert_eq!(tokio::time::timeout(PATIENCE, gone.recv()).await.unwrap(), Some(0));
        assert!(!client.is_closed());
    }
    assert!(begun.try_recv().is_err(), "closing the stream is the whole cancellation");
    server.abort();
}

#[tokio::test]
async fn a_name_that_cannot_stand_in_a_header_is_encoded() {
    let (heads, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let answer = modern(|request| as_json(&request["id"], &json!({"content": []})));
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = BufReader::new(stream);
            let (head, request) = read_whole(&mut stream).await;
            heads.send(head).unwrap();
            stream.write_all(&answer(&request)).await.unwrap();
        }
    });
    let client = Client::connect(&http(&url), PATIENCE).await.unwrap();
    for name in ["t\r\nX-Evil: 1", "t\0", "naïve"] {
        client.call_tool(name, Map::new(), PATIENCE).await.unwrap();
    }
    seen.close();
    let mut calls = 0;
    while let Some(head) = seen.recv().await {
        assert!(!head.to_lowercase().contains("x-evil") && !head.contains('\0') && head.is_ascii(), "{head}");
        calls += usize::from(head.contains("=?base64?"));
    }
    assert_eq!(calls, 3);
    server.abort();
}

#[tokio::test]
async fn a_call_that_times_out_is_cancelled_on_an_old_server() {
    let (cancelled, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let greeting = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"},
    });
    let endpoint = Endpoint::start(move |request| match request["method"].as_str() {
        Some("server/discover") => response("400 Bad Request", ""),
        Some("initialize") => as_json(&request["id"], &greeting),
        Some("tools/call") => vec![],
        Some("notifications/cancelled") => {
            cancelled.send(request["params"]["requestId"].clone()).unwrap();
            response("202 Accepted", "")
        }
        _ => response("202 Accepted", ""),
    })
    .await;
    let client = Client::connect(&http(&endpoint.url), PATIENCE).await.unwrap();
    assert_eq!(client.server().protocol_version, "2025-11-25");
    let error = client.call_tool("t", Map::new(), Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let id = tokio::time::timeout(PATIENCE, seen.recv()).await.unwrap().unwrap();
    assert!(id.is_number(), "{id}");
}
