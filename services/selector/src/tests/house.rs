//! What the scenarios stand on: a selector behind the whole stack, a real PostgreSQL, a permissions
//! service that says what a test tells it, and tools.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::rpc::{Call, Link, Outgoing, PageKey, StackOptions, TokenKey};
use ::store::Database;
use catalog::Catalog;
use proto::{
    permissions::v1::{
        BatchAuthorizeRequest, BatchAuthorizeResponse, ToolDecision,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    registry::v1::{ServerState, Tool, ToolDefinition, ToolStatus},
    selector::v1::{
        Outcome, RecordOutcomesRequest, SelectToolsRequest, SelectToolsResponse,
        selector_service_client::SelectorServiceClient,
    },
    types::v1 as wire,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, service::Routes};
use types::{Caller, Role};

use crate::{Config, Parts};

/// What the permissions service was asked, and what it shall refuse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake {
    /// Reason by name of tool.
    pub refused: Arc<Mutex<HashMap<String, String>>>,
    /// Who asked, for how many tools.
    pub asked: Arc<Mutex<Vec<(Caller, usize)>>>,
}

#[tonic::async_trait]
impl PermissionsService for Fake {
    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let caller = Call::of(&request).map_err(|status| *status)?.caller;
        let tools = request.into_inner().tools;
        self.asked.lock().unwrap().push((caller, tools.len()));
        let refused = self.refused.lock().unwrap();
        let decisions = tools.iter().map(|tool| match refused.get(&tool.tool_name) {
            Some(reason) => ToolDecision { allowed: false, reason: reason.clone() },
            None => ToolDecision { allowed: true, reason: String::new() },
        });
        Ok(Response::new(BatchAuthorizeResponse { decisions: decisions.collect() }))
    }
}

/// A running selector.
pub(crate) struct House {
    pub database: Database,
    pub catalog: Catalog,
    pub fake: Fake,
    link: Link,
    key: TokenKey,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::on(testkit::database(&[crate::schema()]).await).await
    }

    /// One more replica on a database.
    pub(crate) async fn on(database: Database) -> Self {
        Self::configured(database, config()).await
    }

    /// One with other settings.
    pub(crate) async fn configured(database: Database, config: Config) -> Self {
        let key = TokenKey::new(&"a caller token key of enough bytes".into());
        let fake = Fake::default();
        let options = StackOptions { key: key.clone(), max_concurrent_requests: 64 };
        let routes = Routes::new(PermissionsServiceServer::new(fake.clone()));
        let permissions = ::rpc::stack(routes, options);
        Self::with(database, fake, permissions, key, config).await
    }

    /// One whose permissions are somewhere else.
    pub(crate) async fn with(
        database: Database,
        fake: Fake,
        permissions: Link,
        key: TokenKey,
        config: Config,
    ) -> Self {
        // The scenarios fill the catalog themselves.
        Self::of(database, (fake, permissions, key), config, Catalog::unfed()).await
    }

    /// One whose tools come from this catalog.
    pub(crate) async fn of(
        database: Database,
        (fake, permissions, key): (Fake, Link, TokenKey),
        config: Config,
        catalog: Catalog,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let outgoing = Outgoing::new("selector", key.clone());
        let parts = Parts {
            database: database.clone(),
            catalog: catalog.clone(),
            permissions,
            outgoing,
            authorities: reach::Authorities::default(),
            pages: PageKey::new(&"a page key of enough bytes for this".into()),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let routes = crate::start(&config, parts).await.unwrap();
        let options = StackOptions { key: key.clone(), max_concurrent_requests: 64 };
        let link = ::rpc::stack(routes, options);
        Self { database, catalog, fake, link, key, stop, tasks }
    }

    pub(crate) async fn select(&self, request: SelectToolsRequest) -> Result<SelectToolsResponse, Status> {
        self.select_as("team", "scout", request).await
    }

    pub(crate) async fn select_as(
        &self,
        team: &str,
        agent: &str,
        request: SelectToolsRequest,
    ) -> Result<SelectToolsResponse, Status> {
        let request = self.by(team, agent, Role::Agent, request);
        self.client().select_tools(request).await.map(Response::into_inner)
    }

    /// What an agent asks on behalf of an end user.
    pub(crate) async fn select_for(
        &self,
        user: &str,
        request: SelectToolsRequest,
    ) -> Result<SelectToolsResponse, Status> {
        let caller = Caller {
            team: "team".into(),
            agent: "scout".into(),
            user: user.into(),
            role: Role::Agent,
            service: None,
            ..Caller::service("")
        };
        self.client().select_tools(self.with_token(&caller, request)).await.map(Response::into_inner)
    }

    /// A request of a service of the suite in its own name.
    pub(crate) fn by_service<T>(&self, service: &'static str, message: T) -> Request<T> {
        Outgoing::new(service, self.key.clone()).own_request(Duration::from_secs(10), message)
    }

    pub(crate) async fn record(&self, outcomes: Vec<Outcome>) -> Result<i32, Status> {
        let outgoing = Outgoing::new("executor", self.key.clone());
        let request = outgoing.own_request(Duration::from_secs(10), RecordOutcomesRequest { outcomes });
        let mut client = SelectorServiceClient::new(self.link.clone());
        client.record_outcomes(request).await.map(|response| response.into_inner().recorded)
    }

    pub(crate) fn client(&self) -> SelectorServiceClient<Link> {
        SelectorServiceClient::new(self.link.clone())
    }

    /// A request of an operator of a team.
    pub(crate) fn by_operator<T>(&self, team: &str, message: T) -> Request<T> {
        self.by(team, "boss", Role::Operator, message)
    }

    /// A request of an agent of a team.
    pub(crate) fn by<T>(&self, team: &str, agent: &str, role: Role, message: T) -> Request<T> {
        let caller =
            Caller { team: team.into(), agent: agent.into(), role, service: None, ..Caller::service("") };
        self.with_token(&caller, message)
    }

    fn with_token<T>(&self, caller: &Caller, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let token = self.key.mint(caller).unwrap();
        request.metadata_mut().insert(::rpc::CALLER_HEADER, token.parse().unwrap());
        request
    }

    /// Stops the background tasks and waits for them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    pub(crate) fn add(&self, definition: ToolDefinition) {
        self.add_to("team", ToolStatus::Active, definition);
    }

    pub(crate) fn add_to(&self, team: &str, status: ToolStatus, definition: ToolDefinition) {
        self.catalog.upsert(Tool {
            id: types::new_id().to_string(),
            team_id: team.into(),
            status: status.into(),
            definition: Some(definition),
            ..Tool::default()
        });
    }

    /// A tool that discovery of a server keeps.
    pub(crate) fn add_of_server(&self, server: &str, state: ServerState, definition: ToolDefinition) {
        self.catalog.upsert(Tool {
            id: types::new_id().to_string(),
            team_id: "team".into(),
            status: ToolStatus::Active.into(),
            definition: Some(definition),
            server: server.into(),
            server_state: state.into(),
            ..Tool::default()
        });
    }

    pub(crate) fn refuse(&self, tool: &str, reason: &str) {
        self.fake.refused.lock().unwrap().insert(tool.into(), reason.into());
    }
}

/// Waits until something holds; fails after a while.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), wait).await.expect("it never held");
}

pub(crate) fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        match_weight: 0.6,
        suitability_weight: 0.4,
        capability_weight: 0.5,
        semantic_weight: 0.5,
        mode: crate::Mode::Lexical,
        model_folder: String::new(),
        threads: 2,
        min_semantic_score: 0.05,
        selection_write_timeout_ms: 10_000,
        model: crate::model::Config::off(),
    }
}

pub(crate) fn tool(name: &str, description: &str, capabilities: &[&str]) -> ToolDefinition {
    ToolDefinition {
        name: name.into(),
        description: description.into(),
        capabilities: capabilities.iter().map(|&word| word.into()).collect(),
        ..ToolDefinition::default()
    }
}

pub(crate) fn task(words: &str) -> SelectToolsRequest {
    SelectToolsRequest { task: words.into(), ..SelectToolsRequest::default() }
}

pub(crate) fn outcome(agent: &str, tool: &str, succeeded: bool, duration_ms: f64) -> Outcome {
    Outcome {
        event_id: types::new_id().to_string(),
        team_id: "team".into(),
        agent_id: agent.into(),
        tool_name: tool.into(),
        execution_id: types::new_id().to_string(),
        succeeded,
        duration_ms,
        cost_micro_usd: 100,
        time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        ..Outcome::default()
    }
}

/// A tool that the registry seeds.
pub(crate) fn seed(name: &str) -> ToolDefinition {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../registry/seed/{name}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let seed: serde_json::Value = serde_json::from_str(&text).unwrap();
    let text = |key: &str| seed[key].as_str().unwrap_or_default().to_owned();
    let words = seed["capabilities"].as_array().unwrap().iter();
    ToolDefinition {
        name: text("name"),
        title: text("title"),
        description: text("description"),
        category: wire::Category::from(text("category").parse::<types::Category>().unwrap()).into(),
        capabilities: words.map(|word| word.as_str().unwrap().to_owned()).collect(),
        input_schema_json: seed["input_schema"].to_string(),
        cost_micro_usd: seed["cost_micro_usd"].as_i64().unwrap_or_default(),
        ..ToolDefinition::default()
    }
}
