//! Erases what is kept of an end user: the selections made for them with all feedback on those, and their name and words
//! in other feedback. What was learned from both stays as it is: the quality that feedback moved and the centroids of
//! tasks are sums by tool, agent and category, in which nobody is named. May be repeated, by any process and after any
//! death; never done while a selection from before may still come to be written.

use std::time::Duration;

use ::store::Database;

use crate::{
    Error,
    store::{self, Erased, Subject},
};

/// Selections erased in one transaction: as long as it takes, the team learns nothing.
const BATCH: i64 = 500;

/// Erases, and tells what went under this erasure so far and whether that was all. `write_timeout`: after which no
/// selection of an end user is written any more; clocks of processes may lie half of it apart.
pub(crate) async fn erase(
    database: &Database,
    subject: &Subject,
    write_timeout: Duration,
) -> Result<(Erased, bool), Error> {
    let pool = database.pool()?;
    // Asked first: only a round that is begun after the margin sees every selection from before the erasure.
    let settled = store::erasure_is_settled(pool, subject, write_timeout * 3 / 2).await?;
    while erase_some(database, subject).await? == BATCH {}
    Ok((store::erasure_get(pool, subject).await?, settled))
}

async fn erase_some(database: &Database, subject: &Subject) -> Result<i64, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    store::teams_lock(&mut transaction, std::slice::from_ref(&subject.team)).await?;
    let gone = store::user_selections_erase(&mut transaction, subject, BATCH).await?;
    store::user_feedback_erase(&mut transaction, subject).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(gone)
}
