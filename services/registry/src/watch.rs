//! Sends a snapshot of the catalog, or what changed in it since a revision, then every change. Rows are read only as
//! fast as the receiver takes them: nothing is queued for a slow one but the page it is at.

use std::{collections::VecDeque, time::Duration};

use ::rpc::Share;
use ::store::Database;
use futures_util::Stream;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    store::{self, Cursor, ToolRow},
};

/// Rows read at once.
const PAGE: i64 = 64;

/// One step of a watch.
#[derive(Debug)]
pub(crate) struct Event {
    pub step: Step,
    /// Up to here the receiver knows everything.
    pub revision: i64,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Step {
    Upserted(Box<ToolRow>),
    SnapshotEnd(i32),
    Heartbeat,
}

/// How a watch runs.
pub(crate) struct Options {
    pub database: Database,
    /// The last revision known; wakes the watch.
    pub revision: watch::Receiver<i64>,
    /// Whose tools; `None`: every team's.
    pub team: Option<String>,
    /// The last revision that the receiver knows: only what changed after it is sent. 0: everything.
    pub from_revision: i64,
    pub heartbeat: Duration,
    pub stop: CancellationToken,
}

/// The stream; it ends when told to stop, or with the first error. Until then it has its place among its team's; the
/// suite's own watches need none.
pub(crate) fn watch(
    options: Options,
    place: Option<Share<String>>,
) -> impl Stream<Item = Result<Event, Error>> + Send {
    let from = options.from_revision;
    let watch = Watch {
        _place: place,
        options,
        cursor: start(from),
        known: from,
        in_snapshot: true,
        is_caught_up: false,
        sent: 0,
        pending: VecDeque::new(),
        last: Instant::now(),
    };
    futures_util::stream::unfold(Some(watch), |watch| async {
        let mut watch = watch?;
        match watch.next().await {
            Ok(event) => event.map(|event| (Ok(event), Some(watch))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

/// Before the first row after this revision: every name comes after the empty one.
fn start(revision: i64) -> Cursor {
    Cursor { revision: revision + 1, team_id: String::new(), name: String::new() }
}

struct Watch {
    _place: Option<Share<String>>,
    options: Options,
    cursor: Cursor,
    /// Everything up to this revision has been read.
    known: i64,
    in_snapshot: bool,
    is_caught_up: bool,
    sent: i32,
    pending: VecDeque<Event>,
    /// When something was last sent.
    last: Instant,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<Event>, Error> {
        while !self.options.stop.is_cancelled() {
            if let Some(event) = self.pending.pop_front() {
                self.last = Instant::now();
                return Ok(Some(event));
            }
            if !self.is_caught_up {
                self.read().await?;
            } else if !self.wait().await {
                self.last = Instant::now();
                return Ok(Some(Event { step: Step::Heartbeat, revision: self.known }));
            }
        }
        Ok(None)
    }

    /// Waits for a change; `false` when it is time for a heartbeat.
    async fn wait(&mut self) -> bool {
        let known = self.known;
        let changed = tokio::select! {
            biased;
            changed = self.options.revision.wait_for(|revision| *revision > known) => changed.is_ok(),
            () = tokio::time::sleep_until(self.last + self.options.heartbeat) => return false,
            () = self.options.stop.cancelled() => return true,
        };
        if changed {
            self.is_caught_up = false;
        } else {
            // The process is ending: nobody tells of changes any more.
            self.options.stop.cancelled().await;
        }
        true
    }

    /// Reads the next page. The revision is read first: all that was committed up to it is in the rows
    /// that follow, or in a later state of them.
    async fn read(&mut self) -> Result<(), Error> {
        let pool = self.options.database.pool()?;
        let revision = store::revision(pool).await?;
        if self.in_snapshot && self.sent == 0 && revision < self.known {
            // An older state of the database was restored: what the receiver knows is of another history.
            (self.cursor, self.known) = (start(0), 0);
        }
        let team = self.options.team.as_deref();
        let rows = store::tools_after(pool, team, &self.cursor, PAGE).await?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < PAGE;
        for row in rows {
            self.cursor =
                Cursor { revision: row.revision, team_id: row.team_id.clone(), name: row.name.clone() };
            self.sent = self.sent.saturating_add(1);
            // More rows of the same revision may follow.
            let known = self.known.max(row.revision - 1);
            self.pending.push_back(Event { step: Step::Upserted(Box::new(row)), revision: known });
        }
        if is_last {
            self.catch_up(revision);
        }
        Ok(())
    }

    fn catch_up(&mut self, revision: i64) {
        // The place to begin at is no row that was read.
        let read = if self.sent > 0 { self.cursor.revision } else { 0 };
        self.known = self.known.max(revision).max(read);
        self.is_caught_up = true;
        if self.in_snapshot {
            self.in_snapshot = false;
            self.pending.push_back(Event { step: Step::SnapshotEnd(self.sent), revision: self.known });
        } else if let Some(last) = self.pending.back_mut() {
            last.revision = self.known;
        }
    }
}
