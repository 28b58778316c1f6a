//! The certificates of a process: what it shows, to whom, and that renewed files are taken.

use rpc::Tls;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{Role, Roles, Settings};

/// What this process shows, and to whom.
pub(crate) struct Secured {
    /// To other processes of the suite.
    pub processes: Option<Tls>,
    /// To clients of the edge.
    pub edge: Option<Tls>,
}

impl Secured {
    /// From the files that the settings name.
    pub(crate) fn read(settings: &Settings, roles: &Roles) -> anyhow::Result<Self> {
        let edge = if roles.has(Role::Edge) { settings.edge.tls.public() } else { Ok(None) };
        let (processes, edge) = (settings.tls.mutual().map_err(anyhow::Error::msg)?, edge);
        Ok(Self { processes, edge: edge.map_err(anyhow::Error::msg)? })
    }

    /// Takes renewed files until told to stop.
    pub(crate) fn keep_fresh(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        for tls in [&self.processes, &self.edge].into_iter().flatten() {
            tasks.spawn(stop.clone().run_until_cancelled_owned(tls.clone().keep_fresh()));
        }
    }
}
