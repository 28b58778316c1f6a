//! The selector service: picks the tool for a task among those the caller may call.
//!
//! `rpc.rs` parses, `select.rs` is the use case. `index.rs` fits words, `learn.rs` knows
//! history, `rank.rs` combines the two. Nothing here runs a tool, and no tool is offered without a
//! permission.

mod admit;
mod answer;
mod confidence;
mod config;
mod contest;
mod embedding;
mod entry;
mod erase_user;
mod error;
mod explain;
mod explore;
mod fuse;
mod health;
mod imply;
mod index;
mod lanes;
mod learn;
mod model;
mod nearest;
mod patterns;
mod permit;
mod pins;
mod policy;
mod predict;
mod rank;
mod reading;
mod rpc;
mod scene;
mod screen;
mod segments;
mod select;
mod selections;
mod shortlist;
mod signals;
mod stem;
mod store;
mod texts;
mod vectors;
mod wanted;
mod words;

use std::{path::Path, sync::Arc};

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use catalog::Catalog;
use proto::selector::v1::selector_service_server::{SERVICE_NAME, SelectorServiceServer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

pub use config::Config;
pub use error::Error;
pub use fuse::Mode;
pub use model::{Config as ModelConfig, Use as ModelUse};

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
    /// Authorities that the model's server may be certified by, besides the system's.
    pub authorities: reach::Authorities,
    /// Signs page tokens.
    pub pages: PageKey,
    /// Ends the background tasks.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("selector", sqlx::migrate!("../../migrations/selector"))
}

/// Reads what was learned and the model, starts the background tasks and gives the routes to serve. Fails when the
/// database cannot be read; a model that cannot be used costs quality alone.
pub async fn start(config: &Config, parts: Parts) -> Result<Routes, Error> {
    let selections = selections::Selections::new();
    let indexes = index::Indexes::new(parts.catalog.clone());
    let vectors = vectors::Vectors::new(embedding(config).await);
    make_vectors(config, &parts, &vectors, &indexes);
    let (learned, sequences, policies, pins) = memories(config, &parts).await?;
    let (database, stop) = (&parts.database, &parts.stop);
    parts.tasks.spawn(selections::write(
        database.clone(),
        selections.1,
        config.selection_write_timeout(),
        stop.clone(),
    ));
    parts.tasks.spawn(selections::expire(database.clone(), stop.clone()));
    let (learns, follows) = (learned.clone(), sequences.clone());
    let desk = learn::Desk { learned: learns, sequences: follows, catalog: parts.catalog.clone() };
    let ledger = learn::Ledger::start(database, desk);
    let selector = select::Selector {
        indexes,
        vectors,
        learned: learned.clone(),
        sequences: sequences.clone(),
        permissions: permit::Permissions::new(parts.permissions, parts.outgoing),
        pins,
        selections: selections.0,
        policies: policies.clone(),
        help: model::Help::new(&config.model, &parts.authorities),
        min_semantic_score: config.min_semantic_score,
    };
    let (pages, database, catalog) = (parts.pages, parts.database, parts.catalog);
    let service = rpc::Service {
        ledger,
        learned,
        pages,
        selector,
        database,
        catalog,
        policies,
        sequences,
        selection_write_timeout: config.selection_write_timeout(),
    };
    Ok(Routes::new(SelectorServiceServer::new(service)))
}

/// The copies in memory of what the database has, each followed from here on.
async fn memories(
    config: &Config,
    parts: &Parts,
) -> Result<(learn::Learned, patterns::Sequences, policy::Policies, pins::Pins), Error> {
    let (database, stop) = (&parts.database, &parts.stop);
    store::changes_adopt(database.pool()?).await?;
    let (learned, learned_from) = learn::start(database).await?;
    let (sequences, policies, pins) =
        (patterns::Sequences::default(), policy::Policies::new(config.weights()), pins::Pins::default());
    let sequences_from = sequences.read(database, 0).await?;
    let policies_from = policies.read(database, 0).await?;
    let pins_from = pins.read(database, 0).await?;
    parts.tasks.spawn(learn::follow(learned.clone(), database.clone(), learned_from, stop.clone()));
    parts.tasks.spawn(sequences.clone().follow(database.clone(), sequences_from, stop.clone()));
    parts.tasks.spawn(policies.clone().follow(database.clone(), policies_from, stop.clone()));
    parts.tasks.spawn(pins.clone().follow(database.clone(), pins_from, stop.clone()));
    Ok((learned, sequences, policies, pins))
}

async fn embedding(config: &Config) -> embedding::Embedding {
    let (folder, mode, threads) = (config.folder().map(Path::to_owned), config.mode, config.threads);
    let open = move || embedding::Embedding::open(folder.as_deref(), mode, threads);
    match tokio::task::spawn_blocking(open).await {
        Ok(embedding) => embedding,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}

/// Has the vectors of tools made in the background, where there is a model.
fn make_vectors(config: &Config, parts: &Parts, vectors: &vectors::Vectors, indexes: &index::Indexes) {
    let Some(embedder) = vectors.embedding.embedder() else { return };
    let maker = vectors::Maker {
        vectors: vectors.clone(),
        indexes: indexes.clone(),
        database: parts.database.clone(),
        lanes: Arc::new(lanes::Lanes::start(embedder, config.threads)),
        stop: parts.stop.clone(),
    };
    parts.tasks.spawn(maker.run());
}

#[cfg(test)]
mod tests;
