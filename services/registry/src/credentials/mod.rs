//! Credentials that tools and servers are reached with: sealed in the database, rotated with two live versions,
//! opened only for the services that make requests. `put.rs`, `rotate.rs`, `revoke.rs`, `list.rs` and `resolve.rs`
//! are the use cases; `token.rs` keeps OAuth 2.0 tokens, `keep.rs` runs in the background. No secret may leave this
//! module but through `resolve`, and none may be logged or stand in an error.

mod certificate;
mod check;
mod config;
mod digest;
mod envelope;
mod keep;
mod list;
mod oauth;
mod outside;
mod put;
mod resolve;
mod revoke;
mod rotate;
mod rotation;
mod sealed;
mod secret;
mod settle;
mod source;
mod token;

use std::{path::PathBuf, sync::Arc};

use ::store::Database;
use keyring::KeyProvider;
use reach::Authorities;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::Error;
use outside::Outside;
use token::Flights;

pub use config::CredentialConfig;
pub(crate) use keep::keep;
pub use keyring::KeysError;
pub(crate) use list::Credential;
pub(crate) use put::Offer;
pub(crate) use resolve::Material;
pub(crate) use rotation::{Rotation, Source, State};
pub(crate) use secret::{Basic, Kind, MutualTls, OAuth2Client, OAuth2Refresh, Secret, Text};

/// The credentials of every team. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Credentials(Arc<Inner>);

struct Inner {
    database: Database,
    keys: KeyProvider,
    outside: Outside,
    authorities: Authorities,
    source_root: PathBuf,
    flights: Flights,
    tasks: TaskTracker,
}

impl Credentials {
    /// Keeps them in this database. Servers' certificates may come from these authorities as well as from those that
    /// the system trusts. What must not be cut off by a caller that goes away is counted in `tasks`.
    pub(crate) fn new(
        config: &CredentialConfig,
        authorities: Authorities,
        database: Database,
        tasks: TaskTracker,
    ) -> Self {
        Self(Arc::new(Inner {
            database,
            keys: KeyProvider::new(&config.key_file, config::KEY_FILE),
            outside: Outside::new(config.timeout(), config.allow_private_network, &authorities),
            authorities,
            source_root: config.source_root.clone(),
            flights: Flights::default(),
            tasks,
        }))
    }

    /// Whose certificates servers may have, besides those that the system trusts.
    pub(crate) fn authorities(&self) -> &Authorities {
        &self.0.authorities
    }

    /// Does something to its end, though its caller goes away.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.0.tasks.spawn(work.in_current_span()).await?
    }
}
