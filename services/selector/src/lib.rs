//! The selector service: picks the tool for a task among those the caller may call.
//!
//! `rpc.rs` parses, `select.rs` and `record.rs` are the use cases, `ledger.rs` writes for many requests at
//! once. `index.rs` fits words, `suit.rs` judges
//! history, `rank.rs` combines the two. Nothing here runs a tool, and no tool is offered without a
//! permission.

mod config;
mod entry;
mod error;
mod explain;
mod history;
mod imply;
mod index;
mod ledger;
mod permit;
mod rank;
mod record;
mod rpc;
mod screen;
mod select;
mod selections;
mod stem;
mod store;
mod suit;
mod words;

use ::rpc::{Link, Outgoing};
use ::store::{Database, Schema};
use catalog::Catalog;
use proto::selector::v1::selector_service_server::{SERVICE_NAME, SelectorServiceServer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;

/// What the service is given to run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where history and selections are kept.
    pub database: Database,
    /// The tools; whoever made it feeds it.
    pub catalog: Catalog,
    /// The permissions service.
    pub permissions: Link,
    /// Makes the requests to it.
    pub outgoing: Outgoing,
    /// Ends the background tasks.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("selector", sqlx::migrate!("../../migrations/selector"))
}

/// Reads the history, starts the background tasks and gives the routes to serve. Fails when the database
/// cannot be read.
pub async fn start(config: &Config, parts: Parts) -> Result<Routes, Error> {
    let history = history::History::default();
    let horizon = history.read(&parts.database, 0).await?;
    let (selections, waiting) = selections::Selections::new();
    let (database, stop) = (&parts.database, &parts.stop);
    parts.tasks.spawn(history.clone().follow(database.clone(), horizon, stop.clone()));
    parts.tasks.spawn(selections::write(database.clone(), waiting, stop.clone()));
    parts.tasks.spawn(selections::expire(database.clone(), stop.clone()));
    let ledger = ledger::Ledger::start(database, &history);
    let selector = select::Selector {
        indexes: index::Indexes::new(parts.catalog),
        history,
        permissions: permit::Permissions::new(parts.permissions, parts.outgoing),
        selections,
        weights: config.weights(),
    };
    let service = rpc::Service { ledger, selector };
    Ok(Routes::new(SelectorServiceServer::new(service)))
}

#[cfg(test)]
mod tests;
