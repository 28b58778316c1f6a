//! The servers of an organisation together: more than 230 tools of five programs that other people made, of which one
//! is killed, one is frozen and one changed while calls run. The others must not feel it.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use proto::{
    executor::v1::{Execution, ExecutionStatus},
    registry::v1::{
        GetRegistryHealthRequest, HttpTransport, ListServersRequest, ListToolsRequest, McpTransport,
        RefreshServerRequest, RegisterServerRequest, Server, ServerState, SetToolStatusRequest,
        StdioTransport, Tool, ToolSettings, ToolStatus, mcp_transport::Kind,
    },
};
use rpc::ErrorReason;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::{Client, Mode, Suite, eventually, refused};
use tonic::{Code, Request};

use crate::servers::Everything;

tests::scenarios_alone! {
    five_servers_of_an_organisation_make_one_catalog_and_bad_ones_cost_the_others_nothing,
    a_status_is_heard_of_in_every_process,
}

/// How long a discovery may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);
const INSTALL: &str = "scripts/install-mcp-servers";
/// A server whose tools stand in a file.
const CHANGING: &str = include_str!("../../services/registry/src/tests/mcp_server.py");

fn stdio(command: &Path, args: &[&str]) -> McpTransport {
    let args = args.iter().map(ToString::to_string).collect();
    let stdio = StdioTransport { command: command.to_str().unwrap().to_owned(), args, env: [].into() };
    McpTransport { kind: Some(Kind::Stdio(stdio)), ..McpTransport::default() }
}

fn http(url: &str) -> McpTransport {
    let http = HttpTransport { url: url.to_owned(), headers: [].into() };
    McpTransport { kind: Some(Kind::Http(http)), ..McpTransport::default() }
}

/// `kubectl-mcp-server` over streamable HTTP; it ends with this value.
struct Kubectl {
    process: Child,
    url: String,
}

impl Kubectl {
    async fn start(program: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new(program)
            .args(["serve", "--transport", "http", "--toolsets", "all", "--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { process, url: format!("http://127.0.0.1:{port}/mcp") };
        let until = Instant::now() + PATIENCE;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < until, "kubectl-mcp-server listens");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        server
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.process.id()).unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Kubectl {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn register(client: &Client, name: &str, transport: McpTransport) -> (Server, Duration) {
    let request = RegisterServerRequest {
        name: name.to_owned(),
        transport: Some(transport),
        ..RegisterServerRequest::default()
    };
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE);
    let started = Instant::now();
    let server = client.registry().register_server(request).await.unwrap().into_inner().server.unwrap();
    (server, started.elapsed())
}

async fn refresh(client: &Client, name: &str) -> Server {
    let mut request = Request::new(RefreshServerRequest { name: name.to_owned() });
    request.set_timeout(PATIENCE);
    client.registry().refresh_server(request).await.unwrap().into_inner().server.unwrap()
}

async fn server(client: &Client, name: &str) -> Server {
    let servers = client.registry().list_servers(ListServersRequest {}).await.unwrap().into_inner().servers;
    servers.into_iter().find(|server| server.name == name).unwrap()
}

/// Every active tool that a server provides.
async fn tools(client: &Client) -> Vec<Tool> {
    let mut tools = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListToolsRequest { page_size: 200, page_token, ..ListToolsRequest::default() };
        let page = client.registry().list_tools(request).await.unwrap().into_inner();
        tools.extend(page.tools);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            tools.retain(|tool| !tool.server.is_empty() && tool.status() == ToolStatus::Active);
            return tools;
        }
    }
}

fn name(tool: &Tool) -> &str {
    tool.definition.as_ref().unwrap().name.as_str()
}

/// A tool of a server that needs no argument.
fn undemanding<'a>(tools: &'a [Tool], server: &str) -> &'a Tool {
    let needs_nothing = |tool: &&Tool| {
        let schema: Value =
            serde_json::from_str(&tool.definition.as_ref().unwrap().input_schema_json).unwrap();
        schema["required"].as_array().is_none_or(Vec::is_empty)
    };
    tools.iter().filter(|tool| tool.server == server).find(needs_nothing).unwrap()
}

fn ended(execution: &Execution) -> bool {
    [ExecutionStatus::Succeeded, ExecutionStatus::Failed].contains(&execution.status())
}

/// Calls a tool again and again until told to stop; gives how often, and fails with the first call that does.
fn calling(client: &Client, stop: &Arc<AtomicUsize>) -> tokio::task::JoinHandle<usize> {
    let (client, stop) = (client.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut calls = 0;
        while stop.load(Ordering::Relaxed) == 0 {
            let told = client.call("time.get_current_time", json!({"timezone": "UTC"})).await;
            assert_eq!(told.status(), ExecutionStatus::Succeeded, "{told:?}");
            calls += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        calls
    })
}

#[allow(clippy::too_many_lines, reason = "one story, told from its beginning to its end")]
async fn five_servers_of_an_organisation_make_one_catalog_and_bad_ones_cost_the_others_nothing(mode: Mode) {
    let (Some(time), Some(kubectl), Some(files), Some(memory)) = (
        testkit::installed("mcp/python/bin/mcp-server-time", INSTALL),
        testkit::installed("mcp/kubectl/bin/kubectl-mcp-serve", INSTALL),
        testkit::installed("mcp/node/node_modules/.bin/mcp-server-filesystem", INSTALL),
        testkit::installed("mcp/node/node_modules/.bin/mcp-server-memory", INSTALL),
    ) else {
        return;
    };
    let folder = testkit::folder();
    let root = folder.path().to_str().unwrap().to_owned();
    let (web, everything) = tokio::join!(Kubectl::start(&kubectl), Everything::start());
    let everything = everything.unwrap();
    let suite = Suite::start_with(mode, |settings| {
        settings.registry.health_check_interval_s = 1;
        settings.registry.server_timeout_s = 60;
        settings.registry.discovery_retries = 0;
    })
    .await;
    let admin = &suite.admin;
    let (listing, program) = (folder.path().join("tools.json"), folder.path().join("server.py"));
    std::fs::write(&program, CHANGING).unwrap();
    let offer = |names: &[&str]| {
        let tools: Vec<Value> = names
            .iter()
            .map(|name| json!({"name": name, "description": "Does it.", "inputSchema": {"type": "object"}}))
            .collect();
        std::fs::write(folder.path().join("new.json"), json!({"tools": tools}).to_string()).unwrap();
        std::fs::rename(folder.path().join("new.json"), &listing).unwrap();
    };
    offer(&["one"]);

    let (python, memory_args) = (Path::new("python3"), []);
    let mut added = vec![
        ("time", stdio(&time, &[])),
        ("kube", http(&web.url)),
        ("everything", http(everything.url())),
        ("files", stdio(&files, &[&root])),
        ("memory", stdio(&memory, &memory_args)),
        ("changing", stdio(python, &[program.to_str().unwrap(), listing.to_str().unwrap()])),
    ];
    if mode == Mode::AllInOne {
        added.push(("kube-stdio", stdio(&kubectl, &["serve", "--transport", "stdio", "--toolsets", "all"])));
    }
    let registrations = added.into_iter().map(|(name, transport)| register(admin, name, transport));
    for (server, took) in futures_util::future::join_all(registrations).await {
        println!(
            "{}: {} tools, discovery_ms {}, registered after {took:?}",
            server.name, server.tool_count, server.discovery_ms
        );
        assert_eq!((server.state(), server.rejected_tools.len()), (ServerState::Healthy, 0), "{server:?}");
    }
    let catalog = tools(admin).await;
    println!("{} tools of {} servers", catalog.len(), if mode == Mode::AllInOne { 7 } else { 6 });
    assert!(catalog.len() >= 230, "{} tools", catalog.len());

    // What a discovery takes beyond the server's own answer.
    let own =
        mcp::Client::connect(&mcp::Transport::Http { url: web.url.clone(), headers: [].into() }, PATIENCE)
            .await
            .unwrap();
    let started = Instant::now();
    let listed = own.list_tools(PATIENCE).await.unwrap().len();
    let own_ms = started.elapsed().as_millis();
    own.close().await;
    let started = Instant::now();
    let refreshed = refresh(admin, "kube").await;
    println!(
        "{listed} tools: the server itself {own_ms} ms, discovery_ms {}, RefreshServer {} ms",
        refreshed.discovery_ms,
        started.elapsed().as_millis()
    );

    let agent = suite.agent("").await;
    let undemanding = name(undemanding(&catalog, "kube")).to_owned();
    for tool in [
        "time.get_current_time",
        "everything.echo",
        "files.list_allowed_directories",
        "memory.read_graph",
        undemanding.as_str(),
    ] {
        suite.grant(&agent, tool).await;
    }
    let calls = [
        ("time.get_current_time", json!({"timezone": "UTC"})),
        ("everything.echo", json!({"message": "hello"})),
        ("files.list_allowed_directories", json!({})),
        ("memory.read_graph", json!({})),
    ];
    for (tool, arguments) in calls {
        let told = agent.call(tool, arguments).await;
        assert_eq!(told.status(), ExecutionStatus::Succeeded, "{tool}: {told:?}");
    }
    // Without a cluster it may fail, and says so.
    let told = agent.call(&undemanding, json!({})).await;
    assert!(ended(&told), "{told:?}");

    let often = ToolSettings { rate_limit_per_minute: 100_000, ..ToolSettings::default() };
    suite.update("time.get_current_time", often, &["rate_limit_per_minute"]).await;
    let stop = Arc::new(AtomicUsize::new(0));
    let running: Vec<_> = (0..4).map(|_| calling(&agent, &stop)).collect();
    drop(everything);
    web.signal(Signal::STOP);
    offer(&["one", "two"]);
    eventually("the tool that is new is in the catalog", async || {
        tools(admin).await.iter().any(|tool| name(tool) == "changing.two").then_some(())
    })
    .await;
    eventually("the killed one is unavailable", async || {
        let server = server(admin, "everything").await;
        (server.state() == ServerState::Unavailable && !server.last_error.is_empty()).then_some(())
    })
    .await;
    // The frozen one is known by its missing sign of life, long before a listing of it would be given up.
    eventually("the frozen one gives no sign of life", async || {
        (server(admin, "kube").await.health < 1.0).then_some(())
    })
    .await;
    let refused = agent.call("everything.echo", json!({"message": "hello"})).await;
    assert_eq!(refused.status(), ExecutionStatus::Failed, "{refused:?}");
    for name in ["time", "files", "memory", "changing"] {
        let started = Instant::now();
        let server = refresh(admin, name).await;
        println!("{name} is listed in {:?} meanwhile", started.elapsed());
        assert_eq!((server.state(), server.last_error.as_str()), (ServerState::Healthy, ""), "{server:?}");
    }
    web.signal(Signal::CONT);
    eventually("the frozen one is back", async || {
        let server = server(admin, "kube").await;
        let is_back = [ServerState::Healthy, ServerState::Degraded].contains(&server.state());
        is_back.then_some(())
    })
    .await;
    stop.store(1, Ordering::Relaxed);
    let mut calls = 0;
    for task in running {
        calls += task.await.unwrap();
    }
    println!("{calls} calls of the others meanwhile, none failed");
    assert!(calls > 0);
    let health =
        admin.registry().get_registry_health(GetRegistryHealthRequest {}).await.unwrap().into_inner();
    assert!(health.healthy_ratio > 0.5 && health.healthy_ratio < 1.0, "{health:?}");
    assert!(usize::try_from(health.active_tools).unwrap() >= catalog.len(), "{health:?}");
    suite.stop().await;
}

/// A tool that is disabled is refused by every executor, wherever it runs, a moment later.
async fn a_status_is_heard_of_in_every_process(mode: Mode) {
    let Some(time) = testkit::installed("mcp/python/bin/mcp-server-time", INSTALL) else { return };
    let mut suite = Suite::start(mode).await;
    let twin = suite.start_twin().await;
    register(&suite.admin, "time", stdio(&time, &[])).await;
    let agent = suite.agent("").await;
    suite.grant(&agent, "time.get_current_time").await;
    let beside = Client::new(twin).with_key(&agent.agent, &agent.key);
    let noon = json!({"timezone": "UTC"});
    for client in [&agent, &beside] {
        eventually("the tool is known", async || {
            client.try_call("time.get_current_time", noon.clone()).await.ok()
        })
        .await;
    }
    for status in [ToolStatus::Disabled, ToolStatus::Active, ToolStatus::Disabled] {
        let message = SetToolStatusRequest { name: "time.get_current_time".into(), status: status.into() };
        suite.admin.registry().set_tool_status(message).await.unwrap();
        let set = Instant::now();
        for (place, client) in [("executor", &agent), ("the other executor", &beside)] {
            let answer = eventually("the status is heard of", async || {
                let answer = client.try_call("time.get_current_time", noon.clone()).await;
                (answer.is_ok() == (status == ToolStatus::Active)).then_some(answer)
            })
            .await;
            println!("{place} knows of {} after {:?}", status.as_str_name(), set.elapsed());
            assert!(set.elapsed() < Duration::from_secs(5), "{place} heard of it after {:?}", set.elapsed());
            if status == ToolStatus::Disabled {
                refused(answer, Code::FailedPrecondition, ErrorReason::ToolUnavailable);
            }
        }
    }
    suite.stop().await;
}
