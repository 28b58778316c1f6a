//! The registry: which tools exist, how each is run, and which MCP servers provide them.
//!
//! `rpc.rs` parses; `register.rs`, `get.rs`, `list.rs`, `set_status.rs`, `watch.rs` and `servers.rs` are the
//! use cases; `keep.rs` keeps MCP servers discovered; `store.rs` holds the SQL. The definition of a version
//! never changes, and no change of the catalog escapes a watcher.

mod check;
mod check_binding;
mod config;
mod definition;
mod discover;
mod error;
mod follow;
mod get;
mod keep;
mod list;
mod normalise;
mod register;
mod rpc;
mod schema;
mod schema_cost;
mod seed;
mod servers;
mod set_status;
mod store;
mod take;
mod watch;

use std::sync::Arc;

use ::rpc::PageKey;
use ::store::{Database, Schema};
use proto::registry::v1::registry_service_server::{RegistryServiceServer, SERVICE_NAME};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use config::Config;
pub use definition::BUILTINS;
pub use error::Error;
pub use seed::seed;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// What the service is given to run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where the catalog is kept.
    pub database: Database,
    /// Signs page tokens.
    pub pages: PageKey,
    /// Ends the background tasks and the watches.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("registry", sqlx::migrate!("../../migrations/registry"))
}

/// Starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Routes {
    let (changes, follow) = follow::follow(parts.database.clone(), parts.stop.clone());
    parts.tasks.spawn(follow);
    let shared = Arc::new(keep::Shared {
        database: parts.database.clone(),
        owner: types::new_id(),
        interval: config.discovery_interval(),
        timeout: config.server_timeout(),
        retries: config.discovery_retries,
        stop: parts.stop.clone(),
    });
    parts.tasks.spawn(keep::keep(shared, changes.servers.clone(), parts.tasks.clone()));
    let servers = servers::Servers {
        database: parts.database.clone(),
        bell: changes.servers,
        allow_stdio: config.allow_stdio_servers,
    };
    let service = rpc::Service {
        database: parts.database,
        pages: parts.pages,
        revision: changes.revision,
        heartbeat: config.watch_heartbeat(),
        stop: parts.stop,
        servers,
    };
    Routes::new(RegistryServiceServer::new(service))
}

#[cfg(test)]
mod tests;
