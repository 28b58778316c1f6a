//! A client of the edge: the generated stubs and an API key, as any program outside has them.

use proto::{
    audit::v1::audit_service_client::AuditServiceClient,
    executor::v1::{
        CancelExecutionRequest, ExecuteRequest, ExecuteResponse, Execution, ExecutionStatus,
        GetExecutionRequest, ListExecutionsRequest, StartExecutionRequest, StartExecutionResponse,
        WatchExecutionRequest, WatchExecutionResponse, execute_request::Input,
        executor_service_client::ExecutorServiceClient,
    },
    permissions::v1::permissions_service_client::PermissionsServiceClient,
    registry::v1::registry_service_client::RegistryServiceClient,
    selector::v1::selector_service_client::SelectorServiceClient,
};
use serde_json::Value;
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::eventually;

/// Largest answer that is read: pages and results may be larger than requests.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A channel that adds headers to every request.
pub type Service = InterceptedService<Channel, Headers>;

/// Headers of every request.
#[derive(Debug, Clone, Default)]
pub struct Headers(Vec<(&'static str, MetadataValue<Ascii>)>);

impl Interceptor for Headers {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        for (name, value) in &self.0 {
            request.metadata_mut().insert(*name, value.clone());
        }
        Ok(request)
    }
}

/// One caller.
#[derive(Debug, Clone)]
pub struct Client {
    /// Name of the agent; empty for a client without a key.
    pub agent: String,
    /// Its API key; empty for a client without one.
    pub key: String,
    channel: Channel,
    headers: Headers,
}

macro_rules! stubs {
    ($($(#[$doc:meta])* $name:ident: $stub:ident),+ $(,)?) => {
        $($(#[$doc])*
        pub fn $name(&self) -> $stub<Service> {
            let service = Service::new(self.channel.clone(), self.headers.clone());
            $stub::new(service).max_decoding_message_size(MAX_ANSWER_BYTES)
        })+
    };
}

impl Client {
    /// A client without a key, for `http://ADDRESS`. Connects when first used.
    pub fn new(address: std::net::SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self::over(endpoint.connect_lazy())
    }

    /// The same over connections that the test makes.
    pub fn over(channel: Channel) -> Self {
        Self { agent: String::new(), key: String::new(), channel, headers: Headers::default() }
    }

    /// The same, with this key of this agent.
    #[must_use]
    pub fn with_key(&self, agent: &str, key: &str) -> Self {
        let client = self.with_header("authorization", &format!("Bearer {key}"));
        Self { agent: agent.to_owned(), key: key.to_owned(), ..client }
    }

    /// The same, with one more header on every request.
    #[must_use]
    pub fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.0.push((name, value.parse().unwrap()));
        client
    }

    stubs! {
        /// The catalog.
        registry: RegistryServiceClient,
        /// The ranking.
        selector: SelectorServiceClient,
        /// The calls.
        executor: ExecutorServiceClient,
        /// The decisions.
        permissions: PermissionsServiceClient,
        /// The trail.
        audit: AuditServiceClient,
    }

    /// The channel with the headers, for stubs that are not ours.
    pub fn service(&self) -> Service {
        Service::new(self.channel.clone(), self.headers.clone())
    }

    /// Runs a tool.
    pub async fn execute(&self, request: ExecuteRequest) -> Result<ExecuteResponse, Status> {
        self.executor().execute(request).await.map(tonic::Response::into_inner)
    }

    /// Runs a tool and gives the ended execution.
    pub async fn try_call(&self, tool: &str, arguments: Value) -> Result<Execution, Status> {
        self.execute(request(tool, arguments)).await.map(|answer| answer.execution.unwrap())
    }

    /// Runs a tool that may be run.
    pub async fn call(&self, tool: &str, arguments: Value) -> Execution {
        self.try_call(tool, arguments).await.unwrap()
    }

    /// Reads one execution.
    pub async fn execution(&self, id: &str) -> Execution {
        let request = GetExecutionRequest { id: id.to_owned() };
        self.executor().get_execution(request).await.unwrap().into_inner().execution.unwrap()
    }

    /// Hands in a call that runs later.
    pub async fn start(&self, request: StartExecutionRequest) -> Result<StartExecutionResponse, Status> {
        self.executor().start_execution(request).await.map(tonic::Response::into_inner)
    }

    /// Hands in a call that is accepted, and gives the execution.
    pub async fn accepted(&self, request: StartExecutionRequest) -> Execution {
        self.start(request).await.unwrap().execution.unwrap()
    }

    /// Cancels an execution.
    pub async fn cancel(&self, id: &str) -> Result<Execution, Status> {
        let request = CancelExecutionRequest { id: id.to_owned() };
        self.executor().cancel_execution(request).await.map(|answer| answer.into_inner().execution.unwrap())
    }

    /// What happens to an execution after this sequence number.
    pub async fn watch(
        &self,
        id: &str,
        after_sequence: i64,
    ) -> Result<Streaming<WatchExecutionResponse>, Status> {
        let request = WatchExecutionRequest { id: id.to_owned(), after_sequence };
        self.executor().watch_execution(request).await.map(tonic::Response::into_inner)
    }

    /// An execution once it has ended.
    pub async fn ended(&self, id: &str) -> Execution {
        eventually("the execution ends", async || {
            let execution = self.execution(id).await;
            let open =
                [ExecutionStatus::WaitingForApproval, ExecutionStatus::Queued, ExecutionStatus::Running];
            let goes_on = open.contains(&execution.status());
            (!goes_on).then_some(execution)
        })
        .await
    }

    /// The first page of executions, newest first.
    pub async fn executions(&self, filter: ListExecutionsRequest) -> Vec<Execution> {
        self.executor().list_executions(filter).await.unwrap().into_inner().executions
    }

    /// What health says of a service.
    pub async fn health(&self, service: &str) -> Result<ServingStatus, Status> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(self.channel.clone()).check(request).await?;
        Ok(answer.into_inner().status())
    }
}

/// A request for one run.
#[allow(clippy::needless_pass_by_value, reason = "arguments are written where they are used")]
pub fn request(tool: &str, arguments: Value) -> ExecuteRequest {
    let input = Some(Input::ArgumentsJson(arguments.to_string()));
    ExecuteRequest { tool: tool.to_owned(), input, ..ExecuteRequest::default() }
}
