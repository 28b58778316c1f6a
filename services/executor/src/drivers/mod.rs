//! The ways to run a tool, one a kind of binding. A driver knows nothing of callers, permissions or records;
//! it must end its work when its future is dropped.

mod guard;
mod http;
mod mcp;

use std::time::Duration;

use proto::registry::v1::{Tool, binding::Kind};
use serde_json::Value;

pub(crate) use self::guard::{Fetch, Fetched, HttpClient};
use crate::{
    Config, Error,
    builtin::Builtins,
    outcome::{Ended, ToolError, ToolErrorCode},
};

/// One attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub team: &'a str,
    pub task_id: &'a str,
    pub tool: &'a Tool,
    /// Valid against the tool's input schema.
    pub arguments: &'a Value,
    pub timeout: Duration,
}

/// Every driver.
pub(crate) struct Drivers {
    builtins: Builtins,
    http: http::HttpDriver,
    mcp: mcp::McpDriver,
}

impl Drivers {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let client = HttpClient::new(config.http.max_response_bytes)?;
        Ok(Self {
            builtins: Builtins::new(config, client.clone()),
            http: http::HttpDriver::new(client),
            mcp: mcp::McpDriver::default(),
        })
    }

    /// Runs a tool once and gives its result as JSON text.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Ended {
        let binding = job.tool.definition.as_ref().and_then(|definition| definition.binding.as_ref());
        match binding.and_then(|binding| binding.kind.as_ref()) {
            Some(Kind::Builtin(builtin)) => self.builtins.run(&builtin.name, job).await,
            Some(Kind::Http(http)) => self.http.run(http, job).await,
            Some(Kind::Mcp(mcp)) => self.mcp.run(mcp, job).await,
            None => Err(ToolError::new(ToolErrorCode::NotConfigured, "the tool has no binding")),
        }
    }

    /// Starts what takes time to start, so that the first call need not wait for it.
    pub(crate) async fn warm_up(&self) {
        self.builtins.warm_up().await;
    }

    /// Ends every process that a driver started.
    pub(crate) async fn close(&self) {
        self.builtins.close().await;
        self.mcp.close().await;
    }
}
