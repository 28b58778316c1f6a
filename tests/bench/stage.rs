//! What stands ready while the table is measured: PostgreSQL with every flush on, the echo, a toolcrib in one process
//! and one in three, each with a database of its own, an agent, a tool that only reads and one with effects.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use node::{config::Settings, serve, wire};
use proto::{
    permissions::v1::{
        Agent, CreateAgentRequest, Grant, GrantPermissionRequest, IssueApiKeyRequest, grant::Grantee,
    },
    registry::v1::{
        Binding, BuiltinBinding, RegisterToolRequest, ToolDefinition, ToolSettings, UpdateToolRequest,
        binding::Kind,
    },
    types::v1::{Category, Effect},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{Database, LocalCluster, LocalOptions};
use tempfile::TempDir;
use testkit::RedisServer;
use tests::{Client, eventually};

use crate::{
    process::{self, Process},
    usage::Parties,
};

/// The team of every suite, its admin, and the agent that calls.
const TEAM: &str = "crew";
const ADMIN: &str = "admin";
pub const AGENT: &str = "caller";
/// The tool that only reads: the built-in one.
pub const READS: &str = "echo";
/// The same work, but said to be a side effect.
pub const EFFECTS: &str = "bench.effect";
/// A tool that the agent may call without a quota, and never does.
pub const UNLIMITED: &str = "http_request";
/// More calls than an hour of measuring makes: a quota that is counted and never used up.
const QUOTA: i64 = 1_000_000_000;
/// Most that a tool's settings admit in a minute, and at once.
const RATE: i32 = 1_000_000;
const AT_ONCE: i32 = 10_000;

/// PostgreSQL and the folder that everything is in.
pub struct Ground {
    /// The server; it ends with this.
    pub cluster: LocalCluster,
    /// Its first process.
    pub postmaster: u32,
    /// Where logs go.
    pub folder: TempDir,
}

/// A running toolcrib.
pub struct Suite {
    /// Its processes; the first has the executor.
    pub processes: Vec<Process>,
    /// Where the edge listens.
    pub edge: SocketAddr,
    /// The agent's key.
    pub key: String,
    /// An admin of the team.
    pub admin: Client,
    /// Its database.
    pub database: Database,
    /// From the start of the first process to the first answered call.
    pub started_in: Duration,
    /// What its processes were started with.
    settings: Vec<(&'static str, String)>,
    /// A Redis, where it has one; it ends with this.
    _redis: Option<RedisServer>,
}

impl Ground {
    /// Makes a cluster in a folder of its own.
    pub async fn new() -> Self {
        let folder = testkit::folder();
        let options = LocalOptions { directory: folder.path().join("postgres"), fsync: true };
        let cluster = LocalCluster::start(&options).await.expect("PostgreSQL starts; run `make setup`");
        let file = std::fs::read_to_string(options.directory.join("data/postmaster.pid"));
        let file = file.expect("a running server has one");
        let postmaster = file.lines().next().and_then(|pid| pid.trim().parse().ok()).expect("a process id");
        Self { cluster, postmaster, folder }
    }

    /// A new database's URL.
    pub async fn database(&self, name: &str) -> SecretString {
        self.cluster.create_database(name, "template0").await.expect("a new database");
        self.cluster.url(name)
    }

    /// The echo, with a database for its two commits.
    pub async fn echo(&self) -> Process {
        let url = self.database("echo").await;
        let settings = [("DATABASE__URL", url.expose_secret().to_owned())];
        Process::start(process::ECHO, TEAM, &settings, &self.log("echo"))
    }

    /// Who is measured when these processes are.
    pub fn parties(&self, processes: &[Process]) -> Parties {
        let ours = processes.iter().map(|process| process.pid).collect();
        Parties { ours, postmaster: self.postmaster }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.log"))
    }
}

impl Suite {
    /// A toolcrib with a process for each of these parts, the last of which is the edge.
    pub async fn start(ground: &Ground, name: &str, parts: &[&str], redis: Option<RedisServer>) -> Self {
        let database = migrated(&ground.database(name).await).await;
        let mut settings = settings(&ground.folder.path().join(name), &ground.cluster.url(name));
        if let Some(redis) = &redis {
            settings.push(("REDIS__URLS", redis.url().expose_secret().to_owned()));
        }
        let admin_key = bootstrapped(&database, &settings).await;
        let begun = Instant::now();
        let mut processes = Vec::new();
        for part in parts {
            let process = Process::start(part, TEAM, &settings, &ground.log(name));
            let peers = process
                .addresses
                .iter()
                .filter_map(|(role, address)| Some((peer(role)?, format!("http://{address}"))));
            settings.extend(peers);
            processes.push(process);
        }
        let edge = processes.last().and_then(|process| process.addresses.get("edge")).copied();
        let edge = edge.expect("the last process has the edge");
        let admin = Client::new(edge).with_key(ADMIN, &admin_key);
        eventually("a call is answered", async || admin.try_call(READS, json!({"text": ""})).await.ok())
            .await;
        let started_in = begun.elapsed();
        let key = prepared(&admin).await;
        let agent = Client::new(edge).with_key(AGENT, &key);
        for tool in [READS, EFFECTS] {
            let call = async || agent.try_call(tool, json!({"text": ""})).await.ok();
            eventually("both tools can be called", call).await;
        }
        Self { processes, edge, key, admin, database, started_in, settings, _redis: redis }
    }

    /// Stops everything, and starts it as one process again.
    pub fn start_again(&mut self, ground: &Ground) {
        self.processes.clear();
        let process = Process::start("all", TEAM, &self.settings, &ground.log("again"));
        self.edge = process.addresses["edge"];
        self.admin = Client::new(self.edge).with_key(ADMIN, &self.admin.key);
        self.processes.push(process);
    }

    /// The process with the executor.
    pub fn executor(&mut self) -> &mut Process {
        let has = |process: &Process| {
            process.addresses.contains_key("executor") || process.addresses.contains_key("driver")
        };
        self.processes.iter_mut().find(|process| has(process)).expect("one has the executor")
    }

    /// Events that wait in the outbox.
    pub async fn waiting_events(&self) -> i64 {
        let pool = self.database.pool().expect("the database is up");
        let count = sqlx::query_scalar("SELECT count(*) FROM executor.outbox");
        count.fetch_one(pool).await.expect("a count")
    }

    /// Lets the agent call a tool.
    pub async fn grant(&self, tool: &str) {
        grant(&self.admin, tool).await;
    }
}

async fn migrated(url: &SecretString) -> Database {
    let database = Database::new(url, 4).expect("the URL is well-formed");
    for schema in wire::schemas() {
        schema.migrate(database.pool().expect("just made")).await.expect("migrations run");
    }
    database
}

/// The defaults, but for ports, secrets, folders, and the limit of the edge, which would stop the load.
fn settings(folder: &Path, url: &SecretString) -> Vec<(&'static str, String)> {
    let secret = || format!("{}{}", types::new_id().simple(), types::new_id().simple());
    std::fs::create_dir_all(folder).expect("a folder");
    let signing_key = folder.join("audit-signing.key");
    let key = trail::note::SigningKey::generate("toolcrib").expect("randomness");
    std::fs::write(&signing_key, key.private_key()).expect("a file");
    let audit_keys = folder.join("audit.keys");
    std::fs::write(&audit_keys, format!("k1 {}\n", secret())).expect("a file");
    std::fs::set_permissions(&audit_keys, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("a file of one's own");
    let folder = |name: &str| {
        let path = folder.join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        path.display().to_string()
    };
    let mut settings = vec![
        ("AUDIT__KEY_FILE", audit_keys.display().to_string()),
        ("AUDIT__SIGNING_KEY_FILE", signing_key.display().to_string()),
        ("DATABASE__URL", url.expose_secret().to_owned()),
        ("SECURITY__CALLER_TOKEN_KEY", secret()),
        ("SECURITY__API_KEY_PEPPER", secret()),
        ("EDGE__REQUESTS_PER_MINUTE", "0".to_owned()),
        ("EXECUTOR__WORKSPACE_ROOT", folder("workspaces")),
        ("EXECUTOR__SANDBOX__WORK_ROOT", folder("sandbox")),
    ];
    let ports = [
        "EDGE__LISTEN",
        "REGISTRY__LISTEN",
        "SELECTOR__LISTEN",
        "EXECUTOR__LISTEN",
        "PERMISSIONS__LISTEN",
        "AUDIT__LISTEN",
    ];
    settings.extend(ports.map(|port| (port, "127.0.0.1:0".to_owned())));
    settings
}

fn peer(role: &str) -> Option<&'static str> {
    Some(match role {
        "registry" => "PEERS__REGISTRY",
        "selector" => "PEERS__SELECTOR",
        "executor" => "PEERS__EXECUTOR",
        "permissions" => "PEERS__PERMISSIONS",
        "audit" => "PEERS__AUDIT",
        _ => return None,
    })
}

/// The team and its admin; gives the admin's key.
async fn bootstrapped(database: &Database, settings: &[(&str, String)]) -> String {
    let mut own = Settings::load(None).expect("the defaults are sound");
    let pepper = settings.iter().find(|(name, _)| *name == "SECURITY__API_KEY_PEPPER");
    own.security.api_key_pepper = pepper.map(|(_, value)| value.clone().into());
    let key = serve::bootstrap(database, &own, TEAM, ADMIN, "Administrator").await.expect("a first key");
    key.expose_secret().to_owned()
}

/// Two tools, and an agent with a quota for each; gives the agent's key.
async fn prepared(admin: &Client) -> String {
    register(admin, effect()).await;
    let agent = Agent { id: AGENT.to_owned(), ..Agent::default() };
    let agent = CreateAgentRequest { agent: Some(agent) };
    admin.permissions().create_agent(agent).await.expect("an agent");
    for tool in [READS, EFFECTS] {
        unlimit(admin, tool).await;
        grant(admin, tool).await;
    }
    let request =
        IssueApiKeyRequest { agent_id: AGENT.to_owned(), ttl_s: 0, ..IssueApiKeyRequest::default() };
    admin.permissions().issue_api_key(request).await.expect("a key").into_inner().api_key
}

/// The tool with effects.
fn effect() -> ToolDefinition {
    ToolDefinition {
        name: EFFECTS.to_owned(),
        description: "Gives back what it is given, and counts as a side effect.".to_owned(),
        category: Category::TextProcessing.into(),
        capabilities: vec!["transform".to_owned()],
        effect: Effect::SideEffect.into(),
        input_schema_json: schema().to_string(),
        output_schema_json: schema().to_string(),
        timeout_ms: 10_000,
        binding: Some(Binding { kind: Some(Kind::Builtin(BuiltinBinding { name: READS.to_owned() })) }),
        ..ToolDefinition::default()
    }
}

/// The schema of what the tools take and give.
fn schema() -> serde_json::Value {
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "additionalProperties": false,
        "required": ["text"],
        "properties": {"text": {"type": "string", "maxLength": 1_000_000, "description": "What to give back."}},
    })
}

/// Registers a tool.
async fn register(admin: &Client, definition: ToolDefinition) {
    let request = RegisterToolRequest { definition: Some(definition), ..RegisterToolRequest::default() };
    admin.registry().register_tool(request).await.expect("the tool is registered");
}

/// Sets the tool's own limits so high that they are counted and never reached.
pub async fn unlimit(admin: &Client, tool: &str) {
    let settings =
        ToolSettings { rate_limit_per_minute: RATE, max_concurrent: AT_ONCE, ..ToolSettings::default() };
    let paths = ["rate_limit_per_minute", "max_concurrent"].map(str::to_owned).to_vec();
    let request = UpdateToolRequest {
        name: tool.to_owned(),
        settings: Some(settings),
        update_mask: Some(prost_types::FieldMask { paths }),
        ..UpdateToolRequest::default()
    };
    admin.registry().update_tool(request).await.expect("the tool is set");
}

async fn grant(admin: &Client, tool: &str) {
    let grantee = Some(Grantee::AgentId(AGENT.to_owned()));
    let max_per_hour = if tool == UNLIMITED { 0 } else { QUOTA };
    let grant = Grant { grantee, tool_name: tool.to_owned(), max_per_hour, ..Grant::default() };
    let request = GrantPermissionRequest { grant: Some(grant) };
    admin.permissions().grant_permission(request).await.expect("a grant");
}

/// Fills the catalog up to a thousand tools, which is what the target for memory speaks of.
pub async fn fill(suite: &Suite) {
    const TOOLS: usize = 1_000;
    const AT_ONCE: usize = 16;
    let calls = (0..TOOLS).map(|number| {
        let definition = ToolDefinition {
            name: format!("bench.idle_{number}"),
            description: format!("Tool {number} of a full catalog, which nobody calls."),
            ..effect()
        };
        register(&suite.admin, definition)
    });
    futures_util::stream::iter(calls).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
}
