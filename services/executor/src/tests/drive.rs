//! The drivers alone, without the executor around them: what they send, and how they say that it went.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ::reach::Authorities;
use futures_util::future::BoxFuture;
use proto::registry::v1::{
    HttpBinding, HttpTransport, McpBinding, McpTransport, Tool, ToolDefinition, binding::Kind,
    idempotency_key::Place, mcp_transport, registry_service_server::RegistryServiceServer,
};
use serde_json::Value;

use super::house::{PATIENCE, TEAM, bound, config};
use crate::{
    drivers::{Drivers, Guard, HttpClient, Job, Lookup, Reach, is_public},
    outcome::{Ended, ToolError},
    progress::Sink,
};

/// Largest response that the drivers read, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Drivers, with a resolver of the test's own.
pub(crate) struct Drive {
    pub drivers: Drivers,
    pub names: Arc<Names>,
}

/// Names, and the answers that each gives: the next at every question, the last one for ever.
#[derive(Debug, Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn set(&self, name: &str, answers: &[&[&str]]) {
        let parsed = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.into(), answers.iter().map(parsed).collect());
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Lookup for Names {
    fn lookup<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let name = name.trim_end_matches('.').to_owned();
        self.asked.lock().unwrap().push(name.clone());
        let mut all = self.answers.lock().unwrap();
        let answer = all
            .get_mut(&name)
            .map(|answers| if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() });
        let none = || io::Error::new(io::ErrorKind::NotFound, "no such name");
        Box::pin(std::future::ready(answer.ok_or_else(none)))
    }
}

/// 127.0.0.2 stands for the public internet; every other address is what it is.
pub(crate) fn is_public_here(address: IpAddr) -> bool {
    address == IpAddr::from([127, 0, 0, 2]) || is_public(address)
}

impl Drive {
    pub(crate) fn new() -> Self {
        Self::with(super::fakes::Fakes::default(), &Authorities::default())
    }

    /// With the credentials of these fakes, and authorities besides those of the system.
    pub(crate) fn with(fakes: super::fakes::Fakes, authorities: &Authorities) -> Self {
        let names: Arc<Names> = Arc::default();
        let mut config = config(Path::new("/nowhere"));
        config.http.allow_private_network = false;
        let lookup: Arc<dyn Lookup> = Arc::<Names>::clone(&names);
        let guard = Guard { lookup, ..Guard::system(Reach::Only(is_public_here)) }.trusting(authorities);
        let client = HttpClient::with(guard, MAX_BYTES).unwrap();
        let credentials = credentials_of(fakes);
        Self { drivers: Drivers::with(&config, mcp::Commands::any(), credentials, client), names }
    }

    pub(crate) async fn run(&self, tool: &ToolDefinition, arguments: &Value) -> Ended {
        self.run_within(PATIENCE, tool, arguments, None).await
    }

    pub(crate) async fn failure(&self, tool: &ToolDefinition, arguments: &Value) -> ToolError {
        self.run(tool, arguments).await.unwrap_err()
    }

    pub(crate) async fn run_within(
        &self,
        timeout: Duration,
        tool: &ToolDefinition,
        arguments: &Value,
        idempotency: Option<(&Place, &str)>,
    ) -> Ended {
        let tool = Tool { definition: Some(tool.clone()), ..Tool::default() };
        let progress = Sink::none();
        let job = Job {
            team: TEAM,
            task_id: "",
            tool: &tool,
            arguments,
            timeout,
            idempotency,
            progress: &progress,
        };
        self.drivers.run(&job).await
    }
}

/// A tool that asks an address, which may be a public one only.
pub(crate) fn getting(url: &str) -> ToolDefinition {
    let http = HttpBinding { method: "GET".into(), url: url.into(), ..HttpBinding::default() };
    bound("getting", Kind::Http(http))
}

/// A tool of an MCP server reached over HTTP.
pub(crate) fn of_server(url: &str) -> ToolDefinition {
    let http = HttpTransport { url: url.into(), headers: HashMap::new() };
    let transport =
        Some(McpTransport { kind: Some(mcp_transport::Kind::Http(http)), ..McpTransport::default() });
    bound("called", Kind::Mcp(McpBinding { server: "server".into(), tool: "t".into(), transport }))
}

/// Those of a registry that has a key of every name.
pub(crate) fn credentials() -> crate::credentials::Credentials {
    credentials_of(super::fakes::Fakes::default())
}

fn credentials_of(fakes: super::fakes::Fakes) -> crate::credentials::Credentials {
    let key = ::rpc::TokenKey::new(&"k".repeat(32).into());
    let options = ::rpc::StackOptions { key: key.clone(), max_concurrent_requests: 1 };
    let registry = RegistryServiceServer::new(fakes);
    let registry = ::rpc::stack(tonic::service::Routes::new(registry), options);
    crate::credentials::Credentials::new(registry, ::rpc::Outgoing::new("executor", key))
}
