//! What this process hears from the others: executions to stop, cached answers that no longer count, work in
//! the queue. News may be lost while the connection is; so what was requested is also read from its rows, and
//! a cache that might have missed an invalidation is emptied. Never decides whether something may be cancelled.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use cache::Cache;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Executor,
    store::{self, Listener, Note, Signal},
};

/// How often the connection is asked whether it is there.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long after it last answered this process still counts as hearing all news: an invalidation must be
/// heard everywhere within a second.
const LIVE: Duration = Duration::from_millis(900);
/// Between two tries to connect.
const REST: Duration = Duration::from_millis(200);

/// What is known of the connection to the others.
#[derive(Debug)]
pub(crate) struct Signals {
    /// Everything that was sent up to then has been heard.
    heard: Mutex<Instant>,
}

impl Signals {
    /// Not connected yet: a process that has just begun can have missed no more than one that was cut off.
    pub(crate) fn new() -> Self {
        Self { heard: Mutex::new(Instant::now()) }
    }

    /// Whether all news up to 0.9 s ago has been heard. A cache of this process must not answer otherwise: it
    /// may hold what another process has invalidated.
    pub(crate) fn is_live(&self) -> bool {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed() < LIVE
    }

    fn hear(&self, at: Instant) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

/// Drops cached answers of a tool here, and in every other process within a second: of one set of arguments by
/// their digest, or all of them. An error when the others could not be told.
pub(crate) async fn invalidate(
    executor: &Executor,
    team: &str,
    tool: &str,
    digest: Option<&str>,
) -> Result<(), Error> {
    let told_redis = executor.cache.invalidate(team, tool, digest).await;
    let (team, tool, digest) = (team.to_owned(), tool.to_owned(), digest.map(str::to_owned));
    send(executor, Signal::Invalidate { team, tool, digest }).await?;
    if told_redis { Ok(()) } else { Err(::store::Error::Unavailable(None).into()) }
}

/// Drops every cached answer of a team, and the texts by which answers are found: here and in Redis before this returns,
/// in every other process within a second. Tells how many went here and in Redis; an error when the others, or Redis,
/// could not be told.
pub(crate) async fn invalidate_team(executor: &Executor, team: &str) -> Result<u64, Error> {
    executor.matcher.forget(team);
    let dropped = executor.cache.invalidate_team(team).await;
    send(executor, Signal::InvalidateTeam { team: team.to_owned() }).await?;
    dropped.ok_or_else(|| ::store::Error::Unavailable(None).into())
}

/// Tells the other processes that they have files to delete. They look by themselves as well.
pub(crate) async fn erased(executor: &Executor) -> Result<(), Error> {
    send(executor, Signal::Erased).await
}

/// Tells the workers of other processes that there is work in the queue. They look by themselves as well.
pub(crate) async fn job(executor: &Executor) -> Result<(), Error> {
    send(executor, Signal::Job).await
}

async fn send(executor: &Executor, signal: Signal) -> Result<(), Error> {
    let note = Note { from: executor.owner, signal };
    Ok(store::signal_send(executor.database.pool()?, &note).await?)
}

/// Listens until told to stop, over one connection at a time.
pub(crate) async fn run(executor: &Executor, stop: CancellationToken) {
    let listening = async {
        loop {
            if let Err(error) = listen(executor).await {
                tracing::debug!(%error, "the connection for news was lost");
            }
            tokio::time::sleep(REST).await;
        }
    };
    tokio::select! {
        () = listening => {}
        () = stop.cancelled() => {}
    }
}

/// Connects, takes for granted that anything was missed before, and hears until the connection is lost.
async fn listen(executor: &Executor) -> Result<(), ::store::Error> {
    let mut listener = in_time(Listener::connect(executor.database.pool()?)).await?;
    if matches!(executor.cache, Cache::Memory(_)) {
        executor.cache.clear();
    }
    ask(executor, &mut listener).await?;
    executor.queue.wake();
    let mut due = tokio::time::interval(ASK_EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            note = listener.next() => {
                if let Some(note) = note? {
                    take(executor, note).await;
                }
            }
            _ = due.tick() => ask(executor, &mut listener).await?,
        }
    }
}

/// Asks for executions of this process that are to be stopped; the answer shows that the connection is there.
async fn ask(executor: &Executor, listener: &mut Listener) -> Result<(), ::store::Error> {
    let asked = Instant::now();
    for id in in_time(listener.cancelled(executor.owner)).await? {
        executor.running.cancel(id);
    }
    executor.signals.hear(asked);
    Ok(())
}

async fn take(executor: &Executor, note: Note) {
    if note.from == executor.owner {
        return;
    }
    match note.signal {
        Signal::Cancel { id, .. } => {
            executor.running.cancel(id);
        }
        // In Redis too: this process may not be able to reach it now.
        Signal::Invalidate { team, tool, digest } => {
            executor.cache.invalidate(&team, &tool, digest.as_deref()).await;
        }
        // What is in Redis is gone: whoever sent this has seen to it.
        Signal::InvalidateTeam { team } => {
            executor.matcher.forget(&team);
            if matches!(executor.cache, Cache::Memory(_)) {
                executor.cache.invalidate_team(&team).await;
            }
        }
        Signal::Erased => executor.erasing.notify_one(),
        Signal::Job => executor.queue.wake(),
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, ::store::Error>>) -> Result<T, ::store::Error> {
    tokio::time::timeout(ANSWER, work).await.unwrap_or(Err(::store::Error::Unavailable(None)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_hears_nothing_for_a_while_is_not_live() {
        let signals = Signals::new();
        assert!(signals.is_live());
        signals.hear(Instant::now().checked_sub(LIVE).unwrap());
        assert!(!signals.is_live());
        signals.hear(Instant::now());
        assert!(signals.is_live());
    }
}
