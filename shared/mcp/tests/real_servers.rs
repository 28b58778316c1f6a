//! The client against servers other people run: `mcp-server-time` (stdio, 2026-07-28) and
//! `server-everything` (streamable HTTP, 2025-11-25).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mcp::{Call, CallEvent, Client, Error, ToolResult};
use serde_json::{Map, Value, json};
use support::{PATIENCE, http, installed, stdio};

const TIME: &str = "python/bin/mcp-server-time";
const EVERYTHING: &str = "node/node_modules/.bin/mcp-server-everything";

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[tokio::test]
async fn the_time_server_lists_and_answers_over_stdio() {
    let Some(program) = installed(TIME) else { return };
    let client = Client::connect(&stdio(program, vec![]), PATIENCE).await.unwrap();
    assert_eq!(client.server().protocol_version, "2026-07-28", "{:?}", client.server());

    let tools = client.list_tools(PATIENCE).await.unwrap();
    let convert = tools.iter().find(|tool| tool.name == "convert_time").unwrap();
    assert_eq!(convert.input_schema["type"], "object");
    assert!(!convert.description.is_empty());

    let given = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let result = client.call_tool("convert_time", object(&given), PATIENCE).await.unwrap();
    assert!(!result.is_error && format!("{result:?}").contains("21:00"), "{result:?}");

    let wrong = client.call_tool("convert_time", Map::new(), PATIENCE).await;
    assert!(
        matches!(wrong, Ok(ToolResult { is_error: true, .. }) | Err(Error::Protocol { .. })),
        "{wrong:?}"
    );
    client.close().await;
    assert!(client.is_closed());
}

/// The everything server on a free port; killed when dropped.
struct Everything {
    process: Child,
    url: String,
}

impl Everything {
    async fn start() -> Option<Self> {
        let program = installed(EVERYTHING)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .arg("streamableHttp")
            .env("PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}/mcp") };
        let deadline = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "the everything server does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(server)
    }

    async fn connect(&self) -> Client {
        Client::connect(&http(&self.url), PATIENCE).await.unwrap()
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test]
async fn the_everything_server_lists_and_answers_over_http() {
    let Some(server) = Everything::start().await else { return };
    let client = server.connect().await;
    assert_eq!(client.server().protocol_version, "2025-11-25", "{:?}", client.server());
    let tools = client.list_tools(PATIENCE).await.unwrap();
    assert!(tools.iter().any(|tool| tool.name == "echo"), "{tools:?}");
    assert!(tools.iter().any(|tool| tool.output_schema.is_some()), "{tools:?}");

    let calls = (0..20).map(|number| {
        let client = client.clone();
        async move {
            let given = json!({"message": format!("number {number}")});
            let result = client.call_tool("echo", object(&given), PATIENCE).await.unwrap();
            assert_eq!(result.content[0]["text"], format!("Echo: number {number}"));
        }
    });
    futures_util::future::join_all(calls).await;
    client.close().await;
    assert!(matches!(client.call_tool("echo", Map::new(), PATIENCE).await, Err(Error::Closed { .. })));
}

#[tokio::test]
async fn a_long_call_over_http_times_out_and_leaves_the_client_usable() {
    let Some(server) = Everything::start().await else { return };
    let client = server.connect().await;
    let tools = client.list_tools(PATIENCE).await.unwrap();
    let long = tools.iter().find(|tool| tool.name.to_lowercase().contains("long")).unwrap();
    let given = json!({"duration": 30, "steps": 3});
    let limit = Duration::from_millis(500);
    let error = client.call_tool(&long.name, object(&given), limit).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let echo = client.call_tool("echo", object(&json!({"message": "still here"})), PATIENCE).await.unwrap();
    assert_eq!(echo.content[0]["text"], "Echo: still here");
}

#[tokio::test]
async fn a_long_call_tells_its_progress() {
    let Some(server) = Everything::start().await else { return };
    let client = server.connect().await;
    let tools = client.list_tools(PATIENCE).await.unwrap();
    let long = tools.iter().find(|tool| tool.name.to_lowercase().contains("long")).unwrap();
    let call = Call {
        tool: &long.name,
        arguments: object(&json!({"duration": 1, "steps": 4})),
        meta: Map::new(),
        timeout: PATIENCE,
    };
    let mut steps = Vec::new();
    let result = client.call_tool_with(call, |event| {
        if let CallEvent::Progress { progress, total, .. } = event {
            steps.push((progress, total));
        }
    });
    assert!(!result.await.unwrap().is_error);
    let expected: Vec<_> = (1..=4).map(|step| (f64::from(step), Some(4.0))).collect();
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn a_server_that_went_away_cannot_be_reached() {
    let Some(server) = Everything::start().await else { return };
    let client = server.connect().await;
    let url = server.url.clone();
    drop(server);
    let error = Client::connect(&http(&url), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_unsent(), "{error}");
    let error = client.call_tool("echo", Map::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. } | Error::Closed { .. }), "{error}");
}
