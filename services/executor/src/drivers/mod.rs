//! The ways to run a tool, one a kind of binding. A driver knows nothing of callers, permissions or records;
//! it must end its work when its future is dropped.

mod classify;
mod fetch;
mod grpc;
mod http;
mod idempotency;
mod identities;
mod mcp;
mod mcp_result;
mod rate_limit;
mod redirect;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use ::reach::Authorities;
use proto::registry::v1::{CredentialUse, Tool, binding::Kind, idempotency_key::Place as KeyPlace};
use serde_json::Value;

pub(crate) use self::{
    classify::refused,
    fetch::{Fetch, Fetched, HttpClient},
    idempotency::set_header,
};
use crate::{
    Config, Error,
    builtin::Builtins,
    credentials::{Carried, Credentials},
    outcome::{Ended, Reached, ToolError, ToolErrorCode},
    progress::Sink,
};
#[cfg(test)]
pub(crate) use ::reach::{Guard, Lookup, Reach, is_public};

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
    grpc: grpc::GrpcDriver,
    mcp: mcp::McpDriver,
    credentials: Credentials,
}

impl Drivers {
    pub(crate) fn new(
        config: &Config,
        commands: ::mcp::Commands,
        credentials: Credentials,
        authorities: &Authorities,
    ) -> Result<Self, Error> {
        let client = HttpClient::new(authorities, config.http.max_response_bytes)?;
        Ok(Self::with(config, commands, credentials, client))
    }

    /// With an HTTP client of one's own.
    pub(crate) fn with(
        config: &Config,
        commands: ::mcp::Commands,
        credentials: Credentials,
        client: HttpClient,
    ) -> Self {
        Self {
            credentials,
            builtins: Builtins::new(config, client.clone()),
            grpc: grpc::GrpcDriver::new(client.authorities(), config.http.max_response_bytes),
            mcp: mcp::McpDriver::new(client.authorities(), commands),
            http: http::HttpDriver::new(client),
        }
    }

    /// Runs a tool once and gives its result as JSON text, in which none of its credentials stands. A server that
    /// refuses them is shown those that came after them, where there are any: it did not begin.
    pub(crate) async fn run(&self, job: &Job<'_>) -> Ended {
        let (uses, begin) = (uses(job.tool), Instant::now());
        if uses.is_empty() {
            return self.run_as(job, &Carried::default()).await;
        }
        let carrying = self.credentials.carry(job.team, uses);
        let too_late = |_| {
            let message = "the tool's credentials were not there in time";
            Err(ToolError::new(ToolErrorCode::Timeout, message).having(Reached::No))
        };
        let carried = tokio::time::timeout(job.timeout, carrying).await.unwrap_or_else(too_late)?;
        let refused = match self.run_clean(job, &carried).await {
            // The same of every kind of binding: HTTP 401, gRPC UNAUTHENTICATED, a client certificate refused.
            Err(error) if error.is_unauthenticated && error.reached == Reached::No => error,
            ended => return ended,
        };
        let left = job.timeout.saturating_sub(begin.elapsed());
        let instead = self.credentials.carry_instead(job.team, uses, &carried);
        match tokio::time::timeout(left, instead).await {
            Ok(Ok(Some(other))) => {
                let left = job.timeout.saturating_sub(begin.elapsed());
                self.run_clean(&Job { timeout: left, ..*job }, &other).await
            }
            _ => Err(refused),
        }
    }

    async fn run_clean(&self, job: &Job<'_>, carried: &Carried) -> Ended {
        let scrub = carried.scrub();
        match self.run_as(job, carried).await {
            Ok(result) => Ok(scrub.json(result)),
            Err(error) => Err(scrub.error(error)),
        }
    }

    async fn run_as(&self, job: &Job<'_>, carried: &Carried) -> Ended {
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
            Some(Kind::Http(http)) => self.http.run(http, job, carried).await,
            Some(Kind::Mcp(mcp)) => self.mcp.run(mcp, job, carried).await,
            Some(Kind::Grpc(grpc)) => self.grpc.run(grpc, job, carried).await,
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
        self.grpc.close();
    }
}

/// The credentials that a tool's requests carry.
fn uses(tool: &Tool) -> &[CredentialUse] {
    let binding = tool.definition.as_ref().and_then(|definition| definition.binding.as_ref());
    match binding.and_then(|binding| binding.kind.as_ref()) {
        Some(Kind::Http(http)) => &http.credentials,
        Some(Kind::Grpc(grpc)) => &grpc.credentials,
        Some(Kind::Mcp(mcp)) => mcp.transport.as_ref().map_or(&[], |transport| &transport.credentials),
        Some(Kind::Builtin(_)) | None => &[],
    }
}
