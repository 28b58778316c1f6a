//! The audit service: keeps every event of the suite in a signed tree a team, proves it, and answers questions about it.
//!
//! An event comes in by `append.rs`, sealed by `payload.rs` under a key of `subjects.rs`, and is written by `ledger.rs`
//! for many requests at once; `sequencer.rs` makes leaves of records and signs (`sign.rs`), `checkpoints.rs` copies what
//! was signed (`copy/`). It is read by `query.rs`, `watch.rs`, `export.rs`, `prove.rs`, `report.rs`, `usage.rs` and
//! `costs.rs`; compared with executions by `reconcile.rs`; and taken out by `retention.rs` and `erase.rs` alone, unless
//! `holds.rs` keeps it. What the hash of a leaf covers is never changed.

mod adopt;
mod append;
mod checkpoints;
mod config;
mod copy;
mod costs;
mod erase;
mod error;
mod export;
mod fold;
mod health;
mod holds;
mod leaf;
mod ledger;
mod own;
mod payload;
mod peers;
mod prove;
mod query;
mod reconcile;
mod report;
mod retention;
mod review;
mod rpc;
mod sequencer;
mod sign;
mod store;
mod subjects;
mod usage;
mod verdict;
mod watch;

use std::sync::Arc;

use ::rpc::{Link, Outgoing, PageKey};
use ::store::{Database, Schema};
use proto::audit::v1::audit_service_server::{AuditServiceServer, SERVICE_NAME};
use tokio::sync::watch as channel;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use append::Journal;
use erase::Eraser;
use peers::Peers;
use reconcile::Reconciler;
use report::Reports;
use sequencer::Sequencer;
use subjects::Subjects;
use watch::Watches;

pub use checkpoints::{Checkpoints, CheckpointsWatch};
pub use config::{CheckpointConfig, Config, HttpMethod, OnFailure, RetentionDays, S3Config};
pub use error::Error;
pub use sign::Signer;

/// Full name of the gRPC service, as health and reflection know it.
pub const SERVICE: &str = SERVICE_NAME;
/// Name under which health tells whether checkpoints are signed and reach their second places.
pub const CHECKPOINTS: &str = "toolcrib.audit.v1.AuditService/checkpoints";

/// What the service is given to run.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Where the trail is kept.
    pub database: Database,
    /// Signs page tokens.
    pub pages: PageKey,
    /// The executor service: knows what was done.
    pub executor: Link,
    /// The permissions service: keeps access requests, and budgets.
    pub permissions: Link,
    /// The selector service: keeps selections, and feedback on them.
    pub selector: Link,
    /// Makes requests to them.
    pub outgoing: Outgoing,
    /// The signing key and the second places of checkpoints.
    pub checkpoints: Checkpoints,
    /// Ends the background tasks.
    pub stop: CancellationToken,
    /// Counts the background tasks.
    pub tasks: TaskTracker,
}

/// The tables of the service.
pub fn schema() -> Schema {
    Schema::new("audit", sqlx::migrate!("../../migrations/audit"))
}

/// Signs the trail and brings checkpoints to their second places, as long as the process lives.
fn sequence(config: &Config, parts: &Parts, subjects: &Subjects) {
    let (office, in_office) = channel::channel(false);
    let (database, checkpoints) = (&parts.database, &parts.checkpoints);
    let sequencer = Sequencer::new(
        database.clone(),
        checkpoints.clone(),
        subjects.clone(),
        (config.sequence_interval(), config.sequence_batch),
    );
    parts.tasks.spawn(sequencer.run(office, parts.stop.clone()));
    parts.tasks.spawn(health::follow(checkpoints.clone(), database.clone(), parts.stop.clone()));
    let both = || (checkpoints.clone(), database.clone());
    for place in checkpoints.places() {
        let ((checkpoints, database), place) = (both(), Arc::clone(place));
        let keep = checkpoints::keep(checkpoints, database, place, in_office.clone(), parts.stop.clone());
        parts.tasks.spawn(keep);
    }
    let (checkpoints, database) = both();
    parts.tasks.spawn(checkpoints::survey(checkpoints, database, in_office, parts.stop.clone()));
}

/// Goes on with erasures, and compares executions with the trail, as long as the process lives.
fn keepers(config: &Config, parts: &Parts, journal: &Journal) -> (Eraser, Reconciler) {
    let Parts { database, checkpoints, stop, tasks, .. } = parts;
    let peers = Peers {
        executor: parts.executor.clone(),
        permissions: parts.permissions.clone(),
        selector: parts.selector.clone(),
        outgoing: parts.outgoing.clone(),
    };
    let signer = checkpoints.signer().clone();
    let eraser = Eraser::new(database.clone(), journal.clone(), peers.clone(), signer);
    let times = (config.reconcile_grace(), config.reconcile_interval());
    let reconciler = Reconciler::new(database.clone(), peers, journal.clone(), times);
    tasks.spawn(eraser.clone().keep(stop.clone()));
    tasks.spawn(reconciler.clone().keep(stop.clone()));
    (eraser, reconciler)
}

/// Starts the background tasks and gives the routes to serve.
pub fn start(config: &Config, parts: Parts) -> Routes {
    parts.tasks.spawn(append::keep_partitions(
        parts.database.clone(),
        config.partition_check_interval(),
        parts.stop.clone(),
    ));
    let subjects = Subjects::new(parts.database.clone(), &config.key_file);
    sequence(config, &parts, &subjects);
    parts.tasks.spawn(subjects.clone().keep(parts.stop.clone()));
    let journal = Journal::start(&parts.database, subjects);
    let (eraser, reconciler) = keepers(config, &parts, &journal);
    parts.tasks.spawn(retention::keep_applied(
        parts.database.clone(),
        journal.clone(),
        config.retention_days,
        parts.stop.clone(),
    ));
    let watches = Watches::new(
        parts.database.clone(),
        journal.subjects.clone(),
        config.watch_limits(),
        parts.stop.clone(),
    );
    parts.tasks.spawn(watches.clone().keep_fed());
    let reports = Reports {
        database: parts.database.clone(),
        journal: journal.clone(),
        signer: parts.checkpoints.signer().clone(),
        reconciler: reconciler.clone(),
        retention: config.retention_days,
    };
    let service = rpc::Service {
        reports,
        watches,
        permissions: parts.permissions,
        outgoing: parts.outgoing,
        database: parts.database,
        journal,
        eraser,
        reconciler,
        pages: parts.pages,
        checkpoints: parts.checkpoints,
    };
    Routes::new(AuditServiceServer::new(service))
}

#[cfg(test)]
mod tests;
