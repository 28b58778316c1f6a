//! Tools of an MCP server that is a child process: shared, replaced when it dies, gone at the end.

use std::time::Duration;

use proto::{
    executor::v1::ExecutionStatus,
    registry::v1::{McpBinding, McpTransport, StdioTransport, ToolDefinition, binding, mcp_transport::Kind},
};
use serde_json::Value;

use super::house::{House, bound, ended, execution, request, until};

fn tool(name: &str) -> ToolDefinition {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/mcp_server.py").to_owned();
    let env = [("CANARY".to_owned(), "hunter2-canary".to_owned())].into();
    let stdio = StdioTransport { command: "python3".into(), args: vec![script], env };
    let transport = Some(McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() });
    bound(name, binding::Kind::Mcp(McpBinding { server: "server".into(), tool: name.into(), transport }))
}

async fn pid(house: &House) -> u32 {
    let done = execution(house.execute(request("pid", "{}")).await);
    let result: Value = serde_json::from_str(&done.result_json).unwrap();
    u32::try_from(result["pid"].as_u64().unwrap()).unwrap()
}

fn is_alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !status.contains("State:\tZ")
}

fn kill(pid: u32) {
    assert!(std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
}

#[tokio::test]
async fn a_server_that_died_between_calls_is_started_again_and_ends_with_the_process() {
    let house = House::new().await;
    for name in ["pid", "fails", "dies"] {
        house.add(tool(name));
    }
    let first = pid(&house).await;
    assert_eq!(pid(&house).await, first);
    kill(first);
    until(async || !is_alive(first)).await;
    // The end of its output may be noticed a moment later: then one call finds it gone.
    let again = async || house.execute(request("pid", "{}")).await.unwrap().execution.unwrap();
    until(async || again().await.status() == ExecutionStatus::Succeeded).await;
    let second = pid(&house).await;
    assert_ne!(first, second);
    let (code, message) = ended(house.execute(request("fails", "{}")).await, ExecutionStatus::Failed);
    assert!(code == "TOOL_FAILED" && message.contains("out of paper"), "{code} {message}");
    assert!(!message.contains("hunter2"), "{message}");
    let (code, _) = ended(house.execute(request("dies", "{}")).await, ExecutionStatus::UnknownOutcome);
    assert_eq!(code, "UNREACHABLE");
    let third = pid(&house).await;
    assert_ne!(second, third);
    tokio::time::timeout(Duration::from_secs(20), house.begin_stop()).await.unwrap();
    until(async || !is_alive(third)).await;
}

#[tokio::test]
async fn what_a_tool_tells_while_it_runs_is_kept_without_its_secrets() {
    let house = House::new().await;
    house.add(tool("tells"));
    execution(house.execute(request("tells", "{}")).await);
    let kept = async || {
        house.texts("SELECT kind || ' ' || body_json FROM executor.progress ORDER BY sequence").await
    };
    until(async || kept().await.len() == 2).await;
    let kept = kept().await;
    assert!(kept[0].starts_with("progress ") && kept[0].contains("half"), "{kept:?}");
    assert!(kept[1].starts_with("log ") && kept[1].contains("at work"), "{kept:?}");
    assert!(!kept[0].contains("hunter2"), "{kept:?}");
    house.begin_stop().await;
}

#[tokio::test]
async fn a_program_that_is_no_server_fails_its_own_calls_only() {
    let house = House::new().await;
    let stdio = StdioTransport { command: "/nowhere/server".into(), ..StdioTransport::default() };
    let transport = Some(McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() });
    let binding = McpBinding { server: "none".into(), tool: "t".into(), transport };
    house.add(bound("nowhere", binding::Kind::Mcp(binding)));
    house.add(tool("pid"));
    let (code, _) = ended(house.execute(request("nowhere", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(code, "UNREACHABLE");
    pid(&house).await;
    house.begin_stop().await;
}
