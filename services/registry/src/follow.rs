//! Follows what any process changes, one connection for the whole process, and wakes whoever waits for
//! it. Carries no rows: whoever is woken reads them itself, so that a slow reader costs no memory.

use std::time::Duration;

use ::store::Database;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{self, Listener, News},
};

/// How often the database is asked in case that news was lost.
const POLL: Duration = Duration::from_secs(3);

/// What others wait on.
#[derive(Debug, Clone)]
pub(crate) struct Changes {
    /// The last revision of the catalog known.
    pub revision: watch::Receiver<i64>,
    /// Rings when a server's row changed, or may have.
    pub servers: watch::Receiver<u64>,
}

/// What is waited for, and the future that tells it until told to stop.
pub(crate) fn follow(
    database: Database,
    stop: CancellationToken,
) -> (Changes, impl Future<Output = ()> + Send) {
    let (revision, revisions) = watch::channel(0);
    let (bell, servers) = watch::channel(0);
    let teller = Teller { database, revision, bell };
    let work = async move {
        tokio::select! {
            () = teller.tell() => {}
            () = stop.cancelled() => {}
        }
    };
    (Changes { revision: revisions, servers }, work)
}

struct Teller {
    database: Database,
    revision: watch::Sender<i64>,
    bell: watch::Sender<u64>,
}

impl Teller {
    async fn tell(self) {
        loop {
            if let Err(error) = self.listen().await {
                tracing::warn!(%error, "listening for changes failed; it is taken up again");
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn listen(&self) -> Result<(), Error> {
        let mut listener = Listener::connect(self.database.pool()?).await?;
        self.look().await?;
        loop {
            match tokio::time::timeout(POLL, listener.next()).await {
                Ok(Ok(News::Revision(revision))) => self.reached(revision),
                Ok(Ok(News::Servers)) => self.ring(),
                Ok(Ok(News::Missed)) | Err(_) => self.look().await?,
                Ok(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Asks, in case that news was lost.
    async fn look(&self) -> Result<(), Error> {
        self.reached(store::revision(self.database.pool()?).await?);
        self.ring();
        Ok(())
    }

    fn reached(&self, revision: i64) {
        self.revision.send_if_modified(|known| {
            let is_new = revision > *known;
            *known = revision.max(*known);
            is_new
        });
    }

    fn ring(&self) {
        self.bell.send_modify(|count| *count = count.wrapping_add(1));
    }
}
