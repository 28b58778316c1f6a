//! Writes down what was answered to which question, for learning later, and lists it. Writing is off the path of the
//! answer: a selection waits for no disk, and one that cannot be written down is lost, counted and said so.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ::rpc::PageKey;
use ::store::Database;
use chrono::{DateTime, Utc};
use opentelemetry::{global, metrics::Counter};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error,
    store::{self, FeedbackRow, LoggedRow, SelectionFilter, SelectionRow},
};

/// Selections that may wait to be written.
const WAITING: usize = 4_096;
/// Most selections written at once.
const BATCH: usize = 256;
/// How long anyone waits for selections to be written that an outcome or a feedback may speak of.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often rows past their time are deleted.
const EXPIRE_INTERVAL: Duration = Duration::from_hours(1);
/// Bytes that a listed selection takes, generously, beside its offers and the feedback on it.
const ROW_BYTES: usize = 1_024;
/// Bytes of one offer.
const OFFER_BYTES: usize = 512;

/// Takes selections to write down. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Selections {
    waiting: mpsc::Sender<SelectionRow>,
    /// How many were ever given to the writer, and how many it is done with.
    given: Arc<AtomicU64>,
    done: watch::Receiver<u64>,
    lost: Lost,
}

/// Counts the selections that could not be kept.
#[derive(Debug, Clone)]
struct Lost {
    count: Arc<AtomicU64>,
    counter: Counter<u64>,
}

impl Lost {
    fn add(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.count.fetch_add(count, Ordering::Relaxed);
        self.counter.add(count, &[]);
    }
}

/// What the writer receives.
#[derive(Debug)]
pub(crate) struct Waiting {
    rows: mpsc::Receiver<SelectionRow>,
    done: watch::Sender<u64>,
    lost: Lost,
}

impl Selections {
    /// The taker, and what the writer receives from it.
    pub(crate) fn new() -> (Self, Waiting) {
        let counter = global::meter("toolcrib")
            .u64_counter("toolcrib.selector.selections_lost")
            .with_description("Selections that were answered and could not be written down.")
            .build();
        let lost = Lost { count: Arc::default(), counter };
        let (sender, receiver) = mpsc::channel(WAITING);
        let (done, seen) = watch::channel(0);
        let waiting = Waiting { rows: receiver, done, lost: lost.clone() };
        (Self { waiting: sender, given: Arc::default(), done: seen, lost }, waiting)
    }

    pub(crate) fn keep(&self, row: SelectionRow) {
        if self.waiting.try_send(row).is_ok() {
            self.given.fetch_add(1, Ordering::Release);
        } else {
            self.lost.add(1);
            tracing::warn!("a selection is not kept: too many wait, or the service stops");
        }
    }

    /// Waits until the writer is done with all that was kept so far, for a second at most: whoever was quick to call
    /// what was selected speaks of a selection that may not be written yet.
    pub(crate) async fn written(&self) {
        let given = self.given.load(Ordering::Acquire);
        let mut done = self.done.clone();
        // A writer that stops, or is slower than that, leaves the selection without what followed it.
        let _ = timeout(PATIENCE, done.wait_for(|done| *done >= given)).await;
    }

    /// Selections that wait to be written.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.max_capacity() - self.waiting.capacity()
    }

    /// Selections that could not be kept since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.count.load(Ordering::Relaxed)
    }
}

/// Writes selections until told to stop; those that wait then are still written. One of an end user is not written when
/// it is older than a time: by then it may have been erased.
pub(crate) async fn write(
    database: Database,
    mut waiting: Waiting,
    write_timeout: Duration,
    stop: CancellationToken,
) {
    let mut rows = Vec::new();
    loop {
        let taken = tokio::select! {
            biased;
            () = stop.cancelled(), if !waiting.rows.is_closed() => {
                waiting.rows.close();
                continue;
            }
            taken = waiting.rows.recv_many(&mut rows, BATCH) => taken,
        };
        if taken == 0 {
            return;
        }
        let written = match database.pool() {
            Ok(pool) => store::selections_insert(pool, &rows, write_timeout).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(written) if written < taken => {
                waiting.lost.add(taken - written);
                tracing::warn!(
                    selections = taken - written,
                    "selections of end users came too late to be kept"
                );
            }
            Ok(_) => {}
            Err(error) => {
                waiting.lost.add(taken);
                tracing::warn!(%error, selections = taken, "selections are not kept");
            }
        }
        waiting.done.send_modify(|done| *done += u64::try_from(taken).unwrap_or_default());
        rows.clear();
    }
}

/// Deletes what is past its time, until told to stop.
pub(crate) async fn expire(database: Database, stop: CancellationToken) {
    loop {
        if let Err(error) = delete_expired(&database).await {
            tracing::warn!(%error, "expired rows stay for now");
        }
        tokio::select! {
            () = tokio::time::sleep(EXPIRE_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn delete_expired(database: &Database) -> Result<(), Error> {
    Ok(store::rows_delete_expired(database.pool()?).await?)
}

/// One page of the log.
#[derive(Debug)]
pub(crate) struct Listed {
    pub rows: Vec<LoggedRow>,
    /// On any of them, in order of time.
    pub feedback: Vec<FeedbackRow>,
    pub next_page_token: String,
}

/// One page of selections, newest first, and the feedback on them. An agent sees its own only.
pub(crate) async fn list(
    (database, pages): (&Database, &PageKey),
    caller: &Caller,
    mut filter: SelectionFilter,
    page: (i32, &str),
) -> Result<Listed, Error> {
    narrow_to_own(caller, &mut filter)?;
    let page = pages
        .page(page.0, page.1, format!("selections|{}|{filter:?}", caller.team))
        .map_err(|error| Error::invalid(error.field(), error.to_string()))?;
    let before = page.cursor.as_deref().map(place).transpose()?;
    let pool = database.pool()?;
    let mut rows = store::selections_list(pool, &caller.team, &filter, before, page.size + 1).await?;
    let size = |row: &LoggedRow| {
        let feedback = usize::try_from(row.feedback_bytes).unwrap_or(usize::MAX);
        feedback.saturating_add(ROW_BYTES + row.ranked.0.len() * OFFER_BYTES)
    };
    let next_page_token = pages.next_sized(&page, &mut rows, size, |row| {
        format!("{}|{}", row.create_time.timestamp_micros(), row.id)
    });
    let ids: Vec<Uuid> = rows.iter().map(|row| row.id).collect();
    let feedback = store::feedback_list(pool, &caller.team, &ids).await?;
    Ok(Listed { rows, feedback, next_page_token })
}

fn narrow_to_own(caller: &Caller, filter: &mut SelectionFilter) -> Result<(), Error> {
    if caller.role >= Role::Auditor {
        return Ok(());
    }
    match filter.agent_id.get_or_insert_with(|| caller.agent.clone()) {
        agent if *agent == caller.agent => Ok(()),
        _ => Err(Error::invalid("agent_id", "only an auditor may read the selections of another agent")),
    }
}

/// The place behind which a page goes on.
fn place(cursor: &str) -> Result<(DateTime<Utc>, Uuid), Error> {
    let read = || {
        let (time, id) = cursor.split_once('|')?;
        Some((DateTime::from_timestamp_micros(time.parse().ok()?)?, id.parse().ok()?))
    };
    read().ok_or_else(|| Error::invalid("page_token", "holds no position"))
}
