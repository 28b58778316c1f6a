//! The client against a server that misbehaves: each fault must give the right error in time and leave no
//! process behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcp::{Call, CallEvent, Client, Error, MAX_CALLS, Transport};
use serde_json::{Map, Value, json};
use support::{PATIENCE, assert_gone, odd, odd_with_child, stdio};
use tempfile::NamedTempFile;

const SHORT: Duration = Duration::from_secs(3);

async fn connect(mode: &str) -> Client {
    Client::connect(&odd(mode), PATIENCE).await.unwrap()
}

async fn call(client: &Client, tool: &str) -> Result<mcp::ToolResult, Error> {
    client.call_tool(tool, Map::new(), PATIENCE).await
}

/// Everything the server received so far.
async fn seen(client: &Client) -> Vec<Value> {
    let result = call(client, "seen").await.unwrap();
    result.structured.unwrap()["seen"].as_array().unwrap().clone()
}

/// Asks the server what it received until it is what we wait for.
async fn until_seen(client: &Client, wanted: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let all = seen(client).await;
        if let Some(found) = all.iter().find(|message| wanted(message)) {
            return found.clone();
        }
        assert!(Instant::now() < deadline, "never seen, only {all:?}");
    }
}

#[tokio::test]
async fn a_missing_program_cannot_be_started() {
    let error = Client::connect(&stdio("/nowhere/server", vec![]), SHORT).await.unwrap_err();
    assert!(matches!(&error, Error::Start { command, .. } if command == "/nowhere/server"), "{error}");
    assert!(error.is_unsent());
}

#[tokio::test]
async fn a_server_that_ends_at_once_is_explained_without_its_secrets() {
    let pids = NamedTempFile::new().unwrap();
    let Transport::Stdio { command, args, .. } = odd_with_child("exits", &pids) else { unreachable!() };
    let env = BTreeMap::from([("KEY".to_owned(), "hunter2".to_owned())]);
    let error = Client::connect(&Transport::Stdio { command, args, env }, PATIENCE).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Start { .. }), "{text}");
    assert!(text.contains("exit status: 3") && text.contains("no licence for key ***"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let pids = NamedTempFile::new().unwrap();
    let start = Instant::now();
    let error = Client::connect(&odd_with_child("hangs", &pids), SHORT).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after: SHORT, .. }), "{error}");
    assert!(start.elapsed() < SHORT + Duration::from_secs(1), "{:?}", start.elapsed());
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_program_that_is_no_server_is_recognised() {
    let pids = NamedTempFile::new().unwrap();
    let error = Client::connect(&odd_with_child("garbage", &pids), SHORT).await.unwrap_err();
    assert!(matches!(error, Error::Handshake { .. }), "{error}");
    assert!(error.to_string().contains("Welcome to my server!"), "{error}");
    assert_gone(&pids).await;
}

#[tokio::test]
async fn an_unknown_protocol_version_is_refused() {
    let error = Client::connect(&odd("ancient"), PATIENCE).await.unwrap_err();
    assert!(matches!(error, Error::Handshake { .. }) && error.to_string().contains("1999-01-01"), "{error}");
}

#[tokio::test]
async fn old_servers_are_initialised_whatever_they_make_of_discovery() {
    for mode in ["good", "brittle", "deaf"] {
        let client = Client::connect(&odd(mode), Duration::from_secs(12)).await.unwrap();
        let server = client.server();
        assert_eq!((server.name.as_str(), server.version.as_str()), ("odd", "1.2.3"), "{mode}");
        assert_eq!(server.protocol_version, "2025-11-25", "{mode}");
        assert_eq!(client.list_tools(PATIENCE).await.unwrap().len(), 2, "{mode}");
    }
}

#[tokio::test]
async fn a_child_sees_a_clean_environment() {
    let Transport::Stdio { command, args, .. } = odd("good") else { unreachable!() };
    let env = BTreeMap::from([("GIVEN".to_owned(), "yes".to_owned())]);
    let client = Client::connect(&Transport::Stdio { command, args, env }, PATIENCE).await.unwrap();
    let sees = call(&client, "environ").await.unwrap().structured.unwrap();
    assert_eq!(sees["GIVEN"], "yes");
    let allowed = ["PATH", "HOME", "LANG", "GIVEN"];
    let extra: Vec<_> =
        sees.as_object().unwrap().keys().filter(|key| !allowed.contains(&key.as_str())).collect();
    assert!(extra.is_empty(), "inherited {extra:?}");
}

#[tokio::test]
async fn a_call_without_an_answer_times_out_and_is_cancelled() {
    let client = connect("good").await;
    let limit = Duration::from_millis(300);
    let error = client.call_tool("never", Map::new(), limit).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { after, sent: true, .. } if after == limit), "{error}");
    assert!(!error.is_unsent());
    let first = until_seen(&client, |message| message.get("cancels").is_some()).await["cancels"].clone();

    let dropped = client.clone();
    let task = tokio::spawn(async move { dropped.call_tool("never", Map::new(), PATIENCE).await });
    let is_call =
        |message: &Value| message["method"] == "tools/call" && message["id"].as_i64() > first.as_i64();
    until_seen(&client, is_call).await;
    task.abort();
    until_seen(&client, |message| message.get("cancels").is_some_and(|id| *id != first)).await;
}

fn asking(tool: &str) -> Call<'_> {
    Call { tool, arguments: Map::new(), meta: Map::new(), timeout: PATIENCE }
}

#[tokio::test]
async fn a_call_hears_its_progress_and_its_log_in_both_eras() {
    for mode in ["good", "modern"] {
        let client = connect(mode).await;
        let mut events = Vec::new();
        client.call_tool_with(asking("tells"), |event| events.push(event)).await.unwrap();
        let steps: Vec<_> = events
            .iter()
            .filter_map(|event| match event {
                CallEvent::Progress { progress, total, message } => {
                    Some((*progress, *total, message.clone().unwrap()))
                }
                _ => None,
            })
            .collect();
        let step = |n: i32| (f64::from(n), Some(3.0), format!("step {n}"));
        assert_eq!(steps, [step(0), step(1), step(2)], "{mode}");
        let log = CallEvent::Log {
            level: "warning".into(),
            logger: Some("odd".into()),
            data: json!({"hot": true}),
        };
        assert_eq!(events.last(), Some(&log), "{mode}");
    }
}

#[tokio::test]
async fn entries_of_meta_reach_the_server_and_its_own_come_back() {
    let client = connect("good").await;
    let meta = Map::from_iter([("io.example/key".to_owned(), json!("once"))]);
    let result = client.call_tool_with(Call { meta, ..asking("meta") }, |_| {}).await.unwrap();
    let seen = result.structured.unwrap();
    assert_eq!(seen["io.example/key"], "once");
    assert!(seen["progressToken"].is_number(), "{seen}");
    assert_eq!(result.meta.unwrap()["usage"], json!({"input_tokens": 3}));
}

#[tokio::test]
async fn calls_beyond_the_bound_wait_unsent_and_go_on_when_others_end() {
    let client = connect("good").await;
    let held: Vec<_> = (0..MAX_CALLS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.call_tool("never", Map::new(), PATIENCE).await })
        })
        .collect();
    // The bound is full when a call of nearly no patience does not get through.
    let deadline = Instant::now() + PATIENCE;
    let error = loop {
        match client.call_tool("seen", Map::new(), Duration::from_millis(200)).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "the bound is never reached"),
        }
    };
    assert!(matches!(error, Error::Timeout { sent: false, .. }) && error.is_unsent(), "{error:?}");
    for task in &held {
        task.abort();
    }
    let cancelled = seen(&client).await.iter().filter(|message| message.get("cancels").is_some()).count();
    assert!(cancelled <= MAX_CALLS);
    until_seen(&client, |message| message.get("cancels").is_some()).await;
    let all_cancelled = async || {
        seen(&client).await.iter().filter(|message| message.get("cancels").is_some()).count() == MAX_CALLS
    };
    while !all_cancelled().await {
        assert!(Instant::now() < deadline, "not every call given up was cancelled");
    }
}

#[tokio::test]
async fn news_of_changed_tools_arrives_in_both_eras() {
    for (mode, version) in [("good", "2025-11-25"), ("modern", "2026-07-28")] {
        let client = connect(mode).await;
        assert_eq!(client.server().protocol_version, version);
        assert_eq!(client.server().version, "1.2.3");
        if mode == "modern" {
            until_seen(&client, |message| message["method"] == "subscriptions/listen").await;
        }
        let mut changes = client.tools_changed();
        changes.mark_unchanged();
        call(&client, "changes").await.unwrap();
        tokio::time::timeout(PATIENCE, changes.changed()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn all_pages_are_read_and_their_number_is_limited() {
    let tools = connect("good").await.list_tools(PATIENCE).await.unwrap();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["first", "second"]);
    assert_eq!((tools[0].annotations.read_only, tools[1].annotations.read_only), (None, Some(true)));

    let circle = connect("circle").await.list_tools(PATIENCE).await.unwrap_err();
    assert!(matches!(circle, Error::Unusable { .. }), "{circle}");
    let endless = connect("endless").await.list_tools(PATIENCE).await.unwrap_err();
    assert!(matches!(&endless, Error::TooLarge { limit, .. } if limit == "10000 tools"), "{endless}");
}

#[tokio::test]
async fn results_and_errors_of_a_tool_are_told_apart() {
    let client = connect("good").await;
    let result = call(&client, "fails").await.unwrap();
    assert!(result.is_error);
    assert_eq!(result.content, [json!({"type": "text", "text": "fails"})]);
    let error = call(&client, "refuses").await.unwrap_err();
    assert_eq!(error, Error::Protocol { code: -32602, message: "no such thing at all".to_owned() });
}

#[tokio::test]
async fn concurrent_calls_get_their_own_answers() {
    let client = connect("good").await;
    let calls = (0..MAX_CALLS).map(|number| {
        let client = client.clone();
        async move {
            let given = json!({"number": number, "of": MAX_CALLS});
            let arguments = given.as_object().unwrap().clone();
            let result = client.call_tool("late", arguments, PATIENCE).await.unwrap();
            assert_eq!(result.structured, Some(given));
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn a_servers_ping_is_answered_and_its_other_requests_refused() {
    let client = connect("good").await;
    call(&client, "asks").await.unwrap();
    let pong = until_seen(&client, |message| message["id"] == "a ping").await;
    assert_eq!(pong["result"], json!({}));
    let refusal = until_seen(&client, |message| message["id"] == "a sample").await;
    assert_eq!(refusal["error"]["code"], -32601);
}

#[tokio::test]
async fn a_flood_of_requests_and_notifications_is_survived() {
    let client = connect("good").await;
    call(&client, "floods").await.unwrap();
    call(&client, "seen").await.unwrap();
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let pids = NamedTempFile::new().unwrap();
    let client = Client::connect(&odd_with_child("good", &pids), PATIENCE).await.unwrap();
    let error = call(&client, "huge").await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    tokio::time::timeout(PATIENCE, client.closed()).await.unwrap();
    assert!(client.is_closed());
    assert_gone(&pids).await;
}

#[tokio::test]
async fn a_server_that_dies_during_a_call_is_explained() {
    let pids = NamedTempFile::new().unwrap();
    let client = Client::connect(&odd_with_child("good", &pids), PATIENCE).await.unwrap();
    assert!(!client.is_closed());
    let error = call(&client, "dies").await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }) && !error.is_unsent(), "{error}");
    let text = error.to_string();
    assert!(text.contains("exit status: 9") && text.contains("out of memory"), "{text}");
    tokio::time::timeout(PATIENCE, client.closed()).await.unwrap();
    let after = call(&client, "seen").await.unwrap_err();
    assert!(matches!(after, Error::Closed { sent: false, .. }) && after.is_unsent(), "{after}");
    assert_gone(&pids).await;
}

#[tokio::test]
async fn closing_ends_even_a_stubborn_server() {
    let pids = NamedTempFile::new().unwrap();
    let client = Client::connect(&odd_with_child("stubborn", &pids), PATIENCE).await.unwrap();
    let start = Instant::now();
    client.close().await;
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    assert!(client.is_closed());
    assert_gone(&pids).await;
}

#[tokio::test]
async fn dropping_the_last_clone_ends_the_server() {
    let pids = NamedTempFile::new().unwrap();
    let client = Client::connect(&odd_with_child("stubborn", &pids), PATIENCE).await.unwrap();
    let clone = client.clone();
    drop(client);
    call(&clone, "seen").await.unwrap();
    drop(clone);
    assert_gone(&pids).await;
}
