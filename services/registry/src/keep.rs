//! Keeps the tools of every MCP server up to date: one task a server (`keeper.rs`), so that one that hangs
//! delays no other, and one process a server, by a lease. Must never let the broken ones use up what the others
//! need to start.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use ::store::Database;
use tokio::sync::{Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    Error,
    config::TrustPolicy,
    credentials::Credentials,
    keeper::Keeper,
    store::{self, ServerKey},
};

/// How long a process that fell silent keeps its servers from the others.
const LEASE: Duration = Duration::from_secs(30);
/// A lease that has less left is renewed: all of a process in one statement, every 10 s or so.
const RENEW_BELOW: Duration = Duration::from_secs(20);
/// How often the servers are looked up in case that news was lost.
const POLL: Duration = Duration::from_secs(5);
/// Least time from one look to the next, however much news there is.
const BREATH: Duration = Duration::from_millis(20);
/// Programs that start at once: as many as that, and fewer of servers that were broken before.
const STARTS: usize = 8;
const BROKEN_STARTS: usize = 4;
/// A start that takes longer gives its place away: those that hang hold up the others only so long.
const START_TURN: Duration = Duration::from_secs(2);

/// What every keeper needs.
pub(crate) struct Shared {
    pub database: Database,
    /// This process, as leases know it.
    pub owner: Uuid,
    /// Time from one discovery of a server to the next.
    pub interval: Duration,
    /// Time from one probe of a server to the next.
    pub check_interval: Duration,
    /// Share of answers from which a server is healthy.
    pub threshold: f64,
    /// How long a server may take to be reached and listed.
    pub timeout: Duration,
    pub retries: u32,
    /// Which definitions serve without approval.
    pub trust: TrustPolicy,
    /// Programs that may be run.
    pub commands: mcp::Commands,
    /// What servers are reached with.
    pub credentials: Credentials,
    pub starts: Starts,
    pub stop: CancellationToken,
}

/// Whose turn it is to start a program.
pub(crate) struct Starts {
    sound: Semaphore,
    broken: Semaphore,
}

impl Default for Starts {
    fn default() -> Self {
        Self { sound: Semaphore::new(STARTS), broken: Semaphore::new(BROKEN_STARTS) }
    }
}

impl Starts {
    /// Does the work when it is its turn.
    pub(crate) async fn in_turn<T>(&self, was_broken: bool, work: impl Future<Output = T>) -> T {
        let lane = if was_broken { &self.broken } else { &self.sound };
        // The lanes are never closed.
        let turn = lane.acquire().await.ok();
        let mut work = std::pin::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(START_TURN) => drop(turn),
        }
        work.await
    }
}

/// Runs a keeper for each server that this process has the lease on, until told to stop.
pub(crate) async fn keep(shared: Arc<Shared>, mut bell: watch::Receiver<u64>, tasks: TaskTracker) {
    let mut keepers: HashMap<ServerKey, watch::Sender<i64>> = HashMap::new();
    loop {
        bell.borrow_and_update();
        if let Err(error) = assign(&shared, &mut keepers, &tasks).await {
            tracing::warn!(%error, "mcp servers cannot be looked up");
        }
        tokio::time::sleep(BREATH).await;
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
    let pool = shared.database.pool()?;
    let entries = store::servers_claim(pool, shared.owner, LEASE, RENEW_BELOW).await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starts_that_hang_hold_up_the_others_only_for_their_turn() {
        let starts = Arc::new(Starts::default());
        for _ in 0..STARTS {
            let starts = Arc::clone(&starts);
            tokio::spawn(async move { starts.in_turn(false, std::future::pending::<()>()).await });
        }
        for _ in 0..100 {
            let starts = Arc::clone(&starts);
            tokio::spawn(async move { starts.in_turn(true, std::future::pending::<()>()).await });
        }
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        starts.in_turn(false, async {}).await;
        assert_eq!(began.elapsed(), START_TURN, "the places were taken, and given away after their turn");
    }
}
