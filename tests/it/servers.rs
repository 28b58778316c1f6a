//! MCP servers that other people made: listed, called, broken, removed.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use proto::{
    executor::v1::ExecutionStatus,
    registry::v1::{
        HttpTransport, ListServersRequest, ListToolsRequest, McpTransport, RegisterServerRequest,
        RegisterServerResponse, RemoveServerRequest, Server, ServerState, StdioTransport, Tool,
        mcp_transport::Kind,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, Suite, eventually, refused, result};
use tonic::{Code, Request};

tests::scenarios! {
    tools_over_stdio_are_listed_called_and_removed,
    tools_over_http_are_listed_and_called,
    a_broken_server_costs_the_others_nothing,
}

/// How long a discovery may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const INSTALL: &str = "scripts/install-mcp-servers";

fn stdio(command: &str, args: &[&str]) -> McpTransport {
    let args = args.iter().map(ToString::to_string).collect();
    let stdio = StdioTransport { command: command.to_owned(), args, env: [].into() };
    McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() }
}

async fn register(client: &Client, name: &str, transport: McpTransport) -> RegisterServerResponse {
    let request = RegisterServerRequest {
        name: name.to_owned(),
        transport: Some(transport),
        ..RegisterServerRequest::default()
    };
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE);
    client.registry().register_server(request).await.unwrap().into_inner()
}

async fn server(client: &Client, name: &str) -> Server {
    let servers = client.registry().list_servers(ListServersRequest {}).await.unwrap().into_inner().servers;
    servers.into_iter().find(|server| server.name == name).unwrap()
}

fn names(tools: &[Tool]) -> Vec<&str> {
    let mut names: Vec<_> =
        tools.iter().map(|tool| tool.definition.as_ref().unwrap().name.as_str()).collect();
    names.sort_unstable();
    names
}

/// `mcp-server-time`, over standard input and output.
fn time_server() -> Option<McpTransport> {
    let program = testkit::installed("mcp/python/bin/mcp-server-time", INSTALL)?;
    Some(stdio(program.to_str().unwrap(), &[]))
}

async fn tools_over_stdio_are_listed_called_and_removed(suite: &Suite) {
    let Some(transport) = time_server() else { return };
    let registered = register(&suite.admin, "time", transport).await;
    let state = registered.server.unwrap();
    assert_eq!((state.state(), state.last_error.as_str()), (ServerState::Healthy, ""), "{state:?}");
    assert_eq!(names(&registered.tools), ["time.convert_time", "time.get_current_time"]);
    assert_eq!((state.tool_count, state.protocol_version.as_str()), (2, "2026-07-28"));

    let agent = suite.agent("").await;
    let noon = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    let answer = agent.try_call("time.convert_time", noon.clone()).await;
    refused(answer, Code::PermissionDenied, ErrorReason::NoGrant);
    suite.grant(&agent, "time.convert_time").await;
    let answer = agent.try_call("time.convert_time", json!({"time": 12})).await;
    let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
    assert!(refusal.violations().iter().any(|(field, _)| *field == "arguments/time"), "{refusal:?}");
    let execution = agent.call("time.convert_time", noon.clone()).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert!(execution.result_json.contains("21:00"), "{execution:?}");
    let nowhere = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Mars/Olympus"});
    let failed = agent.call("time.convert_time", nowhere).await;
    assert_eq!(failed.status(), ExecutionStatus::Failed, "{failed:?}");

    let removed =
        suite.admin.registry().remove_server(RemoveServerRequest { name: "time".into() }).await.unwrap();
    assert_eq!(removed.into_inner().tools_disabled, 2);
    let answer = eventually("its tools are disabled", async || {
        let answer = agent.try_call("time.convert_time", noon.clone()).await;
        answer.is_err().then_some(answer)
    })
    .await;
    refused(answer, Code::FailedPrecondition, ErrorReason::ToolUnavailable);
}

/// `server-everything` over streamable HTTP; it ends with this value.
pub(crate) struct Everything {
    process: Child,
    url: String,
}

impl Everything {
    pub(crate) async fn start() -> Option<Self> {
        let program = testkit::installed("mcp/node/node_modules/.bin/mcp-server-everything", INSTALL)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.arg("streamableHttp").env("PORT", port.to_string());
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}/mcp") };
        eventually("the everything server listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()
        })
        .await;
        Some(server)
    }
}

impl Everything {
    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for Everything {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Registers it under a name.
pub(crate) async fn register_http(
    client: &Client,
    name: &str,
    everything: &Everything,
) -> RegisterServerResponse {
    let transport = HttpTransport { url: everything.url.clone(), headers: [].into() };
    register(client, name, McpTransport { kind: Some(Kind::Http(transport)), ..McpTransport::default() })
        .await
}

async fn tools_over_http_are_listed_and_called(suite: &Suite) {
    let Some(everything) = Everything::start().await else { return };
    let registered = register_http(&suite.admin, "everything", &everything).await;
    assert_eq!(registered.server.unwrap().state(), ServerState::Healthy);
    assert!(names(&registered.tools).contains(&"everything.echo"), "{:?}", names(&registered.tools));
    let agent = suite.agent("").await;
    suite.grant(&agent, "everything.echo").await;
    let echoed = agent.call("everything.echo", json!({"message": "grüß dich"})).await;
    assert_eq!(echoed.status(), ExecutionStatus::Succeeded, "{echoed:?}");
    assert_eq!(result(&echoed)["content"][0]["text"], "Echo: grüß dich");

    let structured = registered.tools.iter().filter_map(|tool| tool.definition.as_ref());
    let structured = structured.clone().find(|definition| !definition.output_schema_json.is_empty()).unwrap();
    suite.grant(&agent, &structured.name).await;
    let schema: Value = serde_json::from_str(&structured.input_schema_json).unwrap();
    let given = agent.call(&structured.name, sample(&schema)).await;
    assert_eq!(given.status(), ExecutionStatus::Succeeded, "{given:?}");
    let required: Value = serde_json::from_str(&structured.output_schema_json).unwrap();
    for name in required["required"].as_array().unwrap() {
        assert!(result(&given).get(name.as_str().unwrap()).is_some(), "{given:?}");
    }
}

/// Arguments with the first word of every required enumeration.
fn sample(schema: &Value) -> Value {
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let first = |name: &Value| {
        let name = name.as_str().unwrap().to_owned();
        let value = schema["properties"][&name]["enum"][0].clone();
        (name, value)
    };
    Value::Object(required.iter().map(first).collect())
}

async fn a_broken_server_costs_the_others_nothing(suite: &Suite) {
    let Some(transport) = time_server() else { return };
    // It starts and never says a word.
    let (client, silent) = (suite.admin.clone(), stdio("sleep", &["3600"]));
    let waiting = tokio::spawn(async move { register(&client, "silent", silent).await });
    for (name, transport) in [("gone", stdio("false", &[])), ("missing", stdio("/nowhere/at-all", &[]))] {
        let state = register(&suite.admin, name, transport).await.server.unwrap();
        assert_eq!(state.state(), ServerState::Unavailable, "{state:?}");
        assert!(!state.last_error.is_empty() && state.tool_count == 0, "{state:?}");
    }
    let healthy = register(&suite.admin, "clock", transport).await.server.unwrap();
    assert_eq!(healthy.state(), ServerState::Healthy, "{healthy:?}");
    let agent = suite.agent("").await;
    suite.grant(&agent, "clock.get_current_time").await;
    let told = agent.call("clock.get_current_time", json!({"timezone": "UTC"})).await;
    assert_eq!(told.status(), ExecutionStatus::Succeeded, "{told:?}");
    assert!(!waiting.is_finished(), "the others were served after the silent one");
    waiting.abort();
    assert_eq!(server(&suite.admin, "silent").await.state(), ServerState::Pending);
    assert_eq!(server(&suite.admin, "clock").await.tool_count, 2);
    let tools =
        suite.admin.registry().list_tools(ListToolsRequest::default()).await.unwrap().into_inner().tools;
    assert!(!names(&tools).iter().any(|name| name.starts_with("silent.") || name.starts_with("gone.")));
}
