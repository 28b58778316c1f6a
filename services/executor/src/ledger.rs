//! Group commit: intents, outcomes and events of many calls in one transaction, so that a durable call
//! costs a share of a flush and not a flush. No tool may run before its intent came back from here.

use std::time::Duration;

use ::store::{Database, Error, Kept};
use tokio::sync::{mpsc, oneshot};

use crate::{
    relay::Relays,
    store::{self, Group, Intent, OutboxEvent, Outcome, ProgressEvent, Written},
};

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
    /// The ledger with its two writers at work: one waits for the disk, the other does not. What they have written is
    /// handed to the relays. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database, relays: &Relays) -> Self {
        let (durable, durable_entries) = mpsc::channel(QUEUE);
        let (relaxed, relaxed_entries) = mpsc::channel(QUEUE);
        let writer = |kept, is_durable| Writer { kept, is_durable, relays: relays.clone() };
        // Not counted among the tasks that end with the process: a writer ends with the last handle to the ledger, and
        // by then every run has been recorded, since runs wait for their writes.
        tokio::spawn(write(writer(Kept::durable(database), true), durable_entries));
        tokio::spawn(write(writer(Kept::relaxed(database), false), relaxed_entries));
        Self { durable, relaxed }
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
    /// In the order of writing: whoever waits for events that come after progress finds the progress written.
    fn kind(&self) -> usize {
        match self {
            Self::Intent(..) => 0,
            Self::Progress(_) => 1,
            Self::Outcome(..) => 2,
            Self::Events(..) => 3,
        }
    }

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

/// Writes until every sender is gone and all is answered.
async fn write(mut writer: Writer, mut entries: mpsc::Receiver<Entry>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while entries.recv_many(&mut batch, MAX_BATCH).await > 0 {
        gather(&mut entries, &mut batch).await;
        for part in parts(std::mem::take(&mut batch)) {
            writer.write_all(part).await;
        }
    }
}

/// Lets the tasks that are ready send their entries too, as long as there are any: under load a statement is shared
/// by many, and a caller alone waits for nobody.
async fn gather(entries: &mut mpsc::Receiver<Entry>, batch: &mut Vec<Entry>) {
    let mut before = 0;
    while before < batch.len() && batch.len() < MAX_BATCH {
        before = batch.len();
        tokio::task::yield_now().await;
        while batch.len() < MAX_BATCH
            && let Ok(entry) = entries.try_recv()
        {
            batch.push(entry);
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

/// One writer: its connection, and whom it tells what it has written.
struct Writer {
    kept: Kept,
    is_durable: bool,
    relays: Relays,
}

impl Writer {
    /// In one commit where each waits for the disk; else in one a kind, which saves the transaction around them.
    async fn write_all(&mut self, batch: Vec<Entry>) {
        if self.is_durable {
            return self.write_together(batch).await;
        }
        let mut kinds = [const { Vec::new() }; 4];
        for entry in batch {
            kinds[entry.kind()].push(entry);
        }
        for kind in kinds {
            if !kind.is_empty() {
                self.write_together(kind).await;
            }
        }
    }

    async fn write_together(&mut self, batch: Vec<Entry>) {
        match store::group_commit(&mut self.kept, &group(&batch)).await {
            Ok(written) => self.answer(batch, written),
            // One row that the database refuses must not fail its neighbours.
            Err(Error::Failed(_) | Error::Conflict { .. }) if batch.len() > 1 => {
                for entry in batch {
                    self.write_alone(entry).await;
                }
            }
            Err(error) => refuse(batch, error),
        }
    }

    async fn write_alone(&mut self, entry: Entry) {
        let alone = vec![entry];
        match store::group_commit(&mut self.kept, &group(&alone)).await {
            Ok(written) => self.answer(alone, written),
            Err(error) => refuse(alone, error),
        }
    }

    /// Tells the relays first: whoever has an answer may ask at once whether its events are delivered.
    fn answer(&self, batch: Vec<Entry>, mut written: Written) {
        let mut keys = written.events.into_iter();
        for entry in batch {
            // A caller that stopped waiting does not undo what is written.
            let _ = match entry {
                Entry::Intent(intent, done) => done.send(Ok(written.intents.contains(&intent.execution.id))),
                Entry::Outcome(outcome, done) => {
                    let keys = written.outcomes.remove(&outcome.id);
                    let is_written = keys.is_some();
                    self.relays.hand_over(outcome.events, &keys.unwrap_or_default());
                    done.send(Ok(is_written))
                }
                Entry::Events(events, done) => {
                    let keys: Vec<i64> = keys.by_ref().take(events.len()).collect();
                    self.relays.hand_over(events, &keys);
                    done.send(Ok(true))
                }
                Entry::Progress(_) => Ok(()),
            };
        }
    }
}

fn group(batch: &[Entry]) -> Group<'_> {
    let mut group = Group::default();
    for entry in batch {
        match entry {
            Entry::Intent(intent, _) => group.intents.push(intent),
            Entry::Outcome(outcome, _) => group.outcomes.push(outcome),
            Entry::Events(events, _) => group.events.extend(events),
            Entry::Progress(event) => group.progress.push(event),
        }
    }
    group
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
