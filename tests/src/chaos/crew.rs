//! A toolcrib of real processes around one database: an executor a process, an edge before each, and one process of
//! everything else. The edge of number N calls the executor of number N alone, so that a scenario can choose whom to ask.

use std::{
    collections::{BTreeSet, HashSet},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use node::{config::Settings, serve, wire};
use proto::permissions::v1::{Grant, Role};
use secrecy::{ExposeSecret, SecretString};
use store::{Database, LocalCluster, LocalOptions};
use tempfile::TempDir;

use super::Serving;
use crate::{
    Client, eventually,
    suite::{AUDIT_KEYS, SIGNING_KEY, write_audit_keys, write_signing_key},
};

/// The team.
const TEAM: &str = "crew";
/// Its admin.
const ADMIN: &str = "admin";
/// How long a silent executor is taken for living; a machine with other things to do must not make it look dead.
const LEASE: Duration = Duration::from_secs(2);
/// Everything but executors.
const FRONT: &str = "edge,registry,selector,permissions,audit";
/// The service of permissions.
const PERMISSIONS: &str = "toolcrib.permissions.v1.PermissionsService";

/// What a scenario needs.
#[derive(Debug, Default)]
pub struct Plan {
    /// Processes of the executor.
    pub executors: usize,
    /// Whether the database is the scenario's own and flushes every commit to the disk.
    pub durable: bool,
    /// Whether the process of each edge decides permissions, too, for the executor behind it; else the first does for all.
    pub permissions_everywhere: bool,
    /// How long a silent executor is taken for living, where a machine with much to do must not make it look dead.
    pub lease: Option<Duration>,
    /// Where Redis is; empty: there is none.
    pub redis: Vec<SecretString>,
}

/// The processes, and the ways to reach them.
#[derive(Debug)]
pub struct Crew {
    /// The executors.
    pub executors: Vec<Serving>,
    /// The admin of the team, through the first edge.
    pub admin: Client,
    /// The edges, in the order of the executors; the first is everything but executors.
    pub edges: Vec<Serving>,
    database: Database,
    cluster: Option<LocalCluster>,
    folder: TempDir,
}

impl Crew {
    /// Starts all of it, and waits until it serves.
    pub async fn start(plan: &Plan) -> Self {
        let crew = Self::prepare(plan).await;
        crew.edges.iter().for_each(Serving::start);
        crew.executors.iter().for_each(Serving::start);
        for process in crew.edges.iter().chain(&crew.executors) {
            process.wait_until_serving().await;
        }
        crew.wait_until_reachable().await;
        crew
    }

    /// The same, with none but the first executor started.
    pub async fn start_with_one(plan: &Plan) -> Self {
        let crew = Self::prepare(plan).await;
        crew.edges.iter().for_each(Serving::start);
        crew.executors[0].start();
        for process in crew.edges.iter().chain(crew.executors.first()) {
            process.wait_until_serving().await;
        }
        crew
    }

    async fn prepare(plan: &Plan) -> Self {
        let folder = testkit::folder();
        let (cluster, url) = database(plan, folder.path()).await;
        let database = Database::new(&url, 4).unwrap();
        for schema in wire::schemas() {
            schema.migrate(database.pool().unwrap()).await.unwrap();
        }
        let mut settings = Settings::load(None).unwrap();
        settings.security.api_key_pepper = Some(secret());
        let key = serve::bootstrap(&database, &settings, TEAM, ADMIN, "Administrator").await.unwrap();
        let environment = environment(plan, &url, &settings, folder.path());
        let log = |name: String| folder.path().join(name);
        let (ports, mut edges, mut executors) = (ports(plan), Vec::new(), Vec::new());
        for (number, (edge, executor)) in ports.pairs.iter().copied().enumerate() {
            let mut own = vec![
                ("TOOLCRIB__EDGE__LISTEN".to_owned(), edge.to_string()),
                ("TOOLCRIB__EXECUTOR__LISTEN".to_owned(), executor.to_string()),
                ("TOOLCRIB__PEERS__EXECUTOR".to_owned(), format!("http://{executor}")),
            ];
            if let Some(permissions) = ports.permissions.get(number) {
                own.push(("TOOLCRIB__PERMISSIONS__LISTEN".to_owned(), permissions.to_string()));
                own.push(("TOOLCRIB__PEERS__PERMISSIONS".to_owned(), format!("http://{permissions}")));
            }
            let own = [environment.clone(), ports.environment(), own].concat();
            let (roles, service) = if number == 0 {
                (FRONT, PERMISSIONS)
            } else if plan.permissions_everywhere {
                ("edge,permissions", PERMISSIONS)
            } else {
                ("edge", "")
            };
            edges.push(Serving::new((roles, service, edge), own.clone(), log(format!("edge-{number}.log"))));
            let role = ("executor", "toolcrib.executor.v1.ExecutorService", executor);
            executors.push(Serving::new(role, own, log(format!("executor-{number}.log"))));
        }
        let admin = Client::new(edges[0].address).with_key(ADMIN, key.expose_secret());
        Self { executors, admin, edges, database, cluster, folder }
    }

    /// Waits until every edge reaches its executor.
    pub async fn wait_until_reachable(&self) {
        for edge in &self.edges {
            eventually("an edge reaches its executor", async || {
                let status = Client::new(edge.address).health("toolcrib.executor.v1.ExecutorService").await;
                (status.ok()? == tonic_health::pb::health_check_response::ServingStatus::Serving)
                    .then_some(())
            })
            .await;
        }
    }

    /// A new agent that may call these tools within these limits, through every edge.
    pub async fn agent(&self, id: &str, tools: &[&str], limits: &Grant) -> Vec<Client> {
        self.admin.create_agent(id, "", Role::Agent).await;
        for tool in tools {
            self.admin.grant(id, tool, limits.clone()).await;
        }
        let (key, _) = self.admin.issue_key(id).await;
        self.edges.iter().map(|edge| Client::new(edge.address).with_key(id, &key)).collect()
    }

    /// Kills the database, every process of it at once, as a machine that loses its power.
    pub async fn kill_database(&mut self) {
        let mut cluster = self.cluster.take().expect("a database of its own");
        for pid in processes_in(&self.folder.path().join("postgres/data")) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        cluster.ended().await;
    }

    /// Starts it again on the same data.
    pub async fn start_database(&mut self) {
        self.cluster = Some(LocalCluster::start(&options(self.folder.path())).await.unwrap());
        self.database.wait_until_up(crate::PATIENCE).await.unwrap();
        eventually("the database is known to be back", async || self.database.is_up().then_some(())).await;
    }

    /// Errors that the processes logged, without their times, each once.
    pub fn errors(&self) -> BTreeSet<String> {
        let logs: Vec<String> = self.edges.iter().chain(&self.executors).map(Serving::log).collect();
        let errors = logs.iter().flat_map(|log| log.lines()).filter_map(|line| line.split_once(" ERROR "));
        errors.map(|(_, error)| error.to_owned()).collect()
    }

    /// The first column of every row, as text.
    pub async fn texts(&self, query: &str) -> Vec<String> {
        // Queries come from the scenarios.
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_all(self.database.pool().unwrap()).await.unwrap()
    }

    /// One number.
    pub async fn number(&self, query: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(query.to_owned());
        sqlx::query_scalar(query).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }

    /// A connection of the scenario's own.
    pub async fn connection(&self) -> sqlx::PgConnection {
        self.pool().acquire().await.unwrap().detach()
    }

    /// The second place of checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.folder.path().join("checkpoints")
    }

    /// The database itself.
    pub fn pool(&self) -> &sqlx::PgPool {
        self.database.pool().unwrap()
    }
}

/// A database that no scenario else uses, and its server where that too is the scenario's own.
async fn database(plan: &Plan, folder: &Path) -> (Option<LocalCluster>, SecretString) {
    if !plan.durable {
        return (None, testkit::database_url().await);
    }
    let cluster = LocalCluster::start(&options(folder)).await.unwrap();
    cluster.create_database("toolcrib", "template0").await.unwrap();
    let url = cluster.url("toolcrib");
    (Some(cluster), url)
}

fn options(folder: &Path) -> LocalOptions {
    LocalOptions { directory: folder.join("postgres"), fsync: true }
}

/// Processes that work in this folder, as those of a PostgreSQL server do in its data folder; the oldest first, so that
/// none is left to start another.
fn processes_in(folder: &Path) -> Vec<rustix::process::Pid> {
    let folder = folder.canonicalize().unwrap();
    let numbers = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let mut found: Vec<i32> = numbers
        .filter(|pid| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == folder))
        .collect();
    found.sort_unstable();
    found.into_iter().filter_map(rustix::process::Pid::from_raw).collect()
}

fn environment(plan: &Plan, url: &SecretString, settings: &Settings, folder: &Path) -> Vec<(String, String)> {
    for name in ["workspaces", "sandbox", "checkpoints"] {
        std::fs::create_dir(folder.join(name)).unwrap();
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    write_signing_key(folder);
    write_audit_keys(folder);
    let pepper = settings.security.api_key_pepper.as_ref().unwrap();
    let redis: Vec<&str> = plan.redis.iter().map(ExposeSecret::expose_secret).collect();
    let path = |name: &str| folder.join(name).display().to_string();
    let values = [
        ("DATABASE__URL", url.expose_secret().to_owned()),
        ("DATABASE__MAX_CONNECTIONS", "12".to_owned()),
        ("REDIS__URLS", redis.join(",")),
        ("REDIS__CLUSTER", (redis.len() > 1).to_string()),
        ("REDIS__REPLICAS", plan.executors.to_string()),
        ("SECURITY__CALLER_TOKEN_KEY", secret().expose_secret().to_owned()),
        ("SECURITY__API_KEY_PEPPER", pepper.expose_secret().to_owned()),
        ("TELEMETRY__LOG", "warn".to_owned()),
        ("EDGE__REQUESTS_PER_MINUTE", "0".to_owned()),
        ("EXECUTOR__HEARTBEAT_INTERVAL_MS", "200".to_owned()),
        ("EXECUTOR__LEASE_TIMEOUT_MS", plan.lease.unwrap_or(LEASE).as_millis().to_string()),
        ("SELECTOR__SELECTION_WRITE_TIMEOUT_MS", "3000".to_owned()),
        ("EXECUTOR__QUEUE_POLL_MS", "100".to_owned()),
        ("EXECUTOR__WORKSPACE_ROOT", path("workspaces")),
        ("EXECUTOR__SANDBOX__WORK_ROOT", path("sandbox")),
        // No scenario runs programs, and each start would load a Python.
        ("EXECUTOR__SANDBOX__PYTHON", path("none")),
        ("PERMISSIONS__SWEEP_INTERVAL_S", "1".to_owned()),
        ("AUDIT__KEY_FILE", path(AUDIT_KEYS)),
        ("AUDIT__SIGNING_KEY_FILE", path(SIGNING_KEY)),
        ("AUDIT__CHECKPOINTS__PLACES", format!("dir:{}", path("checkpoints"))),
        ("AUDIT__CHECKPOINTS__COPY_INTERVAL_S", "1".to_owned()),
        ("PERMISSIONS__WEBHOOK_PRIVATE_HOSTS", "127.0.0.1".to_owned()),
    ];
    values.map(|(name, value)| (format!("TOOLCRIB__{name}"), value)).to_vec()
}

/// A port for every process, and for every role of the first one.
struct Ports {
    pairs: Vec<(SocketAddr, SocketAddr)>,
    others: Vec<(&'static str, SocketAddr)>,
    /// Of permissions beside each edge, where there is more than one.
    permissions: Vec<SocketAddr>,
}

impl Ports {
    fn environment(&self) -> Vec<(String, String)> {
        let both = |(role, address): &(&str, SocketAddr)| {
            [
                (format!("TOOLCRIB__{role}__LISTEN"), address.to_string()),
                (format!("TOOLCRIB__PEERS__{role}"), format!("http://{address}")),
            ]
        };
        self.others.iter().flat_map(both).collect()
    }
}

fn ports(plan: &Plan) -> Ports {
    let executors = plan.executors;
    let everywhere = if plan.permissions_everywhere { executors } else { 0 };
    let mut free = free_addresses(2 * executors + 4 + everywhere).into_iter();
    let mut next = || free.next().unwrap();
    Ports {
        pairs: (0..executors).map(|_| (next(), next())).collect(),
        others: ["REGISTRY", "SELECTOR", "PERMISSIONS", "AUDIT"].map(|role| (role, next())).to_vec(),
        permissions: (0..everywhere).map(|_| next()).collect(),
    }
}

/// Free ports below those that the kernel gives to clients, so that they stay free while a process is restarted.
pub(crate) fn free_addresses(count: usize) -> HashSet<SocketAddr> {
    let mut found = HashSet::new();
    while found.len() < count {
        let port = u16::try_from(20_000 + random(12_000)).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            found.insert(SocketAddr::from(([127, 0, 0, 1], port)));
        }
    }
    found
}

/// A number below this one.
pub(super) fn random(below: usize) -> usize {
    let bytes = types::new_id().into_bytes();
    usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) % below
}

fn secret() -> SecretString {
    SecretString::from(format!("{}{}", types::new_id().simple(), types::new_id().simple()))
}
