//! Ends access requests that nobody decided in time, and approvals whose time is over, and tells of both. Any process
//! does; the team is held, so that each ends once. Nothing is decided by it: what is past its time serves no call
//! before that either.

use std::{sync::Arc, time::Duration};

use ::store::Database;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::tell;
use crate::{Error, store, teams::Teams, webhooks::News};

/// Most that are ended in one transaction.
const BATCH: i64 = 500;
/// How often it is looked for some.
const INTERVAL: Duration = Duration::from_secs(3);

/// Sweeps until told to stop.
pub(crate) async fn keep_swept(database: Database, teams: Arc<Teams>, stop: CancellationToken) {
    let mut was_away = false;
    loop {
        match sweep(&database, &teams, Utc::now()).await {
            Ok(_) => was_away = false,
            Err(error) if !std::mem::replace(&mut was_away, true) => {
                tracing::warn!(%error, "access requests that are over cannot be ended; tried again later");
            }
            Err(_) => {}
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Ends what is past its time and what has served, and tells how many there were.
pub(crate) async fn sweep(database: &Database, teams: &Teams, now: DateTime<Utc>) -> Result<usize, Error> {
    let mut all = 0;
    for team in store::access_requests_due(database.pool()?, now).await? {
        loop {
            let ended = sweep_team(database, teams, &team, now).await?;
            all += ended;
            if ended < usize::try_from(BATCH).unwrap_or(usize::MAX) {
                break;
            }
        }
    }
    Ok(all)
}

async fn sweep_team(
    database: &Database,
    teams: &Teams,
    team: &str,
    now: DateTime<Utc>,
) -> Result<usize, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revision = store::revision_next(&mut transaction, team, now).await?;
    let served = store::access_requests_use(&mut transaction, team, (revision, BATCH)).await?;
    for row in &served {
        tell(&mut transaction, News::Used, row, None, now).await?;
    }
    let ended = store::access_requests_expire(&mut transaction, team, (now, revision, BATCH)).await?;
    for row in &ended {
        tell(&mut transaction, News::Expired, row, None, now).await?;
    }
    if served.is_empty() && ended.is_empty() {
        return Ok(0);
    }
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(team, revision);
    Ok(ended.len().max(served.len()))
}
