//! The selector as it is, in this process: behind the stack that stands around every service, on a real PostgreSQL, with
//! a permissions service that allows everything but what an agent's name says.

use std::{
    collections::HashSet,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use catalog::Catalog;
use node::config::Settings;
use proto::{
    permissions::v1::{
        BatchAuthorizeRequest, BatchAuthorizeResponse, ToolDecision,
        permissions_service_server::{PermissionsService, PermissionsServiceServer},
    },
    registry::v1::{Tool, ToolDefinition, ToolStatus},
    selector::v1::{
        GetSelectorHealthRequest, GetSelectorHealthResponse, Outcome, RecordOutcomesRequest,
        SelectToolsRequest, SelectToolsResponse, selector_service_client::SelectorServiceClient,
    },
};
use rpc::{CALLER_HEADER, Call, Link, Outgoing, PageKey, StackOptions, TokenKey};
use store::Database;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, service::Routes};
use types::{Caller, Role};

use crate::eventually;

/// Alternatives that are asked for: with the primary tool, the first ten.
const ALTERNATIVES: i32 = 9;
/// An agent whose name begins so may not call the tools that the rest of its name lists, with commas between.
const WITHOUT: &str = "without:";
/// Outcomes handed over at once.
const OUTCOMES: usize = 500;
/// How long a request may take, on a machine that does much else.
const DEADLINE: Duration = Duration::from_mins(1);

/// A running selector.
pub struct Stand {
    /// Where it keeps what it learns.
    pub database: Database,
    catalog: Catalog,
    permissions: Permissions,
    client: SelectorServiceClient<Link>,
    key: TokenKey,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What one task came to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As the service gave it.
    pub response: SelectToolsResponse,
    /// Names of the tools offered, best first; empty when no tool was suitable.
    pub ranked: Vec<String>,
}

impl Answer {
    /// The semantic score of the best fit, offered or not; 0 without any.
    pub fn best_score(&self) -> f64 {
        let unfit = self.response.nearest_misses.iter().filter(|miss| miss.reason == "fit");
        let unfit = unfit.map(|miss| miss.semantic_score);
        self.response.primary.iter().map(|tool| tool.semantic_score).chain(unfit).fold(0.0, f64::max)
    }
}

impl Stand {
    /// Starts a selector with the settings that toolcrib comes with, in this mode.
    pub async fn start(database: &Database, mode: &str) -> Self {
        let key = TokenKey::new(&"a caller token key of enough bytes".into());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let options = StackOptions { key: key.clone(), max_concurrent_requests: 64 };
        let permissions = Permissions::default();
        let routes = Routes::new(PermissionsServiceServer::new(permissions.clone()));
        let link = rpc::stack(routes, options.clone());
        let outgoing = Outgoing::new("selector", key.clone());
        // Nothing feeds it but `add`.
        let catalog = Catalog::unfed();
        let parts = selector::Parts {
            database: database.clone(),
            catalog: catalog.clone(),
            permissions: link,
            outgoing,
            authorities: reach::Authorities::default(),
            pages: PageKey::new(&"a page key of enough bytes for this".into()),
            stop: stop.clone(),
            tasks: tasks.clone(),
        };
        let routes = selector::start(&settings(mode).selector, parts).await.expect("the selector starts");
        let client = SelectorServiceClient::new(rpc::stack(routes, options));
        Self { database: database.clone(), catalog, permissions, client, key, stop, tasks }
    }

    /// Gives a team these tools.
    pub fn add(&self, team: &str, tools: &[ToolDefinition]) {
        for definition in tools {
            self.catalog.upsert(Tool {
                id: types::new_id().to_string(),
                team_id: team.to_owned(),
                status: ToolStatus::Active.into(),
                definition: Some(definition.clone()),
                ..Tool::default()
            });
        }
    }

    /// Waits until every tool of the team can be found by all that the mode has.
    pub async fn ready(&self, team: &str, tools: usize) -> GetSelectorHealthResponse {
        loop {
            let health = self.health(team).await;
            let all = usize::try_from(health.tools).is_ok_and(|there| there == tools);
            if all && health.vectors_pending == 0 {
                return health;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How it is, as the team's operator sees it.
    pub async fn health(&self, team: &str) -> GetSelectorHealthResponse {
        let request = self.request(team, "operator", Role::Operator, GetSelectorHealthRequest {});
        self.client.clone().get_selector_health(request).await.expect("health").into_inner()
    }

    /// Asks for the tool for a task.
    pub async fn select(&self, team: &str, agent: &str, task: &str) -> Answer {
        let request = SelectToolsRequest {
            task: task.to_owned(),
            alternatives: Some(ALTERNATIVES),
            ..SelectToolsRequest::default()
        };
        let request = self.request(team, agent, Role::Agent, request);
        let response = self.client.clone().select_tools(request).await.expect("a selection").into_inner();
        let tools = response.primary.iter().chain(&response.alternatives);
        Answer { ranked: tools.map(|tool| tool.name.clone()).collect(), response }
    }

    /// The name of an agent that may call everything but these.
    pub fn agent_without<'a>(tools: impl IntoIterator<Item = &'a String>) -> String {
        let tools: Vec<_> = tools.into_iter().map(String::as_str).collect();
        format!("{WITHOUT}{}", tools.join(","))
    }

    /// Waits until so many selections of the team are written down.
    pub async fn written(&self, team: &str, selections: i64) {
        eventually("the selections are written", async || {
            let pool = self.database.pool().expect("the database is up");
            let count = sqlx::query_scalar("SELECT count(*) FROM selector.selection WHERE team_id = $1");
            let there: i64 = count.bind(team).fetch_one(pool).await.expect("a count");
            (there >= selections).then_some(())
        })
        .await;
    }

    /// Hands outcomes over as the executor does.
    pub async fn record(&self, outcomes: &[Outcome]) {
        let outgoing = Outgoing::new("executor", self.key.clone());
        for outcomes in outcomes.chunks(OUTCOMES) {
            let request = RecordOutcomesRequest { outcomes: outcomes.to_vec() };
            let request = outgoing.own_request(DEADLINE, request);
            self.client.clone().record_outcomes(request).await.expect("outcomes are recorded");
        }
    }

    /// Time spent so far in the permissions service that stands in for the real one.
    pub fn permissions_time(&self) -> Duration {
        Duration::from_nanos(self.permissions.0.load(Ordering::Relaxed))
    }

    /// Stops it and waits for what it does in the background.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn request<T>(&self, team: &str, agent: &str, role: Role, message: T) -> Request<T> {
        let caller =
            Caller { team: team.into(), agent: agent.into(), role, service: None, ..Caller::service("") };
        let mut request = Request::new(message);
        let token = self.key.mint(&caller).expect("a token");
        request.metadata_mut().insert(CALLER_HEADER, token.parse().expect("a header"));
        request.set_timeout(DEADLINE);
        request
    }
}

/// The settings that toolcrib comes with, in this mode of the selector.
fn settings(mode: &str) -> Settings {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    writeln!(file, "[selector]\nmode = \"{mode}\"").expect("a line");
    Settings::load(Some(&file.path().to_owned())).expect("the settings are well-formed")
}

/// The permissions service's stand-in, and the nanoseconds it took.
#[derive(Debug, Clone, Default)]
struct Permissions(Arc<AtomicU64>);

#[tonic::async_trait]
impl PermissionsService for Permissions {
    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let begun = Instant::now();
        let agent = Call::of(&request).map_err(|status| *status)?.caller.agent.clone();
        let refused: HashSet<&str> =
            agent.strip_prefix(WITHOUT).into_iter().flat_map(|tools| tools.split(',')).collect();
        let decision = |name: &str| {
            if refused.contains(name) {
                ToolDecision { allowed: false, reason: "NO_GRANT".to_owned() }
            } else {
                ToolDecision { allowed: true, reason: String::new() }
            }
        };
        let decisions = request.get_ref().tools.iter().map(|tool| decision(&tool.tool_name)).collect();
        let nanos = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
        Ok(Response::new(BatchAuthorizeResponse { decisions }))
    }
}
