//! A call that is given up ends at the tool's server as well: the connection closes, or the cancellation is sent,
//! and what is shared with other calls goes on.

use std::{sync::Arc, time::Duration};

use proto::registry::v1::{
    McpBinding, McpTransport, StdioTransport, ToolDefinition, binding::Kind, mcp_transport,
};
use serde_json::{Value, json};

use super::{
    drive::Drive,
    house::{PATIENCE, bound, posting, until},
    upstream::{Raw, Step},
};
use crate::outcome::{Reached, ToolErrorCode};

const SHORT: Duration = Duration::from_millis(700);

#[tokio::test]
async fn an_http_call_that_is_given_up_closes_its_connection_wherever_it_stands() {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    for script in [
        vec![Step::Hold],
        vec![Step::text("HTTP/1.1 200 OK\r\nx: "), Step::Hold],
        vec![Step::text(format!("{head}content-length: 100\r\n\r\n{{")), Step::Hold],
        vec![Step::text(format!("{head}transfer-encoding: chunked\r\n\r\n1\r\n{{\r\n")), Step::Hold],
    ] {
        let mut server = Raw::new(move |_| script.clone()).await;
        let (drive, tool) = (Arc::new(Drive::new()), posting("tool", &server.url()));
        let call = {
            let (drive, tool) = (Arc::clone(&drive), tool.clone());
            tokio::spawn(async move { drive.run(&tool, &json!({"a": 1})).await })
        };
        until(async || !server.requests().is_empty()).await;
        assert!(server.gone.try_recv().is_err(), "it waits as long as its caller does");
        call.abort();
        server.until_gone().await;
        // A timeout is the same.
        let ended = drive.run_within(SHORT, &tool, &json!({"a": 1}), None).await;
        assert_eq!(ended.unwrap_err().code, ToolErrorCode::Timeout);
        server.until_gone().await;
    }
}

#[tokio::test]
async fn a_request_that_is_given_up_while_it_is_sent_is_cut_off() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tool = posting("tool", &format!("http://{}", listener.local_addr().unwrap()));
    let large = json!({"text": "x".repeat(64 << 20)});
    let call = tokio::spawn(async move { Drive::new().run(&tool, &large).await });
    let (mut stream, _) = listener.accept().await.unwrap();
    // The server takes nothing: most of the body stays where it is.
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    let arrived = tokio::time::timeout(PATIENCE, tokio::io::copy(&mut stream, &mut tokio::io::sink())).await;
    assert!(arrived.unwrap().unwrap_or(0) < 64 << 20);
}

/// A tool of an MCP server that is a child process, of either era; all tools of an era share the process.
fn of_child(era: &str, name: &str) -> ToolDefinition {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/mcp_server.py").to_owned();
    let stdio = StdioTransport {
        command: "python3".into(),
        args: vec![script, era.into()],
        ..StdioTransport::default()
    };
    let transport =
        Some(McpTransport { kind: Some(mcp_transport::Kind::Stdio(stdio)), ..McpTransport::default() });
    bound(name, Kind::Mcp(McpBinding { server: "server".into(), tool: name.into(), transport }))
}

/// What the server has received: for each call that hangs its id, and the ids that were cancelled.
async fn received(drive: &Drive, era: &str) -> (Vec<Value>, Vec<Value>, Value) {
    let text = drive.run(&of_child(era, "received"), &json!({})).await.unwrap();
    let received: Value = serde_json::from_str(&text).unwrap();
    let list = |name: &str| received[name].as_array().unwrap().clone();
    (list("hanging"), list("cancelled"), received["pid"].clone())
}

#[tokio::test]
async fn an_mcp_call_that_is_given_up_is_cancelled_by_its_id_and_the_connection_goes_on() {
    for era in ["2025-11-25", "2026-07-28"] {
        let drive = Arc::new(Drive::new());
        let (_, _, pid) = received(&drive, era).await;
        let call = {
            let (drive, tool) = (Arc::clone(&drive), of_child(era, "hangs"));
            tokio::spawn(async move { drive.run(&tool, &json!({})).await })
        };
        until(async || received(&drive, era).await.0.len() == 1).await;
        call.abort();
        until(async || received(&drive, era).await.1.len() == 1).await;
        let timed_out = drive.run_within(SHORT, &of_child(era, "hangs"), &json!({}), None).await.unwrap_err();
        assert_eq!((timed_out.code, timed_out.reached), (ToolErrorCode::Timeout, Reached::Maybe));
        until(async || received(&drive, era).await.1.len() == 2).await;
        let (hanging, cancelled, same) = received(&drive, era).await;
        assert_eq!((hanging, same), (cancelled, pid), "{era}");
        drive.drivers.close().await;
    }
}

/// A call over HTTP that hangs, and what the server is sent when it is given up.
async fn given_up_over_http(version: &'static str) -> (Raw, Vec<Value>) {
    let mut server = Raw::new(move |request| {
        let message: Value =
            serde_json::from_str(request.split_once("\r\n\r\n").map_or("", |(_, body)| body))
                .unwrap_or_default();
        let is_new = version == "2026-07-28";
        let result = match message["method"].as_str() {
            Some("server/discover") if is_new => json!({
                "resultType": "complete", "supportedVersions": [version], "capabilities": {"tools": {}},
                "ttlMs": 0, "cacheScope": "private",
            }),
            Some("server/discover") => return Step::answer("400 Bad Request", ""),
            Some("initialize") => json!({
                "protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "old", "version": "1"},
            }),
            Some("tools/call") if message["params"]["arguments"]["hangs"] == true => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
                return vec![Step::text(head), Step::Hold];
            }
            Some("tools/call") => json!({"content": [], "structuredContent": {"ok": true}}),
            _ => return Step::answer("202 Accepted", ""),
        };
        let answer = json!({"jsonrpc": "2.0", "id": message["id"], "result": result}).to_string();
        Step::answer("200 OK\r\ncontent-type: application/json", &answer)
    })
    .await;
    let (drive, tool) = (Arc::new(Drive::new()), super::drive::of_server(&server.url()));
    let call = {
        let (drive, tool) = (Arc::clone(&drive), tool.clone());
        tokio::spawn(async move { drive.run(&tool, &json!({"hangs": true})).await })
    };
    until(async || server.requests().iter().any(|request| request.contains("\"hangs\""))).await;
    call.abort();
    server.until_gone().await;
    assert_eq!(drive.run(&tool, &json!({})).await.unwrap(), r#"{"ok":true}"#);
    let messages = |request: &String| serde_json::from_str(request.split_once("\r\n\r\n")?.1).ok();
    let messages = server.requests().iter().filter_map(messages).collect();
    (server, messages)
}

#[tokio::test]
async fn over_http_the_stream_ends_and_an_old_server_is_told_besides() {
    let cancelled = |messages: &[Value]| -> Vec<Value> {
        let is_one = |message: &&Value| message["method"] == "notifications/cancelled";
        messages.iter().filter(is_one).map(|message| message["params"]["requestId"].clone()).collect()
    };
    let (_server, messages) = given_up_over_http("2026-07-28").await;
    assert!(cancelled(&messages).is_empty(), "the end of the stream is the cancellation: {messages:?}");
    let (server, messages) = given_up_over_http("2025-11-25").await;
    let call = messages.iter().find(|message| message["params"]["arguments"]["hangs"] == true).unwrap();
    let told = async || {
        let sent = server.requests().join("\n");
        sent.contains("notifications/cancelled") && sent.contains(&format!("\"requestId\":{}", call["id"]))
    };
    until(told).await;
}
