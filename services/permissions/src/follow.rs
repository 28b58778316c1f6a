//! Keeps what is known of the teams up to date: hears of changes as they are made, and asks for them now
//! and then all the same. What it cannot confirm it leaves to lose its trust.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::store::{Database, Error};
use tokio_util::sync::CancellationToken;

use crate::{
    access_requests::Decisions,
    store::{Listener, News},
    teams::Teams,
};

/// How often the database is asked for changes; far more often than trust ends.
const POLL: Duration = Duration::from_millis(300);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pause before the next connection.
const PAUSE: Duration = Duration::from_millis(200);

/// Follows until told to stop, and passes decisions on access requests on to whoever watches.
pub(crate) async fn follow(
    teams: Arc<Teams>,
    decisions: Decisions,
    database: Database,
    stop: CancellationToken,
) {
    let mut was_lost = false;
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return,
            lost = listen(&teams, &decisions, &database) => lost,
        };
        if let Err(error) = lost {
            if !std::mem::replace(&mut was_lost, true) {
                tracing::warn!(%error, "changes of grants are not heard; each decision reads the database");
            }
        } else {
            was_lost = false;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Follows on one connection until it is lost. `Ok` when it worked for a while.
async fn listen(teams: &Teams, decisions: &Decisions, database: &Database) -> Result<(), Error> {
    let mut listener = in_time(Listener::connect(database.pool()?)).await?;
    in_time(poll(teams, &mut listener)).await?;
    tracing::debug!("changes of grants are heard");
    loop {
        let next_poll = tokio::time::Instant::now() + POLL;
        while let Ok(heard) = tokio::time::timeout_at(next_poll, listener.next()).await {
            match heard {
                Ok(News::Revision { team, revision }) => teams.changed(&team, revision),
                Ok(News::Decided(decided)) => decisions.tell(decided),
                Ok(News::Missed) => break,
                Err(error) => {
                    tracing::debug!(%error, "the connection that listens is lost");
                    return Ok(());
                }
            }
        }
        if let Err(error) = in_time(poll(teams, &mut listener)).await {
            tracing::debug!(%error, "the connection that listens does not answer");
            return Ok(());
        }
    }
}

async fn poll(teams: &Teams, listener: &mut Listener) -> Result<(), Error> {
    let began = Instant::now();
    let (names, revisions) = teams.revisions();
    for (team, revision) in listener.revisions_after(&names, &revisions).await? {
        teams.changed(&team, revision);
    }
    teams.verified(began);
    Ok(())
}

async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or(Err(Error::Unavailable(None)))
}
