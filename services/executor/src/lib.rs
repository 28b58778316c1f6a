//! The executor service: runs tools and keeps a record of every run.
//!
//! `rpc.rs` parses, `invoke.rs` tells the story of one call, `run.rs` is its part that must be recorded
//! whatever happens, `perform.rs` gets the answer: `recall.rs` from the cache, `attempt.rs` from the tool,
//! `fallback.rs` from another. `drivers/` run the tools, `ledger.rs` writes in groups. `start.rs` queues a call
//! and `queue.rs` runs it, `watch.rs` and `cancel.rs` reach it, `reap.rs` closes what no one runs, `relay.rs`
//! carries events on. No tool runs without a recorded intent.

mod approvals;
mod artifact;
mod attempt;
mod authorize;
mod background;
mod batch;
mod builtin;
mod cached;
mod cancel;
mod check;
mod config;
mod credentials;
mod drivers;
mod erase_user;
mod error;
mod events;
mod failure;
mod fallback;
mod invoke;
mod lease;
mod ledger;
mod list_intents;
mod metrics;
mod outcome;
mod perform;
mod progress;
mod query;
mod queue;
mod reap;
mod recall;
mod refuse;
mod relay;
mod replay;
mod resolve;
mod rpc;
mod run;
mod running;
mod seal;
mod settings;
mod signals;
mod start;
mod store;
#[cfg(test)]
mod tests;
mod validate;
mod watch;

use std::{sync::Arc, time::Duration};

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use cache::{Cache, Flights, Matcher};
use catalog::Catalog;
use limit::Limiter;
use opentelemetry::metrics::Counter;
use proto::{
    executor::v1::executor_service_server::{ExecutorServiceServer, SERVICE_NAME},
    registry::v1::Tool,
};
use redact::{Redaction, Rules};
use resilience::{BudgetSettings, BulkheadSettings, Shield, ShieldSettings, Shields};
use tokio::sync::Notify;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};
use tonic::service::Routes;
use uuid::Uuid;

use crate::{
    attempt::Candidate, authorize::Authorizer, credentials::Credentials, drivers::Drivers, lease::Lease,
    ledger::Ledger, metrics::Refreshes, outcome::Finished, queue::Queue, relay::Relays, resolve::Resolver,
    running::RunningSet, signals::Signals, validate::Schemas,
};
pub use config::{
    CacheConfig, CacheVariant, Config, GithubConfig, HttpConfig, SandboxConfig, WebSearchConfig,
};
pub use error::Error;
#[cfg(feature = "measure")]
pub use rpc::measure;
pub use seal::SealKey;
pub use validate::Violation;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// How long a call waits for the heartbeat that follows an outage of the database.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(3);

/// Calls of one tool that may wait for a place, for each that may run.
const WAITING: usize = 4;

/// What the service is given to run.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
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
    /// Programs that may be run as MCP servers.
    pub commands: mcp::Commands,
    /// Whose certificates tools' servers may have, besides those that the system trusts.
    pub authorities: reach::Authorities,
    /// Counts calls of tools.
    pub limiter: Limiter,
    /// Keeps answers of tools.
    pub cache: Cache,
    /// What is taken out of what is stored.
    pub redaction: Arc<Redaction>,
    /// Seals the calls that wait in the queue.
    pub seal: SealKey,
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
    pub relays: Relays,
    pub running: RunningSet,
    pub limiter: Limiter,
    pub cache: Cache,
    /// Identical calls under way.
    pub flights: Flights<Arc<Finished>>,
    /// Finds cached answers to nearly the same text.
    pub matcher: Matcher,
    pub shields: Shields<(String, String)>,
    pub lease: Lease,
    pub queue: Queue,
    pub signals: Signals,
    pub redaction: Arc<Redaction>,
    pub seal: SealKey,
    pub refreshes: Refreshes,
    /// Wakes whoever deletes files of erased users.
    pub erasing: Notify,
    /// The watches of this process, by team.
    pub watches: ::rpc::Shares<String>,
    /// Late outcomes that touched no row.
    pub fenced: Counter<u64>,
    /// What must end before the process may; closed when no new call is taken.
    pub runs: TaskTracker,
    /// Who this process is to the others: a random id, new with every start.
    pub owner: Uuid,
    pub config: Config,
    pub max_result_bytes: usize,
    pub max_artifact_bytes: usize,
    pub heartbeat_interval: Duration,
    pub lease_timeout: Duration,
    audit_backlog_max_age: Duration,
}

impl Executor {
    /// Whether a new call may be taken. A stop waits for what it gives, so that no call falls between the
    /// check and its task.
    pub(crate) async fn admit(&self) -> Result<TaskTrackerToken, Error> {
        let token = self.runs.token();
        if self.runs.is_closed() {
            return Err(Error::ShuttingDown);
        }
        let age = self.relays.audit.backlog_age();
        if age > self.audit_backlog_max_age {
            return Err(Error::AuditBacklog(age));
        }
        self.database.pool()?;
        // Others may take this process for dead: what it began now would end before its first attempt.
        if !self.lease.is_held_within(HEARTBEAT_PATIENCE).await {
            return Err(::store::Error::Unavailable(None).into());
        }
        Ok(token)
    }

    /// The rules under which calls of a team are stored: of a tool, or, where none is known, of the team alone.
    pub(crate) fn rules(&self, team: &str, tool: Option<&Tool>) -> Arc<Rules> {
        self.redaction.tool(team, tool.map(settings::redaction).unwrap_or_default())
    }

    /// What stands between the callers of a team and one tool.
    pub(crate) fn shield(&self, team: &str, candidate: &Candidate<'_>) -> Arc<Shield> {
        let settings = &candidate.settings;
        let max_concurrent = match settings.max_concurrent {
            0 => self.config.max_concurrent_per_tool,
            set => set,
        };
        let bulkhead = BulkheadSettings {
            max_concurrent,
            max_waiting: max_concurrent.saturating_mul(WAITING),
            max_wait: self.config.max_wait(),
        };
        let settings =
            ShieldSettings { breaker: settings.breaker, bulkhead, budget: BudgetSettings::default() };
        let key = (team.to_owned(), candidate.name().to_owned());
        self.shields.get(&key, &settings, tokio::time::Instant::now())
    }
}

/// The tables of the service.
#[must_use]
pub fn schema() -> Schema {
    Schema::new("executor", sqlx::migrate!("../../migrations/executor"))
}

/// Starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Result<Routes, Error> {
    let pages = parts.pages.clone();
    let executor = launch(config, parts)?;
    Ok(routes(rpc::Service { executor, pages }))
}

fn routes(service: rpc::Service) -> Routes {
    Routes::new(ExecutorServiceServer::new(service).max_encoding_message_size(usize::MAX))
}

/// Makes what the use cases share, and starts the background tasks.
fn launch(config: &Config, parts: Parts) -> Result<Arc<Executor>, Error> {
    let relays = Relays::new(&parts.database);
    let ledger = Ledger::start(&parts.database, &relays);
    let executor = Arc::new(Executor {
        resolver: Resolver {
            catalog: parts.catalog.clone(),
            registry: parts.registry.clone(),
            outgoing: parts.outgoing.clone(),
        },
        authorizer: Authorizer { permissions: parts.permissions.clone(), outgoing: parts.outgoing.clone() },
        schemas: Schemas::default(),
        drivers: Drivers::new(
            config,
            parts.commands.clone(),
            Credentials::new(parts.registry.clone(), parts.outgoing.clone()),
            &parts.authorities,
        )?,
        ledger,
        relays,
        running: RunningSet::default(),
        limiter: parts.limiter.clone(),
        flights: Flights::new(parts.cache.statistics()),
        cache: parts.cache.clone(),
        matcher: Matcher::new(),
        shields: Shields::new(tokio::time::Instant::now()),
        lease: Lease::new(config.lease_timeout()),
        queue: Queue::new(config.worker_pool),
        signals: Signals::new(),
        redaction: Arc::clone(&parts.redaction),
        seal: parts.seal.clone(),
        refreshes: Refreshes::default(),
        erasing: Notify::new(),
        watches: ::rpc::Shares::new(config.max_watches, config.max_watches_per_team),
        fenced: fenced(),
        runs: TaskTracker::new(),
        owner: Uuid::new_v4(),
        config: config.clone(),
        max_result_bytes: config.max_result_bytes,
        max_artifact_bytes: config.max_artifact_bytes,
        heartbeat_interval: config.heartbeat_interval(),
        lease_timeout: config.lease_timeout(),
        audit_backlog_max_age: config.audit_backlog_max_age(),
        database: parts.database.clone(),
    });
    parts.tasks.clone().spawn(background::run(Arc::clone(&executor), parts));
    Ok(executor)
}

/// Counts late outcomes that touched no row, since another process had closed their executions.
fn fenced() -> Counter<u64> {
    let description = "Outcomes written under a lease that was gone; none of them touched a row";
    let meter = opentelemetry::global::meter("toolcrib");
    meter.u64_counter("toolcrib.executor.fenced_writes").with_description(description).build()
}
