//! What the tests stand on: an executor behind the whole stack, its database, and its fakes.

use std::{fs::Permissions, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use ::rpc::{ErrorReason, Link, Outgoing, PageKey, StackOptions, TokenKey, reason_of};
use ::store::{Database, LocalCluster, LocalOptions};
use cache::{Cache, Limits};
use catalog::Catalog;
use limit::Limiter;
use proto::{
    executor::v1::{
        ExecuteRequest, ExecuteResponse, Execution, ExecutionStatus, execute_request::Input,
        executor_service_client::ExecutorServiceClient,
    },
    registry::v1::{
        Binding, BuiltinBinding, HttpBinding, RetryPolicy, Tool, ToolDefinition, ToolSettings, ToolStatus,
        binding::Kind as BindingKind,
    },
    types::v1::Effect,
};
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Code, Status};
use types::Caller;

use super::fakes::Fakes;
use crate::{
    CacheConfig, Config, HttpConfig, Parts, SandboxConfig, SealKey, WebSearchConfig, config::CacheVariant,
};

/// Long enough for anything that happens at all, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A process is silent for so long on a busy machine, and no test may take that for its death.
pub(crate) const LEASE: Duration = Duration::from_millis(2_500);
pub(crate) const TEAM: &str = "team";

/// A running executor; several on one database are replicas.
pub(crate) struct House {
    pub database: Database,
    pub fakes: Fakes,
    pub client: ExecutorServiceClient<Link>,
    pub catalog: Catalog,
    outgoing: Outgoing,
    stop: CancellationToken,
    tasks: TaskTracker,
}

pub(crate) fn config(workspace: &Path) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        workspace_root: workspace.to_owned(),
        max_result_bytes: 64 * 1024,
        heartbeat_interval_ms: 100,
        lease_timeout_ms: u64::try_from(LEASE.as_millis()).unwrap(),
        audit_backlog_max_age_s: 300,
        max_artifact_bytes: 1 << 20,
        execution_timeout_s: 60,
        worker_pool: 10,
        parallel_limit: 5,
        queue_poll_ms: 50,
        max_concurrent_per_tool: 64,
        max_wait_ms: 10_000,
        metrics_refresh_s: 300,
        watch_heartbeat_s: 1,
        watch_timeout_s: 600,
        max_watches: 100,
        max_watches_per_team: 50,
        cache: CacheConfig { variant: CacheVariant::Memory, max_bytes: 1 << 24, max_entry_bytes: 1 << 20 },
        sandbox: SandboxConfig {
            python: "/nowhere/python".into(),
            work_root: workspace.to_owned(),
            memory_bytes: 1 << 28,
            max_concurrent: 1,
        },
        http: HttpConfig { allow_private_network: true, max_response_bytes: 1 << 20 },
        web_search: WebSearchConfig {
            brave_api_key: None,
            brave_url: "http://127.0.0.1:1/".into(),
            google_api_key: None,
            google_engine_id: None,
            google_url: "http://127.0.0.1:1/".into(),
        },
        github: crate::config::GithubConfig { url: "http://127.0.0.1:1/".into(), token: None },
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(&testkit::database(&[crate::schema()]).await, Fakes::default(), change)
    }

    /// On a database, with these fakes. Must be called inside a runtime.
    pub(crate) fn on(database: &Database, fakes: Fakes, change: impl FnOnce(&mut Config)) -> Self {
        let limits = Limits { max_bytes: 1 << 24, max_entry_bytes: 1 << 20 };
        Self::with_cache(database, fakes, Cache::memory(limits), change)
    }

    /// With settings of redaction.
    pub(crate) async fn keeping_to(redaction: &redact::Config) -> Self {
        assert_eq!(redaction.validate(), [""; 0]);
        let database = testkit::database(&[crate::schema()]).await;
        let cache = Cache::memory(Limits { max_bytes: 1 << 24, max_entry_bytes: 1 << 20 });
        let redaction = redact::Redaction::new(redaction);
        Self::made(&database, Fakes::default(), (cache, redaction), |_| {})
    }

    /// With a cache of the test's own.
    pub(crate) fn with_cache(
        database: &Database,
        fakes: Fakes,
        cache: Cache,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::made(database, fakes, (cache, redact::Redaction::default()), change)
    }

    fn made(
        database: &Database,
        fakes: Fakes,
        (cache, redaction): (Cache, redact::Redaction),
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let secret = SecretString::from("s".repeat(32));
        let key = TokenKey::new(&secret);
        let mut config = config(Path::new("/nowhere"));
        change(&mut config);
        let links = fakes.links(&key);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let outgoing = Outgoing::new("executor", key.clone());
        // The tests fill the catalog themselves: its feed is never run.
        let (catalog, _) =
            Catalog::new(links["registry"].clone(), outgoing.clone(), Duration::from_hours(1), stop.clone());
        let parts = Parts {
            database: database.clone(),
            pages: PageKey::new(&secret),
            catalog: catalog.clone(),
            registry: links["registry"].clone(),
            permissions: links["permissions"].clone(),
            audit: links["audit"].clone(),
            selector: links["selector"].clone(),
            outgoing: outgoing.clone(),
            commands: mcp::Commands::any(),
            authorities: reach::Authorities::default(),
            limiter: Limiter::memory(),
            cache,
            redaction: std::sync::Arc::new(redaction),
            seal: SealKey::new([7; 32]),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let routes = crate::start(&config, parts).unwrap();
        let link = ::rpc::stack(routes, StackOptions { key, max_concurrent_requests: 4_096 });
        let client = ExecutorServiceClient::new(link);
        Self { database: database.clone(), fakes, client, catalog, outgoing, stop, tasks }
    }

    /// The stop of a process: no new calls, runs end, events are told.
    pub(crate) fn begin_stop(&self) -> impl Future<Output = ()> + use<> {
        self.stop.cancel();
        self.tasks.close();
        let tasks = self.tasks.clone();
        async move { tokio::time::timeout(PATIENCE, tasks.wait()).await.expect("tasks end in time") }
    }

    /// Puts a tool that is tried once into the catalog.
    pub(crate) fn add(&self, definition: ToolDefinition) {
        self.add_with(definition, ToolSettings { retry: Some(retries(0)), ..ToolSettings::default() });
    }

    /// Puts a tool with these settings into the catalog.
    pub(crate) fn add_with(&self, definition: ToolDefinition, settings: ToolSettings) {
        self.catalog.upsert(Tool {
            id: types::new_id().to_string(),
            digest: "d".repeat(64),
            status: ToolStatus::Active.into(),
            revision: 1,
            team_id: TEAM.into(),
            definition: Some(definition),
            settings: Some(settings),
            ..Tool::default()
        });
    }

    /// A message as the agent sends it.
    pub(crate) fn as_agent<T>(&self, message: T) -> tonic::Request<T> {
        self.outgoing.request(&agent("agent"), PATIENCE, message)
    }

    pub(crate) async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        self.execute_as(&agent("agent"), PATIENCE * 2, request).await
    }

    pub(crate) async fn execute_as(
        &self,
        caller: &Caller,
        time: Duration,
        request: ExecuteRequest,
    ) -> Result<ExecuteResponse, Status> {
        let request = self.outgoing.request(caller, time, request);
        self.client.clone().execute(request).await.map(tonic::Response::into_inner)
    }

    /// The same in a task of its own.
    pub(crate) fn spawn(
        &self,
        time: Duration,
        request: ExecuteRequest,
    ) -> tokio::task::JoinHandle<Result<ExecuteResponse, Status>> {
        let request = self.outgoing.request(&agent("agent"), time, request);
        let mut client = self.client.clone();
        tokio::spawn(async move { client.execute(request).await.map(tonic::Response::into_inner) })
    }

    /// A request of a caller for any method.
    pub(crate) fn asking<T>(&self, caller: &Caller, message: T) -> tonic::Request<T> {
        self.outgoing.request(caller, PATIENCE * 2, message)
    }

    /// One number that the database says.
    pub(crate) async fn number(&self, query: &'static str) -> i64 {
        sqlx::query_scalar(query).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }

    /// One column of texts that the database says.
    pub(crate) async fn texts(&self, query: &'static str) -> Vec<String> {
        sqlx::query_scalar(query).fetch_all(self.database.pool().unwrap()).await.unwrap()
    }

    pub(crate) async fn run(&self, statement: &'static str) {
        sqlx::query(statement).execute(self.database.pool().unwrap()).await.unwrap();
    }

    pub(crate) async fn statuses(&self) -> Vec<String> {
        self.texts("SELECT status FROM executor.execution ORDER BY id").await
    }

    /// Waits until every execution has ended in this way.
    pub(crate) async fn until_all(&self, status: &str) {
        until(async || self.statuses().await.iter().all(|found| found == status)).await;
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A `PostgreSQL` that a test may stop and start again.
pub(crate) struct Outage {
    options: LocalOptions,
    cluster: Option<LocalCluster>,
    _directory: tempfile::TempDir,
}

impl Outage {
    pub(crate) async fn new() -> (Self, Database) {
        let directory =
            tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().unwrap();
        let options = LocalOptions { directory: directory.path().join("postgres"), fsync: false };
        let cluster = LocalCluster::start(&options).await.unwrap();
        cluster.create_database("own", "template0").await.unwrap();
        let database = Database::new(&cluster.url("own"), 8).unwrap();
        crate::schema().migrate(database.pool().unwrap()).await.unwrap();
        (Self { options, cluster: Some(cluster), _directory: directory }, database)
    }

    pub(crate) async fn begin(&mut self) {
        self.cluster.take().expect("it runs").stop().await;
    }

    pub(crate) async fn end(&mut self, database: &Database) {
        self.cluster = Some(LocalCluster::start(&self.options).await.unwrap());
        until(async || database.is_up()).await;
    }
}

/// Waits until something holds; fails when it does not in time.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect("it holds in time");
}

pub(crate) fn agent(name: &str) -> Caller {
    Caller { team: TEAM.into(), agent: name.into(), service: None, ..Caller::service("") }
}

/// A policy of so many retries, a few milliseconds apart.
pub(crate) fn retries(max_retries: i32) -> RetryPolicy {
    RetryPolicy {
        max_retries: Some(max_retries),
        initial_backoff_ms: 5,
        max_backoff_ms: 20,
        ..RetryPolicy::default()
    }
}

/// A tool that posts its arguments to an address.
pub(crate) fn posting(name: &str, url: &str) -> ToolDefinition {
    let http = HttpBinding {
        method: "POST".into(),
        url: url.into(),
        body_json: true,
        allow_private_network: true,
        ..HttpBinding::default()
    };
    bound(name, BindingKind::Http(http))
}

pub(crate) fn builtin(name: &str) -> ToolDefinition {
    bound(name, BindingKind::Builtin(BuiltinBinding { name: name.into() }))
}

pub(crate) fn bound(name: &str, kind: BindingKind) -> ToolDefinition {
    ToolDefinition {
        name: name.into(),
        version: "1.0.0".into(),
        description: "A tool.".into(),
        effect: Effect::SideEffect.into(),
        input_schema_json: r#"{"type":"object"}"#.into(),
        binding: Some(Binding { kind: Some(kind) }),
        timeout_ms: 30_000,
        cost_micro_usd: 7,
        ..ToolDefinition::default()
    }
}

pub(crate) fn request(tool: &str, arguments_json: &str) -> ExecuteRequest {
    ExecuteRequest {
        tool: tool.into(),
        input: Some(Input::ArgumentsJson(arguments_json.into())),
        ..ExecuteRequest::default()
    }
}

pub(crate) fn execution(answer: Result<ExecuteResponse, Status>) -> Execution {
    answer.unwrap().execution.unwrap()
}

/// Fails unless the execution ended like this; gives its error's code and message.
pub(crate) fn ended(answer: Result<ExecuteResponse, Status>, status: ExecutionStatus) -> (String, String) {
    let execution = execution(answer);
    assert_eq!(execution.status(), status, "{execution:?}");
    execution.error.map_or_else(Default::default, |error| {
        (error.code().as_str_name().replace("TOOL_ERROR_CODE_", ""), error.message)
    })
}

/// Fails unless the call was refused like this.
pub(crate) fn refused(answer: Result<ExecuteResponse, Status>, code: Code, reason: ErrorReason) -> Status {
    let status = answer.unwrap_err();
    assert_eq!((status.code(), reason_of(&status)), (code, Some(reason)), "{status:?}");
    status
}
