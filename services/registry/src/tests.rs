//! The registry against a real `PostgreSQL` and real MCP servers, through its contract.

/// A request of an operator of a team. `RegistryServiceClient` takes it as it is.
macro_rules! request {
    ($registry:expr, $team:expr, $message:expr) => {{
        let caller = crate::tests::operator($team);
        $registry.outgoing.request(&caller, std::time::Duration::from_mins(1), $message)
    }};
}
mod credentials;
mod find;
mod fleet;
mod imports;
mod reviews;
mod seeds;
mod servers;
mod settings;
mod tools;
mod trail;
mod watches;

use std::time::Duration;

use ::rpc::{Link, Outgoing, PageKey, StackOptions, TokenKey};
use ::store::Database;
use proto::{
    registry::v1::{
        Binding, BuiltinBinding, GetToolRequest, RegisterToolRequest, Tool, ToolDefinition, binding::Kind,
        get_tool_request::Key, registry_service_client::RegistryServiceClient,
    },
    types::v1::Category,
};
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{Caller, Role};

use crate::{Config, Parts, config::TrustPolicy};

type Client = RegistryServiceClient<Link>;

/// One running registry; several over one database are replicas.
struct Registry {
    client: Client,
    outgoing: Outgoing,
    stop: CancellationToken,
    tasks: TaskTracker,
}

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        discovery_interval_s: 300,
        server_timeout_s: 20,
        discovery_retries: 1,
        health_check_interval_s: 60,
        health_threshold: 0.8,
        trust_policy: TrustPolicy::ApproveChanges,
        watch_heartbeat_s: 1,
        max_watches: 50,
        max_watches_per_team: 20,
        credentials: crate::CredentialConfig::default(),
    }
}

async fn database() -> Database {
    testkit::database(&[crate::schema()]).await
}

/// Must be called inside a runtime.
fn registry(config: &Config, database: &Database) -> Registry {
    registry_allowing(mcp::Commands::any(), config, database)
}

/// One that may run these programs only.
fn registry_allowing(commands: mcp::Commands, config: &Config, database: &Database) -> Registry {
    registry_with(tonic::service::Routes::default(), commands, config, database)
}

/// One that asks this permissions service.
fn registry_with(
    permissions: tonic::service::Routes,
    commands: mcp::Commands,
    config: &Config,
    database: &Database,
) -> Registry {
    // An audit service that is always about to start: what it would be told waits.
    registry_telling(::rpc::later("audit").1, permissions, commands, config, database)
}

/// One that tells this audit service.
fn registry_telling(
    audit: Link,
    permissions: tonic::service::Routes,
    commands: mcp::Commands,
    config: &Config,
    database: &Database,
) -> Registry {
    let secret = SecretString::from("s".repeat(32));
    let key = TokenKey::new(&secret);
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let options = StackOptions { key: key.clone(), max_concurrent_requests: 64 };
    let parts = Parts {
        database: database.clone(),
        pages: PageKey::new(&secret),
        permissions: ::rpc::stack(permissions, options.clone()),
        audit,
        outgoing: Outgoing::new("registry", key.clone()),
        commands,
        authorities: reach::Authorities::default(),
        stop: stop.clone(),
        tasks: tasks.clone(),
    };
    let link = ::rpc::stack(crate::start(config, parts), options);
    let client = RegistryServiceClient::new(link).max_decoding_message_size(usize::MAX);
    Registry { client, outgoing: Outgoing::new("tests", key), stop, tasks }
}

impl Registry {
    /// Ends its tasks, and with them the servers it started.
    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(Duration::from_secs(20), self.tasks.wait()).await.expect("tasks end in time");
    }

    async fn get(&self, name: &str) -> Option<Tool> {
        let key = Some(Key::Name(name.into()));
        let request = request!(self, "team", GetToolRequest { key, version: String::new() });
        self.client.clone().get_tool(request).await.ok().and_then(|found| found.into_inner().tool)
    }
}

fn operator(team: &str) -> Caller {
    Caller {
        team: team.into(),
        agent: "tester".into(),
        role: Role::Operator,
        service: None,
        ..Caller::service("")
    }
}

fn definition(name: &str) -> ToolDefinition {
    ToolDefinition {
        name: name.into(),
        description: "Tells the weather.".into(),
        category: Category::DataRetrieval.into(),
        capabilities: vec!["retrieve".into()],
        input_schema_json: r#"{"type":"object","properties":{"city":{"type":"string"}}}"#.into(),
        binding: Some(Binding { kind: Some(Kind::Builtin(BuiltinBinding { name: "http_request".into() })) }),
        ..ToolDefinition::default()
    }
}

fn registration(definition: ToolDefinition) -> RegisterToolRequest {
    RegisterToolRequest { definition: Some(definition), ..RegisterToolRequest::default() }
}
