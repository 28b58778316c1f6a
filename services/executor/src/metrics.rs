//! The figures of each tool over the last week: made by the database every few minutes, and on demand. Never counted
//! here, so that they are the same whichever process is asked.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::rpc::PageKey;
use chrono::{DateTime, Utc};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use types::Caller;

use crate::{
    Error, Executor,
    store::{self, ToolFigures},
};

/// How long figures that were asked for anew are new enough for the next one who asks, in any process.
const FRESH: Duration = Duration::from_secs(5);

/// When this process last made them, and whose turn it is: whoever waits for it holds no connection.
#[derive(Debug)]
pub(crate) struct Refreshes {
    last: Mutex<Option<Instant>>,
    turn: Semaphore,
}

impl Default for Refreshes {
    fn default() -> Self {
        Self { last: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Refreshes {
    fn are_due(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= FRESH)
    }

    fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// The figures of one tool, and when they were made; zeros for one that did not run.
pub(crate) async fn get(
    executor: &Executor,
    caller: &Caller,
    tool: &str,
    refresh: bool,
) -> Result<(ToolFigures, DateTime<Utc>), Error> {
    if tool.is_empty() || tool.contains('\0') {
        return Err(Error::invalid("tool_name", "name a tool"));
    }
    let as_of = made(executor, refresh).await?;
    let found = store::figures_get(executor.database.pool()?, &caller.team, tool).await?;
    Ok((found.unwrap_or_else(|| ToolFigures { tool_name: tool.to_owned(), ..ToolFigures::default() }), as_of))
}

/// One page of the figures of every tool, when they were made, and the token of the next page.
pub(crate) async fn list(
    executor: &Executor,
    pages: &PageKey,
    caller: &Caller,
    refresh: bool,
    page: (i32, &str),
) -> Result<(Vec<ToolFigures>, DateTime<Utc>, String), Error> {
    let page = pages.page(page.0, page.1, format!("{}|metrics", caller.team))?;
    let as_of = made(executor, refresh).await?;
    let after = page.cursor.clone().unwrap_or_default();
    let mut rows =
        store::figures_list(executor.database.pool()?, &caller.team, &after, page.size + 1).await?;
    let next = pages.next(&page, &mut rows, |row| row.tool_name.clone());
    Ok((rows, as_of, next))
}

/// When the figures were made; anew first when that is asked for.
async fn made(executor: &Executor, refresh: bool) -> Result<DateTime<Utc>, Error> {
    let pool = executor.database.pool()?;
    if refresh && executor.refreshes.are_due() {
        let _turn = executor.refreshes.turn.acquire().await;
        // Whoever had the turn before has made them for all who waited; and so may another process have.
        if executor.refreshes.are_due() && store::figures_refresh(pool, FRESH).await? {
            executor.refreshes.note();
        }
    }
    Ok(store::figures_as_of(pool).await?)
}

/// Makes them anew again and again until told to stop; one process at a time, the others find it done.
pub(crate) async fn keep_fresh(executor: &Executor, stop: CancellationToken) {
    let interval = Duration::from_secs(executor.config.metrics_refresh_s);
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        if let Ok(pool) = executor.database.pool()
            && let Err(error) = store::figures_refresh(pool, interval / 2).await
        {
            tracing::warn!(%error, "the figures of tools cannot be made anew; tried again later");
        }
    }
}
