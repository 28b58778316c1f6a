//! A whole toolcrib of the test's own: a fresh database, every service, and the ways to use it.

use std::{
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use node::{
    config::{Peers, Role, Roles, Settings},
    serve,
    wire::{self, Node},
};
use proto::{
    audit::v1::{Event, QueryTrailRequest},
    permissions::v1::{Grant, Role as AgentRole},
    registry::v1::{RegisterToolRequest, Tool, ToolDefinition, ToolSettings, UpdateToolRequest},
};
use secrecy::{ExposeSecret, SecretString};
use store::Database;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{Client, chaos, eventually};

/// How long a stop may take; calls that are still under way then are cut off.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// The team of the suite.
const TEAM: &str = "crew";
/// Name of the file with the key that signs checkpoints.
pub(crate) const SIGNING_KEY: &str = "audit-signing.key";
/// Name of the file with the key that the trail is sealed under.
pub(crate) const AUDIT_KEYS: &str = "audit.keys";
/// Its admin.
const ADMIN: &str = "admin";

/// How the services are spread over processes. Each node stands for a process: it has settings, connections and an end
/// of its own, and reaches the others over sockets alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every role in one node, linked in process.
    AllInOne,
    /// A node for each role.
    Split,
}

/// A running toolcrib.
#[derive(Debug)]
pub struct Suite {
    /// How it is spread.
    pub mode: Mode,
    /// The settings of its nodes; the addresses of peers are those of the last one started.
    pub settings: Settings,
    /// The admin of the team.
    pub admin: Client,
    /// Where the edge listens.
    pub edge: SocketAddr,
    /// Where each role listens.
    pub addresses: Vec<(Role, SocketAddr)>,
    nodes: Vec<(Role, Node)>,
    database: Database,
    folder: TempDir,
    agents: AtomicUsize,
}

impl Suite {
    /// Starts it on a fresh database.
    pub async fn start(mode: Mode) -> Self {
        Self::start_on(mode, testkit::database_url().await).await
    }

    /// Starts it on this database.
    pub async fn start_on(mode: Mode, url: SecretString) -> Self {
        Self::start_set(mode, url, |_| {}).await
    }

    /// Starts it on a fresh database, with other settings.
    pub async fn start_with(mode: Mode, edit: impl FnOnce(&mut Settings)) -> Self {
        Self::start_set(mode, testkit::database_url().await, edit).await
    }

    /// The same, before it is known to serve: its edge may not speak to clients without TLS.
    pub async fn start_unwatched(mode: Mode, edit: impl FnOnce(&mut Settings)) -> Self {
        Self::start_nodes(mode, testkit::database_url().await, edit).await
    }

    async fn start_set(mode: Mode, url: SecretString, edit: impl FnOnce(&mut Settings)) -> Self {
        let suite = Self::start_nodes(mode, url, edit).await;
        suite.wait_until_serving().await;
        suite
    }

    async fn start_nodes(mode: Mode, url: SecretString, edit: impl FnOnce(&mut Settings)) -> Self {
        let folder = folder();
        let mut settings = settings(&folder, url);
        edit(&mut settings);
        let database = Database::new(settings.database.url.as_ref().unwrap(), 4).unwrap();
        for schema in wire::schemas() {
            schema.migrate(database.pool().unwrap()).await.unwrap();
        }
        let key = serve::bootstrap(&database, &settings, TEAM, ADMIN, "Administrator").await.unwrap();
        let nodes = match mode {
            Mode::AllInOne => vec![(Role::Edge, wire::start(&settings, &Roles::all()).await.unwrap())],
            Mode::Split => start_split(&mut settings).await,
        };
        let addresses: Vec<_> = nodes.iter().flat_map(|(_, node)| node.addresses.clone()).collect();
        let edge = addresses.iter().find(|(role, _)| *role == Role::Edge).unwrap().1;
        let admin = Client::new(edge).with_key(ADMIN, key.expose_secret());
        let agents = AtomicUsize::new(0);
        Self { mode, settings, admin, edge, addresses, nodes, database, folder, agents }
    }

    /// Stops every node, the edge first, and fails when one does not end in time.
    pub async fn stop(mut self) {
        for (role, node) in self.nodes.drain(..).rev() {
            stop_node(role, node).await;
        }
    }

    /// Starts a second edge and a second executor beside those of the suite, and gives the address of the edge: all
    /// in one node, or a node each. They are stopped with the suite.
    pub async fn start_twin(&mut self) -> SocketAddr {
        if self.mode == Mode::AllInOne {
            let node = wire::start(&self.settings, &Roles::all()).await.unwrap();
            let edge = node.addresses[&Role::Edge];
            self.nodes.push((Role::Edge, node));
            return edge;
        }
        let mut settings = self.settings.clone();
        let executor = wire::start(&settings, &Roles([Role::Executor].into())).await.unwrap();
        settings.peers.executor = format!("http://{}", executor.addresses[&Role::Executor]);
        let node = wire::start(&settings, &Roles([Role::Edge].into())).await.unwrap();
        let edge = node.addresses[&Role::Edge];
        self.nodes.extend([(Role::Executor, executor), (Role::Edge, node)]);
        edge
    }

    /// Stops the node of one role of a split suite.
    pub async fn stop_role(&mut self, role: Role) {
        let place = self.nodes.iter().position(|(known, _)| *known == role).expect("a role of a split suite");
        let (role, node) = self.nodes.remove(place);
        stop_node(role, node).await;
    }

    /// Waits until health says of every service that it serves.
    pub async fn wait_until_serving(&self) {
        for service in services() {
            eventually(&format!("{service} serves"), async || {
                let status = self.admin.health(service).await.ok()?;
                (status == tonic_health::pb::health_check_response::ServingStatus::Serving).then_some(())
            })
            .await;
        }
    }

    /// A client without a key.
    pub fn stranger(&self) -> Client {
        Client::new(self.edge)
    }

    /// A new agent of this specialization, with a key.
    pub async fn agent(&self, specialization: &str) -> Client {
        self.member(specialization, AgentRole::Agent).await
    }

    /// A new member of the team, with a key.
    pub async fn member(&self, specialization: &str, role: AgentRole) -> Client {
        let id = format!("agent-{}", self.agents.fetch_add(1, Ordering::Relaxed));
        self.admin.create_agent(&id, specialization, role).await;
        let (key, _) = self.issue_key(&id).await;
        self.stranger().with_key(&id, &key)
    }

    /// A new key of an agent, and its id.
    pub async fn issue_key(&self, agent: &str) -> (String, String) {
        self.admin.issue_key(agent).await
    }

    /// Lets an agent call a tool without limit.
    pub async fn grant(&self, agent: &Client, tool: &str) -> Grant {
        self.grant_with(agent, tool, Grant::default()).await
    }

    /// Lets an agent call a tool within the limits of this grant.
    pub async fn grant_with(&self, agent: &Client, tool: &str, limits: Grant) -> Grant {
        self.admin.grant(&agent.agent, tool, limits).await
    }

    /// Registers a tool.
    pub async fn register(&self, definition: impl Into<ToolDefinition>) -> Tool {
        self.admin.register(definition).await
    }

    /// Registers a tool that is run in this way.
    pub async fn register_with(&self, definition: impl Into<ToolDefinition>, settings: ToolSettings) -> Tool {
        let (definition, settings) = (Some(definition.into()), Some(settings));
        let request = RegisterToolRequest { definition, settings, ..RegisterToolRequest::default() };
        self.admin.registry().register_tool(request).await.unwrap().into_inner().tool.unwrap()
    }

    /// Changes these settings of a tool; executors hear of it a moment later.
    pub async fn update(&self, tool: &str, settings: ToolSettings, paths: &[&str]) -> Tool {
        let paths = paths.iter().map(ToString::to_string).collect();
        let request = UpdateToolRequest {
            name: tool.to_owned(),
            settings: Some(settings),
            update_mask: Some(prost_types::FieldMask { paths }),
            etag: String::new(),
        };
        self.admin.registry().update_tool(request).await.unwrap().into_inner().tool.unwrap()
    }

    /// A new agent that may call this new tool, run in this way, and no other.
    pub async fn agent_with_settings(
        &self,
        definition: impl Into<ToolDefinition>,
        settings: ToolSettings,
    ) -> Client {
        let tool = self.register_with(definition, settings).await;
        let agent = self.agent("").await;
        self.grant(&agent, &tool.definition.unwrap().name).await;
        agent
    }

    /// A new agent that may call this new tool, and no other.
    pub async fn agent_with(&self, definition: impl Into<ToolDefinition>) -> Client {
        let tool = self.register(definition).await;
        let agent = self.agent("").await;
        self.grant(&agent, &tool.definition.unwrap().name).await;
        agent
    }

    /// The first page of the trail, newest first, once every event written so far has been delivered.
    pub async fn trail(&self, filter: QueryTrailRequest) -> Vec<Event> {
        self.wait_until_delivered().await;
        let wanted = if filter.page_size == 0 { 50 } else { usize::try_from(filter.page_size).unwrap() };
        let (mut events, mut page_token) = (Vec::new(), String::new());
        // A page may be short, and have a token all the same.
        loop {
            let request = QueryTrailRequest { page_token, ..filter.clone() };
            let page = self.admin.audit().query_trail(request).await.unwrap().into_inner();
            events.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() || events.len() >= wanted {
                events.truncate(wanted);
                return events;
            }
        }
    }

    /// Every event of one agent, newest first.
    pub async fn trail_of(&self, agent: &Client) -> Vec<Event> {
        self.trail(QueryTrailRequest { agent_id: agent.agent.clone(), ..QueryTrailRequest::default() }).await
    }

    /// Waits until no outbox holds anything: an event is there before the call that it tells of is answered.
    pub async fn wait_until_delivered(&self) {
        eventually("the outbox is empty", async || {
            let waiting = self.count("executor.outbox", "true").await;
            let waiting = waiting + self.count("permissions.outbox", "true").await;
            (waiting + self.count("registry.outbox", "true").await == 0).then_some(())
        })
        .await;
    }

    /// Rows of a table, as the database itself has them.
    pub async fn count(&self, table: &str, condition: &str) -> i64 {
        // Both come from the test.
        let query = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table} WHERE {condition}"));
        sqlx::query_scalar(query).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }

    /// The database, which outlives the nodes.
    pub fn database(&self) -> Database {
        self.database.clone()
    }

    /// Makes another team, with an admin.
    pub async fn other_team(&self, team: &str) -> Client {
        let key =
            serve::bootstrap(&self.database, &self.settings, team, ADMIN, "Administrator").await.unwrap();
        self.stranger().with_key(ADMIN, key.expose_secret())
    }

    /// Where programs of the sandbox have their folders.
    pub fn sandbox_folder(&self) -> PathBuf {
        self.folder.path().join("sandbox")
    }

    /// Whether there is a Python for programs; says so where there is none, and fails in CI.
    pub fn has_python() -> bool {
        testkit::installed("python/bin/python", "make setup").is_some()
    }
}

/// Full names of the five services.
fn services() -> [&'static str; 5] {
    [
        "toolcrib.registry.v1.RegistryService",
        "toolcrib.selector.v1.SelectorService",
        "toolcrib.executor.v1.ExecutorService",
        "toolcrib.permissions.v1.PermissionsService",
        "toolcrib.audit.v1.AuditService",
    ]
}

async fn stop_node(role: Role, node: Node) {
    let started = Instant::now();
    node.stop(STOP_TIMEOUT).await;
    assert!(started.elapsed() < STOP_TIMEOUT, "the node of {} did not stop in time", role.as_str());
}

/// A folder that programs, which run as another user where we are root, can pass through.
fn folder() -> TempDir {
    let folder = testkit::folder();
    for name in ["workspaces", "sandbox"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        std::fs::set_permissions(folder.path().join(name), Permissions::from_mode(0o711)).unwrap();
    }
    std::fs::create_dir(folder.path().join("credentials")).unwrap();
    let keys = folder.path().join("credential.keys");
    std::fs::write(&keys, format!("k1 {0}{0}\n", types::new_id().simple())).unwrap();
    std::fs::set_permissions(keys, Permissions::from_mode(0o600)).unwrap();
    write_signing_key(folder.path());
    write_audit_keys(folder.path());
    folder
}

/// A new key that signs checkpoints, in this folder.
pub(crate) fn write_signing_key(folder: &Path) {
    let key = trail::note::SigningKey::generate("toolcrib").unwrap();
    std::fs::write(folder.join(SIGNING_KEY), key.private_key()).unwrap();
}

/// A new key that the trail is sealed under, in this folder.
pub(crate) fn write_audit_keys(folder: &Path) {
    let keys = folder.join(AUDIT_KEYS);
    std::fs::write(&keys, format!("k1 {0}{0}\n", types::new_id().simple())).unwrap();
    std::fs::set_permissions(keys, Permissions::from_mode(0o600)).unwrap();
}

/// The defaults, with free ports, secrets and folders of this suite, and a death and a busy tool that are noticed
/// within a second.
fn settings(folder: &TempDir, url: SecretString) -> Settings {
    let mut settings = Settings::load(None).unwrap();
    settings.database.url = Some(url);
    settings.database.max_connections = 8;
    let secret =
        || Some(SecretString::from(format!("{}{}", types::new_id().simple(), types::new_id().simple())));
    settings.security.caller_token_key = secret();
    settings.security.api_key_pepper = secret();
    let port: SocketAddr = ([127, 0, 0, 1], 0).into();
    settings.edge.listen = port;
    settings.registry.listen = port;
    settings.selector.listen = port;
    settings.executor.listen = port;
    settings.permissions.listen = port;
    settings.audit.listen = port;
    settings.registry.discovery_retries = 1;
    settings.registry.credentials.key_file = folder.path().join("credential.keys");
    settings.registry.credentials.source_root = folder.path().join("credentials");
    settings.registry.credentials.allow_private_network = true;
    settings.audit.key_file = folder.path().join(AUDIT_KEYS);
    settings.audit.signing_key_file = folder.path().join(SIGNING_KEY);
    settings.mcp.stdio_commands = mcp::Commands::any();
    settings.executor.workspace_root = folder.path().join("workspaces");
    settings.executor.sandbox.work_root = folder.path().join("sandbox");
    settings.executor.heartbeat_interval_ms = 200;
    settings.executor.lease_timeout_ms = 1_000;
    settings.executor.max_wait_ms = 1_000;
    settings.selector.selection_write_timeout_ms = 3_000;
    settings.checked(&Roles::all()).unwrap()
}

/// A node for each role, in an order in which each finds those that it calls.
async fn start_split(settings: &mut Settings) -> Vec<(Role, Node)> {
    let order = [Role::Audit, Role::Permissions, Role::Registry, Role::Selector, Role::Executor, Role::Edge];
    let is_secured = !settings.tls.certificate_file.as_os_str().is_empty();
    let scheme = if is_secured { "https" } else { "http" };
    if is_secured {
        for role in order {
            // None is there yet, and each must go with the certificates.
            if let Some(peer) = peer(&mut settings.peers, role) {
                *peer = peer.replace("http://", "https://");
            }
        }
    }
    // Those that are called by services that start before them: audit calls the executor, permissions and the selector,
    // and permissions the registry.
    let free: Vec<SocketAddr> = chaos::free_addresses(4).into_iter().collect();
    let [registry, selector, executor, permissions] = free.try_into().unwrap();
    settings.registry.listen = registry;
    settings.peers.registry = format!("{scheme}://{registry}");
    settings.peers.selector = format!("{scheme}://{selector}");
    settings.peers.executor = format!("{scheme}://{executor}");
    settings.peers.permissions = format!("{scheme}://{permissions}");
    let mut nodes = Vec::new();
    for role in order {
        let mut own = settings.clone();
        // Not in the settings of the suite: a second executor has another place.
        (own.executor.listen, own.permissions.listen, own.selector.listen) =
            (executor, permissions, selector);
        let node = wire::start(&own, &Roles([role].into())).await.unwrap();
        let address = format!("{scheme}://{}", node.addresses[&role]);
        match peer(&mut settings.peers, role) {
            Some(peer) => *peer = address,
            None => assert_eq!(role, Role::Edge),
        }
        nodes.push((role, node));
    }
    nodes
}

fn peer(peers: &mut Peers, role: Role) -> Option<&mut String> {
    match role {
        Role::Edge => None,
        Role::Registry => Some(&mut peers.registry),
        Role::Selector => Some(&mut peers.selector),
        Role::Executor => Some(&mut peers.executor),
        Role::Permissions => Some(&mut peers.permissions),
        Role::Audit => Some(&mut peers.audit),
    }
}
