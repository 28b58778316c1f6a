//! Group commit: intents, outcomes and events of many calls in one transaction, so that a durable call
//! costs a share of a flush and not a flush. No tool may run before its intent came back from here.

use std::time::Duration;

use ::store::{Database, Error};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::store::{self, Intent, OutboxEvent, Outcome, ProgressEvent};

/// Entries written at once.
const MAX_BATCH: usize = 256;
/// Bytes of long texts written at once, unless one entry alone has more.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Entries that may wait; more make their callers wait.
const QUEUE: usize = 4_096;

enum Entry {
    Intent(Box<Intent>, oneshot::Sender<Result<bool, Error>>),
    Outcome(Box<Outcome>, oneshot::Sender<Result<bool, Error>>),
    Events(Vec<OutboxEvent>, oneshot::Sender<Result<bool, Error>>),
    Progress(Box<ProgressEvent>),
}

/// The way to write. Cheap to clone; the writers end when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    durable: mpsc::Sender<Entry>,
    relaxed: mpsc::Sender<Entry>,
}

impl Ledger {
    /// The ledger and the two writers to run: one waits for the disk, the other does not.
    pub(crate) fn new(database: &Database) -> (Self, [impl Future<Output = ()> + use<>; 2]) {
        let (durable, durable_entries) = mpsc::channel(QUEUE);
        let (relaxed, relaxed_entries) = mpsc::channel(QUEUE);
        let writers =
            [write(database.clone(), durable_entries, true), write(database.clone(), relaxed_entries, false)];
        (Self { durable, relaxed }, writers)
    }

    /// Records an intent; `false` when its request id is taken.
    pub(crate) async fn intent(&self, intent: Intent, durable: bool) -> Result<bool, Error> {
        self.send(durable, |done| Entry::Intent(Box::new(intent), done)).await
    }

    /// Records an outcome with its events; `false` when the execution was closed by another process.
    /// Goes on through any outage of the database: what has run must be recorded.
    pub(crate) async fn outcome(&self, outcome: Outcome, durable: bool) -> Result<bool, Error> {
        let mut rest = Duration::from_millis(50);
        loop {
            match self.send(durable, |done| Entry::Outcome(Box::new(outcome.clone()), done)).await {
                Err(Error::Unavailable(_)) => {
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(Duration::from_secs(1));
                }
                done => return done,
            }
        }
    }

    /// Records events that belong to no execution.
    pub(crate) async fn events(&self, events: Vec<OutboxEvent>) -> Result<(), Error> {
        self.send(false, |done| Entry::Events(events, done)).await.map(drop)
    }

    /// Keeps what a running tool said; when too much waits already, it is left out: nothing waits for it.
    pub(crate) fn progress(&self, event: ProgressEvent) {
        let _ = self.relaxed.try_send(Entry::Progress(Box::new(event)));
    }

    async fn send(
        &self,
        durable: bool,
        entry: impl FnOnce(oneshot::Sender<Result<bool, Error>>) -> Entry,
    ) -> Result<bool, Error> {
        let (done, answer) = oneshot::channel();
        let queue = if durable { &self.durable } else { &self.relaxed };
        queue.send(entry(done)).await.map_err(|_| Error::Unavailable(None))?;
        answer.await.unwrap_or(Err(Error::Unavailable(None)))
    }
}

impl Entry {
    /// Bytes of its long texts.
    fn bytes(&self) -> usize {
        let payloads = |events: &[OutboxEvent]| events.iter().map(|event| event.payload.len()).sum::<usize>();
        match self {
            Self::Intent(intent, _) => {
                intent.execution.arguments_json.len() + intent.job.as_ref().map_or(0, String::len)
            }
            Self::Outcome(outcome, _) => outcome.result_json.len() + payloads(&outcome.events),
            Self::Events(events, _) => payloads(events),
            Self::Progress(event) => event.body_json.len(),
        }
    }
}

async fn write(database: Database, mut entries: mpsc::Receiver<Entry>, durable: bool) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while entries.recv_many(&mut batch, MAX_BATCH).await > 0 {
        for part in parts(std::mem::take(&mut batch)) {
            write_together(&database, part, durable).await;
        }
    }
}

/// The same entries in the same order, in parts of a bounded size.
fn parts(batch: Vec<Entry>) -> Vec<Vec<Entry>> {
    let (mut parts, mut bytes) = (vec![Vec::new()], 0);
    for entry in batch {
        bytes += entry.bytes();
        if bytes > MAX_BATCH_BYTES {
            bytes = entry.bytes();
            parts.push(Vec::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push(entry);
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

async fn write_together(database: &Database, batch: Vec<Entry>, durable: bool) {
    match commit(database, &batch, durable).await {
        Ok(written) => answer(batch, &written),
        // One row that the database refuses must not fail its neighbours.
        Err(Error::Failed(_) | Error::Conflict { .. }) if batch.len() > 1 => {
            for entry in batch {
                commit_alone(database, entry, durable).await;
            }
        }
        Err(error) => refuse(batch, error),
    }
}

async fn commit_alone(database: &Database, entry: Entry, durable: bool) {
    let alone = vec![entry];
    match commit(database, &alone, durable).await {
        Ok(written) => answer(alone, &written),
        Err(error) => refuse(alone, error),
    }
}

/// Ids of the executions whose intent or outcome was written.
struct Written {
    intents: Vec<Uuid>,
    outcomes: Vec<Uuid>,
}

async fn commit(database: &Database, batch: &[Entry], durable: bool) -> Result<Written, Error> {
    let (mut intents, mut outcomes, mut events, mut progress) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for entry in batch {
        match entry {
            Entry::Intent(intent, _) => intents.push(&**intent),
            Entry::Outcome(outcome, _) => outcomes.push(&**outcome),
            Entry::Events(more, _) => events.extend(more),
            Entry::Progress(event) => progress.push(&**event),
        }
    }
    let mut transaction = store::begin(database.pool()?, durable).await?;
    let mut written = Written { intents: Vec::new(), outcomes: Vec::new() };
    if !intents.is_empty() {
        written.intents = store::intents_insert_in_txn(&mut transaction, &intents).await?;
    }
    if !outcomes.is_empty() {
        written.outcomes = store::outcomes_update_in_txn(&mut transaction, &outcomes).await?;
        if written.outcomes.len() < outcomes.len() {
            // Written before, by a commit whose answer was lost.
            written.outcomes.extend(store::outcomes_recorded_in_txn(&mut transaction, &outcomes).await?);
        }
    }
    if !events.is_empty() {
        store::events_insert_in_txn(&mut transaction, &events).await?;
    }
    if !progress.is_empty() {
        store::progress_insert_in_txn(&mut transaction, &progress).await?;
    }
    transaction.commit().await.map_err(Error::from)?;
    Ok(written)
}

fn answer(batch: Vec<Entry>, written: &Written) {
    for entry in batch {
        // A caller that stopped waiting does not undo what is written.
        let _ = match entry {
            Entry::Intent(intent, done) => done.send(Ok(written.intents.contains(&intent.execution.id))),
            Entry::Outcome(outcome, done) => done.send(Ok(written.outcomes.contains(&outcome.id))),
            Entry::Events(_, done) => done.send(Ok(true)),
            Entry::Progress(_) => Ok(()),
        };
    }
}

fn refuse(batch: Vec<Entry>, error: Error) {
    let unavailable = matches!(error, Error::Unavailable(_));
    if !unavailable {
        // The message alone: the detail of a database error repeats the row.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, entries = batch.len(), "ledger entries were refused by the database");
    }
    let mut first = Some(error);
    for entry in batch {
        let (Entry::Intent(_, done) | Entry::Outcome(_, done) | Entry::Events(_, done)) = entry else {
            continue;
        };
        // An error cannot be copied: the first caller gets its detail, the others its kind.
        let error = first.take().unwrap_or(Error::Unavailable(None));
        let _ = done.send(Err(error));
    }
}
