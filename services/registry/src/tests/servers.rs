//! MCP servers are discovered, followed and left alone when they are broken.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ::rpc::{ErrorReason, reason_of};
use proto::{
    registry::v1::{
        CacheSettings, IdempotencyKey, ListServersRequest, McpTransport, RefreshServerRequest,
        RegisterServerRequest, RegisterServerResponse, RemoveServerRequest, SemanticMatch, Server,
        ServerDefaults, ServerState, SetToolStatusRequest, StdioTransport, ToolSettings, ToolStatus,
        UpdateToolRequest, idempotency_key::Place, mcp_transport,
    },
    types::v1::Effect,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// The files of one server program.
pub(super) struct Program {
    folder: TempDir,
}

impl Program {
    pub(super) fn new(content: &Value) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("server.py"), include_str!("mcp_server.py")).unwrap();
        let program = Self { folder };
        program.write(content);
        program
    }

    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join("tools.json")
    }

    /// Replaced in one step: the server never reads half of it.
    pub(super) fn write(&self, content: &Value) {
        let new = self.folder.path().join("new.json");
        fs::write(&new, content.to_string()).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    pub(super) fn lists(&self) -> usize {
        fs::read(Path::new(&format!("{}.listed", self.path().display()))).map_or(0, |bytes| bytes.len())
    }

    pub(super) fn request(&self, name: &str) -> RegisterServerRequest {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        let stdio = StdioTransport {
            command: "python3".into(),
            args: vec![text(self.folder.path().join("server.py")), text(self.path())],
            env: [("LICENCE".to_owned(), "hush-hush-hush".to_owned())].into(),
        };
        RegisterServerRequest {
            name: name.into(),
            transport: Some(McpTransport {
                kind: Some(mcp_transport::Kind::Stdio(stdio)),
                ..McpTransport::default()
            }),
            ..RegisterServerRequest::default()
        }
    }
}

pub(super) fn tool(name: &str) -> Value {
    json!({"name": name, "description": "Does it.", "inputSchema": {"type": "object"}})
}

pub(super) fn listing(names: &[&str]) -> Value {
    json!({"tools": names.iter().map(|name| tool(name)).collect::<Vec<_>>()})
}

impl Registry {
    pub(super) async fn add(&self, request: RegisterServerRequest) -> RegisterServerResponse {
        let request = request!(self, "team", request);
        self.client.clone().register_server(request).await.unwrap().into_inner()
    }

    pub(super) async fn refresh(&self, name: &str) -> Server {
        let request = request!(self, "team", RefreshServerRequest { name: name.into() });
        self.client.clone().refresh_server(request).await.unwrap().into_inner().server.unwrap()
    }

    pub(super) async fn server(&self, name: &str) -> Option<Server> {
        let request = request!(self, "team", ListServersRequest {});
        let servers = self.client.clone().list_servers(request).await.unwrap().into_inner().servers;
        servers.into_iter().find(|server| server.name == name)
    }

    /// Version and status of a tool.
    pub(super) async fn tool(&self, name: &str) -> (String, ToolStatus) {
        let tool = self.get(name).await.unwrap();
        (tool.definition.clone().unwrap().version, tool.status())
    }

    /// Waits until a tool is as wanted.
    pub(super) async fn until(&self, name: &str, is_done: impl Fn(&Tool) -> bool) -> Tool {
        let wait = async {
            loop {
                if let Some(tool) = self.get(name).await.filter(|tool| is_done(tool)) {
                    return tool;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), wait).await.expect("the tool becomes as wanted")
    }
}

const ACTIVE: ToolStatus = ToolStatus::Active;
const DISABLED: ToolStatus = ToolStatus::Disabled;

#[tokio::test]
async fn a_servers_tools_become_tools_and_the_bad_ones_are_told() {
    let mut reads = tool("Read It");
    reads["annotations"] = json!({"readOnlyHint": true, "title": "Reads"});
    let mut bad = tool("bad");
    bad["inputSchema"] = json!({"type": "object", "properties": {"a": {"type": "nonsense"}}});
    let program = Program::new(&json!({"tools": [reads, bad, tool("write")]}));
    let registry = registry(&config(), &database().await);
    let request = RegisterServerRequest {
        defaults: Some(ServerDefaults {
            trust_annotations: true,
            timeout_ms: 9_000,
            ..ServerDefaults::default()
        }),
        ..program.request("srv")
    };
    let made = registry.add(request.clone()).await;
    let server = made.server.unwrap();
    assert_eq!((server.state(), server.tool_count), (ServerState::Healthy, 2), "{server:?}");
    assert_eq!((server.server_version.as_str(), server.last_error.as_str()), ("test-server 1.2.3", ""));
    assert!(!server.protocol_version.is_empty() && server.last_seen_time.is_some());
    assert!(server.rejected_tools[0].starts_with("bad: input_schema_json"), "{:?}", server.rejected_tools);
    let tools: Vec<_> = made.tools.into_iter().map(|tool| tool.definition.unwrap()).collect();
    let names: Vec<_> = tools.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["srv.read_it", "srv.write"]);
    assert_eq!((tools[0].effect(), tools[1].effect()), (Effect::ReadOnly, Effect::SideEffect));
    assert_eq!((tools[0].title.as_str(), tools[0].provider.as_str()), ("Reads", "srv"));
    assert_eq!((tools[0].timeout_ms, tools[0].version.as_str()), (9_000, "1.0.0"));
    let Some(Kind::Mcp(binding)) = tools[0].binding.clone().unwrap().kind else { panic!("not mcp") };
    assert_eq!((binding.tool.as_str(), binding.transport), ("Read It", request.transport.clone()));

    let again = registry.add(request.clone()).await.server.unwrap();
    assert_eq!(again.state(), ServerState::Healthy);
    let other = RegisterServerRequest { defaults: None, ..request };
    let status =
        registry.client.clone().register_server(request!(registry, "team", other)).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::AlreadyExists));
    let theirs = request!(registry, "team", registration(definition("srv.write")));
    let status = registry.client.clone().register_tool(theirs).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::AlreadyExists));
    assert!(status.message().contains("kept by MCP server srv"), "{}", status.message());
    registry.stop().await;
}

#[tokio::test]
async fn discovery_follows_what_the_server_offers() {
    let program = Program::new(&listing(&["a", "b"]));
    let database = database().await;
    let registry = registry(&config(), &database);
    registry.add(program.request("srv")).await;
    let revision = || async { crate::store::revision(database.pool().unwrap()).await.unwrap() };
    let before = revision().await;
    registry.refresh("srv").await;
    assert_eq!(revision().await, before, "nothing changed, nothing is written");

    program.write(&listing(&["a"]));
    assert_eq!(registry.refresh("srv").await.tool_count, 1);
    assert_eq!(registry.tool("srv.b").await, ("1.0.0".into(), DISABLED));

    let mut changed = tool("a");
    changed["description"] = "Does it otherwise.".into();
    program.write(&json!({"tools": [changed, tool("c")]}));
    assert_eq!(registry.refresh("srv").await.tool_count, 2);
    assert_eq!(registry.tool("srv.a").await, ("1.0.0".into(), ACTIVE), "the change waits");
    assert_eq!(registry.tool("srv.b").await, ("1.0.0".into(), DISABLED));
    assert_eq!(registry.tool("srv.c").await, ("1.0.0".into(), ACTIVE));

    // What an operator disabled stays so when it goes and comes back.
    let message = SetToolStatusRequest { name: "srv.c".into(), status: DISABLED.into() };
    registry.client.clone().set_tool_status(request!(registry, "team", message)).await.unwrap();
    program.write(&listing(&["b"]));
    registry.refresh("srv").await;
    program.write(&listing(&["b", "c"]));
    registry.refresh("srv").await;
    assert_eq!(registry.tool("srv.b").await, ("1.0.0".into(), ACTIVE));
    assert_eq!(registry.tool("srv.c").await, ("1.0.0".into(), DISABLED));

    // A tool that people registered is not taken over.
    let theirs = request!(registry, "team", registration(definition("srv.mine")));
    registry.client.clone().register_tool(theirs).await.unwrap();
    program.write(&listing(&["b", "mine"]));
    let server = registry.refresh("srv").await;
    assert!(
        server.rejected_tools[0].contains("registered by hand, as provided by toolcrib; MCP server srv"),
        "{:?}",
        server.rejected_tools
    );
    assert_eq!(registry.get("srv.mine").await.unwrap().definition.unwrap().provider, "toolcrib");
    registry.stop().await;
}

#[tokio::test]
async fn settings_of_discovered_tools_stay_but_for_those_that_go_no_more() {
    let reads = |property: &str, read_only: bool| {
        let mut tool = tool("a");
        tool["inputSchema"] = json!({"type": "object", "properties": {property: {"type": "string"}}});
        tool["annotations"] = json!({"readOnlyHint": read_only});
        json!({"tools": [tool]})
    };
    let program = Program::new(&reads("q", true));
    let all = Config { trust_policy: TrustPolicy::ApproveAll, ..config() };
    let registry = registry(&all, &database().await);
    let trusted = ServerDefaults { trust_annotations: true, ..ServerDefaults::default() };
    let server = RegisterServerRequest { defaults: Some(trusted), ..program.request("srv") };
    let semantic =
        SemanticMatch { field: "q".into(), min_similarity: 0.9, max_error: 0.01, ..SemanticMatch::default() };
    let settings = ToolSettings {
        timeout_ms: 7_000,
        cache: Some(CacheSettings { enabled: true, semantic: Some(semantic), ..CacheSettings::default() }),
        idempotency_key: Some(IdempotencyKey { place: Some(Place::Argument("q".into())) }),
        ..ToolSettings::default()
    };
    let message =
        UpdateToolRequest { name: "srv.a".into(), settings: Some(settings), ..UpdateToolRequest::default() };
    let early = registry.client.clone().update_tool(request!(registry, "team", message.clone())).await;
    assert_eq!(reason_of(&early.unwrap_err()), Some(ErrorReason::ToolNotFound));
    registry.add(server.clone()).await;
    let set = registry.client.clone().update_tool(request!(registry, "team", message)).await.unwrap();
    let set = set.into_inner().tool.unwrap().settings.unwrap();

    let request = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
    registry.client.clone().remove_server(request).await.unwrap();
    registry.add(server).await;
    assert_eq!(registry.get("srv.a").await.unwrap().settings.unwrap(), set, "they outlive the server");

    program.write(&reads("text", true));
    registry.refresh("srv").await;
    let without = registry.get("srv.a").await.unwrap().settings.unwrap();
    let cache = without.cache.unwrap();
    assert_eq!((without.timeout_ms, cache.enabled), (7_000, true));
    assert_eq!((cache.semantic, without.idempotency_key), (None, None), "the argument is gone");
    program.write(&reads("text", false));
    registry.refresh("srv").await;
    let guarded = registry.get("srv.a").await.unwrap().settings.unwrap();
    assert_eq!((guarded.timeout_ms, guarded.cache.unwrap().enabled), (7_000, false));
    registry.stop().await;
}

#[tokio::test]
async fn a_server_that_says_its_tools_changed_is_listed_again() {
    let program = Program::new(&listing(&["a"]));
    let registry = registry(&config(), &database().await);
    registry.add(program.request("srv")).await;
    program.write(&listing(&["a", "b"]));
    registry.until("srv.b", |tool| tool.status() == ACTIVE).await;
    registry.stop().await;
}

#[tokio::test]
async fn the_interval_alone_is_enough() {
    let program = Program::new(&listing(&["a"]));
    let registry = registry(&Config { discovery_interval_s: 1, ..config() }, &database().await);
    registry.add(program.request("srv")).await;
    let (until, lists) = (tokio::time::Instant::now() + Duration::from_secs(20), program.lists());
    while program.lists() < lists + 2 {
        assert!(tokio::time::Instant::now() < until, "listed {} times", program.lists());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    registry.stop().await;
}

#[tokio::test]
async fn a_broken_server_is_told_and_delays_no_other() {
    let hangs = Program::new(&json!({"mode": "hang", "tools": []}));
    let exits = Program::new(&json!({"mode": "exit", "tools": []}));
    let fine = Program::new(&listing(&["a"]));
    let registry = registry(&Config { server_timeout_s: 12, ..config() }, &database().await);
    let hanging = {
        let request = request!(registry, "team", hangs.request("hangs"));
        let mut client = registry.client.clone();
        tokio::spawn(async move { client.register_server(request).await.unwrap().into_inner() })
    };
    let exited = registry.add(exits.request("exits")).await.server.unwrap();
    assert_eq!(exited.state(), ServerState::Unavailable);
    assert!(!exited.last_error.is_empty() && !exited.last_error.contains("hush"), "{}", exited.last_error);
    let healthy = registry.add(fine.request("fine")).await;
    assert_eq!((healthy.server.unwrap().state(), healthy.tools.len()), (ServerState::Healthy, 1));
    assert!(!hanging.is_finished(), "the one that hangs still does");
    let hung = hanging.await.unwrap().server.unwrap();
    assert_eq!(hung.state(), ServerState::Unavailable);
    assert!(hung.last_error.contains("timed out"), "{}", hung.last_error);

    // It is tried again without being asked.
    exits.write(&listing(&["back"]));
    registry.until("exits.back", |tool| tool.status() == ACTIVE).await;
    let back = registry.server("exits").await.unwrap();
    assert_eq!(back.state(), ServerState::Degraded, "it answers, and did not half of the times");
    assert!(back.health < 0.8 && !back.last_error.is_empty(), "{back:?}");
    registry.stop().await;
}

#[tokio::test]
async fn a_server_that_goes_down_is_unavailable_and_its_tools_stay() {
    let program = Program::new(&listing(&["a"]));
    let database = database().await;
    let before = registry(&config(), &database);
    before.add(program.request("srv")).await;
    before.stop().await;
    // The process that kept it is gone; the next one finds it broken.
    program.write(&json!({"mode": "exit", "tools": []}));
    let registry = registry(&config(), &database);
    let server = registry.refresh("srv").await;
    assert_eq!((server.state(), server.tool_count), (ServerState::Unavailable, 1));
    assert_eq!(registry.tool("srv.a").await, ("1.0.0".into(), ACTIVE));
    registry.stop().await;
}

#[tokio::test]
async fn a_removed_server_leaves_disabled_tools_and_may_come_back() {
    let program = Program::new(&listing(&["a", "b"]));
    let registry = registry(&config(), &database().await);
    registry.add(program.request("srv")).await;
    let remove = || {
        let request = request!(registry, "team", RemoveServerRequest { name: "srv".into() });
        let mut client = registry.client.clone();
        async move { client.remove_server(request).await.map(|done| done.into_inner().tools_disabled) }
    };
    assert_eq!(remove().await.unwrap(), 2);
    assert_eq!(registry.tool("srv.a").await, ("1.0.0".into(), DISABLED));
    assert!(registry.server("srv").await.is_none());
    assert_eq!(reason_of(&remove().await.unwrap_err()), Some(ErrorReason::NotFound));
    let request = request!(registry, "team", RefreshServerRequest { name: "srv".into() });
    let status = registry.client.clone().refresh_server(request).await.unwrap_err();
    assert_eq!(reason_of(&status), Some(ErrorReason::NotFound));
    registry.add(program.request("srv")).await;
    assert_eq!(registry.tool("srv.a").await, ("1.0.0".into(), ACTIVE));
    registry.stop().await;
}

#[tokio::test]
async fn one_process_discovers_a_server_and_another_takes_over() {
    let program = Program::new(&listing(&["a"]));
    let database = database().await;
    let (one, two) = (registry(&config(), &database), registry(&config(), &database));
    one.add(program.request("srv")).await;
    let lists = program.lists();
    assert_eq!(lists, 1, "two processes, one discovery");
    two.refresh("srv").await;
    one.refresh("srv").await;
    assert_eq!(program.lists(), lists + 2);
    one.stop().await;
    program.write(&listing(&["a", "b"]));
    two.refresh("srv").await;
    assert_eq!(two.tool("srv.b").await, ("1.0.0".into(), ACTIVE));
    two.stop().await;
}

#[tokio::test]
async fn a_server_that_lists_ever_new_names_fills_nothing() {
    let many = |count: usize| -> Value {
        let tools: Vec<Value> = (0..count).map(|n| tool(&format!("t{n}"))).collect();
        json!({"tools": tools})
    };
    let program = Program::new(&many(1_002));
    let database = database().await;
    let registry = registry(&config(), &database);
    let server = registry.add(program.request("srv")).await.server.unwrap();
    assert_eq!((server.tool_count, server.rejected_tools.len()), (1_002, 0), "the first discovery");
    program.write(&many(2_004));
    let server = registry.refresh("srv").await;
    assert_eq!((server.tool_count, server.rejected_tools.len()), (2_002, 2), "{:?}", server.rejected_tools);
    assert!(server.rejected_tools[0].contains("1000 tools within a day"), "{:?}", server.rejected_tools);

    let pool = database.pool().unwrap();
    for sql in [
        "UPDATE registry.version SET create_time = create_time - interval '2 days'",
        "UPDATE registry.server SET create_time = create_time - interval '3 days'",
        "INSERT INTO registry.tool (team_id, name, newest_id, category, capabilities, provider, server_name,
                                    status, withdrawn, revision)
         SELECT team_id, 'srv.gone' || n, newest_id, category, capabilities, provider, server_name, status,
                true, revision
         FROM registry.tool, generate_series(1, 17997) AS n WHERE name = 'srv.t0'",
    ] {
        sqlx::query(sql).execute(pool).await.unwrap();
    }
    let server = registry.refresh("srv").await;
    assert_eq!((server.tool_count, server.rejected_tools.len()), (2_003, 1), "{:?}", server.rejected_tools);
    assert!(server.rejected_tools[0].contains("20000 names"), "{:?}", server.rejected_tools);
    registry.stop().await;
}

#[tokio::test]
async fn a_server_that_cannot_be_is_refused() {
    let registry = registry(&config(), &database().await);
    let program = Program::new(&listing(&[]));
    let empty = RegisterServerRequest { name: "Bad Name".into(), ..RegisterServerRequest::default() };
    for (request, fields) in [
        (empty, vec!["name", "transport"]),
        (
            RegisterServerRequest {
                defaults: Some(ServerDefaults {
                    timeout_ms: 5,
                    capabilities: vec!["A B".into()],
                    ..ServerDefaults::default()
                }),
                ..program.request("srv.x")
            },
            vec!["name", "defaults.timeout_ms", "defaults.capabilities"],
        ),
    ] {
        let status =
            registry.client.clone().register_server(request!(registry, "team", request)).await.unwrap_err();
        assert_eq!(reason_of(&status), Some(ErrorReason::InvalidRequest));
        for field in fields {
            assert!(status.message().contains(field), "{field} in {}", status.message());
        }
    }
    assert!(registry.server("srv").await.is_none());
    registry.stop().await;
}
