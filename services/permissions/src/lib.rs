//! The permissions service: who an agent is, what it may call, and how often.
//!
//! `rpc.rs` parses; `authorize.rs`, `batch_authorize.rs`, `settle.rs`, `grant_permission.rs`, `list_grants.rs`,
//! `create_agent.rs`, `update_agent.rs`, `budget.rs`, `issue_key.rs`, `rotate_key.rs` and `authenticate.rs` are
//! the use cases; `token.rs` reads the tokens of an `issuer.rs` by its `jwks.rs`; `teams.rs` is what is known of each
//! team, kept up to date by `follow.rs`; `condition.rs`, `hours.rs` and `pattern.rs` are
//! what grants ask of a call; `decide.rs` and `policies.rs` decide with Cedar;
//! `ledger.rs` takes and ends reservations, those of many calls at once; `store/` holds the SQL. Nothing
//! here allows a call that no policy permits.

mod access_requests;
mod authenticate;
mod authorize;
mod batch_authorize;
mod bootstrap;
mod budget;
mod budget_alerts;
mod condition;
mod config;
mod create_agent;
mod decide;
mod dry_run;
mod erase_user;
mod error;
mod explain;
mod explaining;
mod failed_authentications;
mod follow;
mod grant_permission;
mod hours;
mod issue_key;
mod issuer;
mod jwks;
mod key;
mod known_tools;
mod ledger;
mod list_agents;
mod list_grants;
mod list_keys;
mod list_policies;
mod names;
mod pattern;
mod policies;
mod put_policy;
mod report_usage;
mod rotate_key;
mod rpc;
mod scopes;
mod settle;
mod store;
mod teams;
mod token;
mod trail;
mod update_agent;
mod usage;
mod uses;
mod webhooks;

use std::sync::Arc;

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use proto::permissions::v1::permissions_service_server::{PermissionsServiceServer, SERVICE_NAME};
use reach::Authorities;
use secrecy::SecretString;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use failed_authentications::FailedAuthentications;
use webhooks::{Courier, Seal};

pub use authenticate::key_is_valid;
pub use bootstrap::{Bootstrap, bootstrap};
pub use config::Config;
pub use error::Error;
pub use issuer::Issuer;
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
    /// What is taken out of what is stored.
    pub redaction: Arc<redact::Redaction>,
    /// Seals secrets of webhooks; the same in every process.
    pub seal: [u8; 32],
    /// Whose certificates webhooks may show besides those of the system's.
    pub authorities: Authorities,
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
    let teams = Arc::new(teams::Teams::new(&parts.database).keeping_to(Arc::clone(&parts.redaction)));
    let usage = Arc::new(usage::Usage::default());
    let flushed = usage::keep_flushed(Arc::clone(&usage), parts.database.clone(), parts.stop.clone());
    parts.tasks.spawn(flushed);
    let courier = Courier {
        database: parts.database.clone(),
        seal: Seal::new(parts.seal),
        destinations: config.destinations(&parts.authorities),
        retry: config.webhook_retry(),
    };
    parts.tasks.spawn(courier.clone().run(parts.stop.clone()));
    let (failures, uses) = (Arc::new(FailedAuthentications::new()), Arc::new(uses::Uses::default()));
    let keys = Keys::new(&parts.api_key_pepper, &parts.environment);
    let authenticator = authenticate::Authenticator {
        database: parts.database.clone(),
        keys: keys.clone(),
        issuers: token::Issuers::start(&config.issuers, &parts.authorities, &parts.stop, &parts.tasks)?,
        uses: Arc::clone(&uses),
        failures: Arc::clone(&failures),
    };
    let (witness, passed) = budget_alerts::Witness::new();
    let alerts = budget_alerts::keep_told(parts.database.clone(), passed, parts.stop.clone());
    parts.tasks.spawn(alerts);
    let service = rpc::Service {
        desk: authorize::Desk {
            policies: Arc::new(policies::Policies::load()?),
            teams: Arc::clone(&teams),
            ledger: ledger::Ledger::start_telling(&parts.database, witness),
            reservation_ttl: config.reservation_ttl(),
            usage: Arc::clone(&usage),
        },
        keys,
        authenticator,
        database: parts.database.clone(),
        pages: parts.pages,
        registry: parts.registry,
        audit: parts.audit,
        outgoing: parts.outgoing,
        courier,
        decisions: access_requests::Decisions::default(),
        stop: parts.stop.clone(),
    };
    let (told, stop) = (parts.database.clone(), parts.stop.clone());
    parts.tasks.spawn(async move { failures.keep_told(told, stop).await });
    let (used, stop) = (parts.database.clone(), parts.stop.clone());
    parts.tasks.spawn(async move { uses.keep_written(used, stop).await });
    parts.tasks.spawn(trail::relay(
        parts.database.clone(),
        service.audit.clone(),
        service.outgoing.clone(),
        parts.stop.clone(),
    ));
    parts.tasks.spawn(access_requests::keep_swept(
        parts.database.clone(),
        Arc::clone(&teams),
        parts.stop.clone(),
    ));
    parts.tasks.spawn(access_requests::keep_purged(
        parts.database.clone(),
        config.access_request_retention(),
        parts.stop.clone(),
    ));
    let decisions = service.decisions.clone();
    parts.tasks.spawn(follow::follow(teams, decisions, parts.database.clone(), parts.stop.clone()));
    parts.tasks.spawn(settle::keep_swept(parts.database, config.sweep_interval(), parts.stop));
    Ok(Routes::new(PermissionsServiceServer::new(service)))
}

#[cfg(test)]
mod tests;
