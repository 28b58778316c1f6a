//! The audit service: keeps every event of the suite and answers questions about them.
//!
//! `rpc.rs` parses, `append.rs` and `query.rs` are the use cases, `ledger.rs` writes for many requests at
//! once, `store.rs` holds the SQL. Nothing here changes or deletes an event.

mod append;
mod config;
mod error;
mod ledger;
mod query;
mod rpc;
mod store;

use ::rpc::PageKey;
use ::store::{Database, Schema};
use proto::audit::v1::audit_service_server::{AuditServiceServer, SERVICE_NAME};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// What the service is given to run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where the trail is kept.
    pub database: Database,
    /// Signs page tokens.
    pub pages: PageKey,
    /// Ends the background tasks.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("audit", sqlx::migrate!("../../migrations/audit"))
}

/// Starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Routes {
    parts.tasks.spawn(append::keep_partitions(
        parts.database.clone(),
        config.partition_check_interval(),
        parts.stop.clone(),
    ));
    let ledger = ledger::Ledger::start(&parts.database);
    let service = rpc::Service { database: parts.database, ledger, pages: parts.pages };
    Routes::new(AuditServiceServer::new(service))
}

#[cfg(test)]
mod tests;
