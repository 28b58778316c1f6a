//! The ways to run a tool, one a kind of binding. A driver knows nothing of callers, permissions or records;
//! it must end its work when its future is dropped.

mod classify;
mod fetch;
mod guard;
mod http;
mod idempotency;
mod mcp;
mod mcp_result;
mod redirect;

use std::{path::PathBuf, time::Duration};

use proto::registry::v1::{Tool, binding::Kind, idempotency_key::Place as KeyPlace};
use serde_json::Value;

#[cfg(test)]
pub(crate) use self::guard::{Lookup, Reach, is_public};
pub(crate) use self::{
    classify::refused,
    fetch::{Fetch, Fetched, HttpClient},
    idempotency::set_header,
};
use crate::{
    Config, Error,
    builtin::Builtins,
    outcome::{Ended, ToolError, ToolErrorCode},
    progress::Sink,
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
    /// Where the tool takes an idempotency key, and the key: the same for every attempt of one execution.
    pub idempotency: Option<(&'a KeyPlace, &'a str)>,
    /// Takes what the tool says of itself while it runs.
    pub progress: &'a Sink,
}

/// Every driver.
pub(crate) struct Drivers {
    builtins: Builtins,
    http: http::HttpDriver,
    mcp: mcp::McpDriver,
}

impl Drivers {
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self::with(config, HttpClient::new(config.http.max_response_bytes)?))
    }

    /// With an HTTP client of one's own.
    pub(crate) fn with(config: &Config, client: HttpClient) -> Self {
        Self {
            builtins: Builtins::new(config, client.clone()),
            http: http::HttpDriver::new(client),
            mcp: mcp::McpDriver::default(),
        }
    }

    /// Runs a tool once and gives its result as JSON text.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Ended {
        let binding = job.tool.definition.as_ref().and_then(|definition| definition.binding.as_ref());
        match binding.and_then(|binding| binding.kind.as_ref()) {
            Some(Kind::Builtin(builtin)) => {
                if builtin.name == "http_request" {
                    // Its other arguments say what to do; none of them is sent as it is.
                    idempotency::is_carried(job, |name| name == "body")?;
                } else {
                    idempotency::only_argument(job)?;
                }
                let arguments = idempotency::arguments(job);
                self.builtins.run(&builtin.name, &Job { arguments: &arguments, ..*job }).await
            }
            Some(Kind::Http(http)) => self.http.run(http, job).await,
            Some(Kind::Mcp(mcp)) => self.mcp.run(mcp, job).await,
            Some(Kind::Grpc(_)) => Err(ToolError::new(ToolErrorCode::NotConfigured, "not there yet")),
            None => Err(ToolError::new(ToolErrorCode::NotConfigured, "the tool has no binding")),
        }
    }

    /// The folder of a team and task.
    pub(crate) fn workspace(&self, team: &str, task_id: &str) -> PathBuf {
        self.builtins.workspace(team, task_id)
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
