//! Tells services of decisions as they are made, by whichever process. Nothing is kept for who is not there or is slow:
//! whoever waits for a decision asks now and then all the same.

use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::store::Decided;

/// Decisions that a slow watcher may be behind before it misses some.
const KEPT: usize = 1_024;
/// How long a watcher hears nothing before it is told that it is still told.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Where decisions are told. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Decisions(broadcast::Sender<Decided>);

impl Default for Decisions {
    fn default() -> Self {
        Self(broadcast::Sender::new(KEPT))
    }
}

impl Decisions {
    /// Tells everybody who watches.
    pub(crate) fn tell(&self, decided: Decided) {
        // Without a receiver there is nobody to tell.
        let _ = self.0.send(decided);
    }

    /// What is decided from now on, until told to stop. `None`: nothing for a while, or something was missed. It is
    /// among the first of it, so that who watches knows when that has begun.
    pub(crate) fn watch(
        &self,
        stop: CancellationToken,
    ) -> impl Stream<Item = Option<Decided>> + Send + use<> {
        let begun = stream::once(std::future::ready(None));
        let receiver = self.0.subscribe();
        stream::StreamExt::chain(
            begun,
            stream::unfold((receiver, stop), |(mut receiver, stop)| async move {
                let heard = tokio::select! {
                    heard = receiver.recv() => heard,
                    () = tokio::time::sleep(HEARTBEAT) => Err(RecvError::Lagged(0)),
                    () = stop.cancelled() => Err(RecvError::Closed),
                };
                match heard {
                    Ok(decided) => Some((Some(decided), (receiver, stop))),
                    Err(RecvError::Lagged(_)) => Some((None, (receiver, stop))),
                    Err(RecvError::Closed) => None,
                }
            }),
        )
    }
}
