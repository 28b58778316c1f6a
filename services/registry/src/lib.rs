//! The registry: which tools exist, how each is run, and which MCP servers provide them.
//!
//! `rpc.rs` parses; `register.rs`, `review.rs`, `get.rs`, `list.rs`, `search.rs`, `export.rs`, `set_status.rs`,
//! `update.rs`, `fallbacks.rs`, `watch.rs` and `servers.rs` are the use cases; `keep.rs` keeps MCP servers discovered;
//! `trail.rs` tells the trail of changes; `store.rs` holds the SQL. The definition of a version never changes, settings
//! do (`settings.rs`), and no change of the catalog escapes a watcher, or the trail.

mod binding;
mod change;
mod check;
mod check_binding;
mod check_examples;
mod check_fallbacks;
mod check_grpc;
mod check_http;
mod check_letters;
mod check_settings;
mod config;
mod credentials;
mod definition;
mod discover;
mod equip;
mod error;
mod export;
mod expression;
mod fallbacks;
mod fit;
mod follow;
mod get;
mod grpc_import;
mod health;
mod import;
mod keep;
mod keeper;
mod list;
mod mask;
mod nesting;
mod normalise;
mod openapi;
mod register;
mod review;
mod rounds;
mod rpc;
mod search;
mod seed;
mod servers;
mod set_status;
mod settings;
mod store;
mod take;
mod trail;
mod trust;
mod update;
mod watch;
mod words;

use std::sync::Arc;

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use proto::registry::v1::registry_service_server::{RegistryServiceServer, SERVICE_NAME};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use credentials::Credentials;

pub use config::{Config, TrustPolicy};
pub use credentials::{CredentialConfig, KeysError};
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
    /// Tells which tools a caller may use.
    pub permissions: Link,
    /// Keeps what is told of changes.
    pub audit: Link,
    /// Signs what the registry asks other services.
    pub outgoing: Outgoing,
    /// Programs that may be run as MCP servers.
    pub commands: mcp::Commands,
    /// Whose certificates servers and token endpoints may have, besides those that the system trusts.
    pub authorities: reach::Authorities,
    /// Ends the background tasks and the watches.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
#[must_use]
pub fn schema() -> Schema {
    Schema::new("registry", sqlx::migrate!("../../migrations/registry"))
}

/// The settings of a tool that was given none, by the contract.
#[must_use]
pub fn default_settings() -> proto::registry::v1::ToolSettings {
    rpc::default_settings()
}

/// Starts the background tasks and gives the routes to serve.
#[must_use]
pub fn start(config: &Config, parts: Parts) -> Routes {
    let (changes, follow) = follow::follow(parts.database.clone(), parts.stop.clone());
    parts.tasks.spawn(follow);
    let credentials =
        Credentials::new(&config.credentials, parts.authorities, parts.database.clone(), parts.tasks.clone());
    parts.tasks.spawn(credentials::keep(credentials.clone(), parts.stop.clone()));
    parts.tasks.spawn(trail::relay(
        parts.database.clone(),
        parts.audit,
        parts.outgoing.clone(),
        parts.stop.clone(),
    ));
    let shared = Arc::new(keep::Shared {
        database: parts.database.clone(),
        owner: types::new_id(),
        interval: config.discovery_interval(),
        check_interval: config.health_check_interval(),
        threshold: config.health_threshold,
        timeout: config.server_timeout(),
        retries: config.discovery_retries,
        trust: config.trust_policy,
        commands: parts.commands.clone(),
        credentials: credentials.clone(),
        starts: keep::Starts::default(),
        stop: parts.stop.clone(),
    });
    parts.tasks.spawn(keep::keep(shared, changes.servers.clone(), parts.tasks.clone()));
    let servers = servers::Servers {
        database: parts.database.clone(),
        bell: changes.servers,
        commands: parts.commands,
        credentials: credentials.clone(),
        timeout: config.server_timeout(),
        threshold: config.health_threshold,
    };
    let service = rpc::Service {
        database: parts.database,
        pages: parts.pages,
        permissions: parts.permissions,
        outgoing: parts.outgoing,
        credentials,
        revision: changes.revision,
        heartbeat: config.watch_heartbeat(),
        watches: ::rpc::Shares::new(config.max_watches, config.max_watches_per_team),
        stop: parts.stop,
        servers,
        imports: import::Turns::default(),
    };
    Routes::new(RegistryServiceServer::new(service))
}

#[cfg(test)]
mod tests;
