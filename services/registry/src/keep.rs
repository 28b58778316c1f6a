//! Keeps the tools of every MCP server up to date: one task a server, so that one that hangs delays no
//! other, and one process a server, by a lease.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ::store::Database;
use tokio::{sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    Error,
    discover::{News, Session},
    normalise::clean,
    store::{self, Outcome, ServerKey, ServerRow, ServerState},
    take,
};

/// How long a process that fell silent keeps its servers from the others.
const LEASE: Duration = Duration::from_secs(30);
/// How often the lease is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How often the servers are looked up in case that news was lost.
const POLL: Duration = Duration::from_secs(5);
/// Pause after the first failed attempt, and after the first failed discovery; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const FIRST_DELAY: Duration = Duration::from_secs(5);
/// Least time between a server's word that its tools changed and the next discovery.
const SETTLE: Duration = Duration::from_secs(1);
/// A connection that lasted so long ended for a reason of its own.
const STEADY: Duration = Duration::from_mins(1);
/// Longest text of an error that is kept, in characters.
const MAX_ERROR: usize = 500;

/// What every keeper needs.
pub(crate) struct Shared {
    pub database: Database,
    /// This process, as leases know it.
    pub owner: Uuid,
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
    pub stop: CancellationToken,
}

/// Runs a keeper for each server there is, until told to stop.
pub(crate) async fn keep(shared: Arc<Shared>, mut bell: watch::Receiver<u64>, tasks: TaskTracker) {
    let mut keepers: HashMap<ServerKey, watch::Sender<i64>> = HashMap::new();
    loop {
        bell.borrow_and_update();
        if let Err(error) = assign(&shared, &mut keepers, &tasks).await {
            tracing::warn!(%error, "mcp servers cannot be looked up");
        }
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
            Ok(()) = bell.changed() => {}
        }
    }
}

async fn assign(
    shared: &Arc<Shared>,
    keepers: &mut HashMap<ServerKey, watch::Sender<i64>>,
    tasks: &TaskTracker,
) -> Result<(), Error> {
    let entries = store::server_entries(shared.database.pool()?).await?;
    let keys: HashSet<ServerKey> =
        entries.iter().map(|entry| ServerKey { team_id: entry.team_id.clone(), id: entry.id }).collect();
    // A keeper ends when its sender is dropped.
    keepers.retain(|key, wanted| keys.contains(key) && !wanted.is_closed());
    for entry in entries {
        let key = ServerKey { team_id: entry.team_id, id: entry.id };
        let wanted = keepers.entry(key.clone()).or_insert_with(|| {
            let (sender, wanted) = watch::channel(0);
            tasks.spawn(Keeper::new(Arc::clone(shared), key, wanted).run());
            sender
        });
        wanted
            .send_if_modified(|known| std::mem::replace(known, entry.refresh_wanted) != entry.refresh_wanted);
    }
    Ok(())
}

/// Why a discovery did not work.
enum Failure {
    /// The server's fault.
    Server(mcp::Error),
    /// Our own.
    Own(Error),
}

/// Looks after one server.
struct Keeper {
    shared: Arc<Shared>,
    key: ServerKey,
    /// The last discovery asked for; its end means that the server is gone.
    wanted: watch::Receiver<i64>,
    session: Option<Session>,
    /// Connections in a row that ended early.
    closed_early: u32,
    /// When to list again because of what the session said.
    again: Option<Instant>,
}

impl Keeper {
    fn new(shared: Arc<Shared>, key: ServerKey, wanted: watch::Receiver<i64>) -> Self {
        Self { shared, key, wanted, session: None, closed_early: 0, again: None }
    }

    async fn run(mut self) {
        loop {
            // Without a claim, another process has it, or the database is away.
            let pause = if let Ok(Some(server)) = self.claim().await {
                self.tend(&server).await
            } else {
                self.session = None;
                RENEW
            };
            if !self.rest(pause).await {
                break;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        if let Ok(pool) = self.shared.database.pool() {
            let released = store::lease_release(pool, &self.key, self.shared.owner).await;
            tracing::debug!(released = released.is_ok(), "mcp server let go");
        }
    }

    async fn claim(&self) -> Result<Option<ServerRow>, Error> {
        let pool = self.shared.database.pool()?;
        Ok(store::server_claim(pool, &self.key, self.shared.owner, LEASE).await?)
    }

    /// Discovers if it is time, and gives how long to rest then.
    async fn tend(&mut self, server: &ServerRow) -> Duration {
        let heard = self.again.is_some_and(|at| at <= Instant::now());
        if !server.is_due() && !heard {
            let due = Duration::from_millis(u64::try_from(server.due_in_ms).unwrap_or(0));
            let again = self.again.map_or(RENEW, |at| at.saturating_duration_since(Instant::now()));
            return due.min(again).min(RENEW);
        }
        let (shared, mut wanted) = (Arc::clone(&self.shared), self.wanted.clone());
        tokio::select! {
            pause = self.discover(server) => pause,
            () = renew_until_lost(&shared, server) => Duration::ZERO,
            () = shared.stop.cancelled() => Duration::ZERO,
            () = async { while wanted.changed().await.is_ok() {} } => Duration::ZERO,
        }
    }

    /// Rests; `false` when the server is gone or it is time to stop.
    async fn rest(&mut self, pause: Duration) -> bool {
        let Self { shared, session, wanted, .. } = self;
        let news = async {
            match session {
                Some(session) => session.news().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return false,
            changed = wanted.changed() => return changed.is_ok(),
            news = news => self.hear(news),
            () = tokio::time::sleep(pause) => {}
        }
        true
    }

    fn hear(&mut self, news: News) {
        let pause = match news {
            News::Changed => SETTLE,
            News::Closed => {
                let was_steady = self.session.take().is_some_and(|session| session.age() >= STEADY);
                self.closed_early = if was_steady { 0 } else { self.closed_early + 1 };
                doubled(SETTLE, self.closed_early, self.shared.interval)
            }
        };
        self.again = Some(Instant::now() + pause);
    }

    /// One discovery with its retries; gives how long to rest. A server known to be down is asked once: it
    /// is asked again soon.
    async fn discover(&mut self, server: &ServerRow) -> Duration {
        self.again = None;
        let retries = if server.state == ServerState::Unavailable { 0 } else { self.shared.retries };
        let mut attempt = 0;
        loop {
            let error = match self.attempt(server).await {
                Ok(()) => return Duration::ZERO,
                Err(Failure::Server(error)) => clean(&error.to_string(), MAX_ERROR),
                Err(Failure::Own(error)) => {
                    tracing::error!(%error, team = server.team_id, server.name, "discovery cannot be kept");
                    return RENEW;
                }
            };
            self.session = None;
            tracing::warn!(error, attempt, team = server.team_id, server.name, "mcp server cannot be listed");
            let is_last = attempt >= retries;
            if let Err(error) = self.note(server, &error, is_last).await {
                tracing::warn!(%error, "the state of an mcp server cannot be kept");
                return RENEW;
            }
            if is_last {
                return Duration::ZERO;
            }
            tokio::time::sleep(doubled(FIRST_PAUSE, attempt, self.shared.interval)).await;
            attempt += 1;
        }
    }

    async fn attempt(&mut self, server: &ServerRow) -> Result<(), Failure> {
        let started = Instant::now();
        let timeout = self.shared.timeout;
        let mut session = match self.session.take().filter(Session::is_open) {
            Some(session) => session,
            None => Session::open(&server.transport.0, timeout).await.map_err(Failure::Server)?,
        };
        let left = timeout.saturating_sub(started.elapsed());
        let tools = session.list(left).await.map_err(Failure::Server)?;
        let discovery_ms = i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let (server_version, protocol_version) = session.versions();
        self.session = Some(session);
        let Shared { database, owner, interval, .. } = &*self.shared;
        let taken = take::take(database, *owner, server, tools).await.map_err(Failure::Own)?;
        let Some(rejected_tools) = taken else { return Ok(()) };
        let outcome = Outcome {
            discovery_ms,
            server_version: clean(&server_version, 200),
            protocol_version: clean(&protocol_version, 40),
            rejected_tools,
        };
        let pool = database.pool().map_err(|error| Failure::Own(error.into()))?;
        store::server_succeed(pool, &self.key, *owner, server.refresh_wanted, *interval, &outcome)
            .await
            .map_err(|error| Failure::Own(error.into()))
    }

    async fn note(&self, server: &ServerRow, error: &str, is_last: bool) -> Result<(), Error> {
        let Shared { database, owner, interval, .. } = &*self.shared;
        let pool = database.pool()?;
        if is_last {
            let failures = u32::try_from(server.failures).unwrap_or(0);
            let next_in = doubled(FIRST_DELAY, failures, *interval);
            store::server_fail(pool, &self.key, *owner, server.refresh_wanted, next_in, error).await?;
        } else {
            store::server_note_error(pool, &self.key, *owner, error).await?;
        }
        Ok(())
    }
}

/// Renews the lease while a discovery runs; returns when it is lost.
async fn renew_until_lost(shared: &Shared, server: &ServerRow) {
    let key = server.key();
    loop {
        tokio::time::sleep(RENEW).await;
        let Ok(pool) = shared.database.pool() else { continue };
        if matches!(store::server_claim(pool, &key, shared.owner, LEASE).await, Ok(None)) {
            return;
        }
    }
}

/// `first`, doubled this often, and at most `most`.
fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(times.min(20))).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_interval() {
        let most = Duration::from_mins(5);
        let pauses: Vec<u64> = [0, 1, 5, 6, 7, 4_000].map(|n| doubled(FIRST_DELAY, n, most).as_secs()).into();
        assert_eq!(pauses, [5, 10, 160, 300, 300, 300]);
    }
}
