//! The executor service: runs tools and keeps a record of every run.
//!
//! `rpc.rs` parses, `invoke.rs` tells the story of one call, `run.rs` is its part that must be recorded
//! whatever happens, `drivers/` run the tools, `ledger.rs` writes in groups, `reap.rs` closes what no one
//! runs, `relay.rs` carries events on. No tool runs without a recorded intent.

mod authorize;
mod builtin;
mod config;
mod drivers;
mod error;
mod invoke;
mod ledger;
mod outcome;
mod query;
mod reap;
mod redact;
mod relay;
mod replay;
mod resolve;
mod rpc;
mod run;
mod store;
#[cfg(test)]
mod tests;
mod validate;

use std::{sync::Arc, time::Duration};

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Outbox, Schema};
use catalog::Catalog;
use proto::executor::v1::executor_service_server::{ExecutorServiceServer, SERVICE_NAME};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::service::Routes;
use uuid::Uuid;

use crate::{
    authorize::Authorizer, drivers::Drivers, ledger::Ledger, reap::RunningSet, resolve::Resolver,
    validate::Schemas,
};
pub use config::{Config, HttpConfig, SandboxConfig, WebSearchConfig};
pub use error::Error;
pub use validate::Violation;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// Events sent in one delivery.
const RELAY_BATCH: i64 = 500;

/// What the service is given to run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where executions are kept.
    pub database: Database,
    /// Signs page tokens.
    pub pages: PageKey,
    /// The tools, kept up to date.
    pub catalog: Catalog,
    /// The registry service.
    pub registry: Link,
    /// The permissions service.
    pub permissions: Link,
    /// The audit service.
    pub audit: Link,
    /// The selector service.
    pub selector: Link,
    /// Makes requests to them.
    pub outgoing: Outgoing,
    /// Refuses new calls; runs under way end and are recorded.
    pub stop: CancellationToken,
    /// Counts the background tasks; all have ended when every run is recorded and told.
    pub tasks: TaskTracker,
}

/// What the use cases share.
pub(crate) struct Executor {
    pub database: Database,
    pub resolver: Resolver,
    pub authorizer: Authorizer,
    pub schemas: Schemas,
    pub drivers: Drivers,
    pub ledger: Ledger,
    pub audit_outbox: Outbox,
    pub selector_outbox: Outbox,
    pub running: RunningSet,
    /// What must end before the process may; closed when no new call is taken.
    pub runs: TaskTracker,
    /// Who this process is to the others: a random id, new with every start.
    pub owner: Uuid,
    pub max_result_bytes: usize,
    pub heartbeat_interval: Duration,
    pub lease_timeout: Duration,
    audit_backlog_max_age: Duration,
}

impl Executor {
    /// Whether a new call may be taken. A stop waits for what it gives, so that no call falls between the
    /// check and its task.
    pub(crate) fn admit(&self) -> Result<TaskTrackerToken, Error> {
        let token = self.runs.token();
        if self.runs.is_closed() {
            return Err(Error::ShuttingDown);
        }
        let age = self.audit_outbox.backlog_age();
        if age > self.audit_backlog_max_age {
            return Err(Error::AuditBacklog(age));
        }
        self.database.pool()?;
        Ok(token)
    }
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("executor", sqlx::migrate!("../../migrations/executor"))
}

/// Starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Result<Routes, Error> {
    let (ledger, writers) = Ledger::new(&parts.database);
    for writer in writers {
        // Not counted: a writer ends with the last handle to the ledger, and by then every run has been
        // recorded, since runs wait for their writes.
        tokio::spawn(writer);
    }
    let executor = Arc::new(Executor {
        resolver: Resolver {
            catalog: parts.catalog.clone(),
            registry: parts.registry.clone(),
            outgoing: parts.outgoing.clone(),
        },
        authorizer: Authorizer { permissions: parts.permissions.clone(), outgoing: parts.outgoing.clone() },
        schemas: Schemas::default(),
        drivers: Drivers::new(config)?,
        ledger,
        audit_outbox: Outbox::new(parts.database.clone(), "executor", outcome::AUDIT, RELAY_BATCH),
        selector_outbox: Outbox::new(parts.database.clone(), "executor", outcome::SELECTOR, RELAY_BATCH),
        running: RunningSet::default(),
        runs: TaskTracker::new(),
        owner: Uuid::new_v4(),
        max_result_bytes: config.max_result_bytes,
        heartbeat_interval: config.heartbeat_interval(),
        lease_timeout: config.lease_timeout(),
        audit_backlog_max_age: config.audit_backlog_max_age(),
        database: parts.database.clone(),
    });
    parts.tasks.spawn(background(Arc::clone(&executor), parts.clone()));
    let service = rpc::Service { executor, pages: parts.pages };
    let server = ExecutorServiceServer::new(service).max_encoding_message_size(usize::MAX);
    Ok(Routes::new(server))
}

/// Runs until told to stop; then: no new calls, runs end, events are delivered, and only then it ends.
async fn background(executor: Arc<Executor>, parts: Parts) {
    let runs_ended = CancellationToken::new();
    let (audit, selector, outgoing) = (parts.audit, parts.selector, parts.outgoing);
    let to_audit = |payloads| relay::to_audit(audit.clone(), outgoing.clone(), payloads);
    let to_selector = |payloads| relay::to_selector(selector.clone(), outgoing.clone(), payloads);
    let wind_down = async {
        executor.drivers.warm_up().await;
        parts.stop.cancelled().await;
        executor.runs.close();
        executor.runs.wait().await;
        executor.drivers.close().await;
        runs_ended.cancel();
    };
    tokio::join!(
        wind_down,
        reap::keep(&executor, runs_ended.clone()),
        executor.audit_outbox.run(runs_ended.clone(), to_audit),
        executor.selector_outbox.run(runs_ended.clone(), to_selector),
    );
}
