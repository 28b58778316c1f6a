//! The permissions service: who an agent is, what it may call, and how often.
//!
//! `rpc.rs` parses; `authorize.rs`, `batch_authorize.rs`, `settle.rs`, `grant_permission.rs`, `list_grants.rs`,
//! `create_agent.rs`, `budget.rs`, `issue_key.rs` and `authenticate.rs` are the use cases; `teams.rs` is what
//! is known of each team, kept up to date by `follow.rs`; `decide.rs` and `policies.rs` decide with Cedar;
//! `ledger.rs` takes and ends reservations, those of many calls at once; `store/` holds the SQL. Nothing
//! here allows a call that no policy permits.

mod authenticate;
mod authorize;
mod batch_authorize;
mod bootstrap;
mod budget;
mod config;
mod create_agent;
mod decide;
mod error;
mod explain;
mod follow;
mod grant_permission;
mod issue_key;
mod key;
mod ledger;
mod list_grants;
mod names;
mod policies;
mod rpc;
mod settle;
mod store;
mod teams;

use std::sync::Arc;

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use proto::permissions::v1::permissions_service_server::{PermissionsServiceServer, SERVICE_NAME};
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use authenticate::key_is_valid;
pub use bootstrap::{Bootstrap, bootstrap};
pub use config::Config;
pub use error::Error;
pub use key::Keys;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// What the service is given to run.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a key")]
pub struct Parts {
    /// Where agents, grants, keys and counters are kept.
    pub database: Database,
    /// Signs page tokens.
    pub pages: PageKey,
    /// Under which API keys are kept; at least 32 bytes. Another one makes every key invalid.
    pub api_key_pepper: SecretString,
    /// Second part of every API key, such as `dev`.
    pub environment: String,
    /// Knows the tools that grants and questions name.
    pub registry: Link,
    /// Keeps what is told of grants, keys and decisions, and what past calls were.
    pub audit: Link,
    /// Makes requests to them.
    pub outgoing: Outgoing,
    /// Seals secrets of webhooks; the same in every process.
    pub seal: [u8; 32],
    /// Ends the background tasks.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("permissions", sqlx::migrate!("../../migrations/permissions"))
}

/// Checks the platform's policies, starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Result<Routes, Error> {
    let teams = Arc::new(teams::Teams::new(&parts.database));
    let service = rpc::Service {
        desk: authorize::Desk {
            policies: Arc::new(policies::Policies::load()?),
            teams: Arc::clone(&teams),
            ledger: ledger::Ledger::start(&parts.database),
            reservation_ttl: config.reservation_ttl(),
        },
        keys: Keys::new(&parts.api_key_pepper, &parts.environment),
        database: parts.database.clone(),
        pages: parts.pages,
        registry: parts.registry,
        audit: parts.audit,
        outgoing: parts.outgoing,
        seal: parts.seal,
    };
    parts.tasks.spawn(follow::follow(teams, parts.database.clone(), parts.stop.clone()));
    parts.tasks.spawn(settle::keep_swept(parts.database, config.sweep_interval(), parts.stop));
    Ok(Routes::new(PermissionsServiceServer::new(service)))
}

#[cfg(test)]
mod tests;
