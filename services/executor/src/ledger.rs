//! Group commit: intents, outcomes and events of many calls in one transaction, so that a durable call
//! costs a share of a flush and not a flush. No tool may run before its intent came back from here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::store::{Database, Entry, Error, GroupCommit, Kept};
use uuid::Uuid;

use crate::{
    relay::Relays,
    store::{self, Connection, Group, Intent, OutboxEvent, Outcome, ProgressEvent, Written},
};

/// The way to write. Cheap to clone; the writers end when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    durable: GroupCommit<Write>,
    relaxed: GroupCommit<Write>,
    unconfirmed: Unconfirmed,
}

/// Intents of which no answer says whether they were written, and since when: whether or not they were, nothing was
/// run for them. Whoever finds one in the database ends it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unconfirmed(Arc<Mutex<HashMap<Uuid, Instant>>>);

impl Unconfirmed {
    fn note(&self, id: Uuid) {
        self.lock().insert(id, Instant::now());
    }

    /// Those that are known now.
    pub(crate) fn all(&self) -> HashMap<Uuid, Instant> {
        self.lock().clone()
    }

    pub(crate) fn forget(&self, ids: impl Iterator<Item = Uuid>) {
        let mut known = self.lock();
        for id in ids {
            known.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// The ledger with its two writers at work: one waits for the disk, the other does not. What they have written is
    /// handed to the relays. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database, relays: &Relays) -> Self {
        let desk = |is_durable| Desk { is_durable, relays: relays.clone() };
        Self {
            durable: GroupCommit::start(Kept::durable(database), desk(true)),
            relaxed: GroupCommit::start(Kept::relaxed(database), desk(false)),
            unconfirmed: Unconfirmed::default(),
        }
    }

    /// Records an intent; `false` when its request id is taken. After an error nothing may run for it, though it may
    /// stand in the database.
    pub(crate) async fn intent(&self, intent: Intent, durable: bool) -> Result<bool, Error> {
        // One for the queue is run whoever was told of it.
        let noted = intent.job.is_none().then_some(intent.execution.id);
        let written = self.of(durable).write(Write::Intent(Box::new(intent))).await;
        if let (Err(Error::Unavailable(_)), Some(id)) = (&written, noted) {
            self.unconfirmed.note(id);
        }
        written
    }

    /// Intents that may or may not be written.
    pub(crate) fn unconfirmed(&self) -> &Unconfirmed {
        &self.unconfirmed
    }

    /// Records an outcome with its events; `false` when the execution was closed by another process.
    /// Goes on through any outage of the database: what has run must be recorded.
    pub(crate) async fn outcome(&self, outcome: Outcome, durable: bool) -> Result<bool, Error> {
        let mut rest = Duration::from_millis(50);
        loop {
            match self.of(durable).write(Write::Outcome(Box::new(outcome.clone()))).await {
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
        self.relaxed.write(Write::Events(events)).await.map(drop)
    }

    /// Keeps what a running tool said; when too much waits already, it is left out: nothing waits for it.
    pub(crate) fn progress(&self, event: ProgressEvent) {
        self.relaxed.offer(Write::Progress(Box::new(event)));
    }

    fn of(&self, durable: bool) -> &GroupCommit<Write> {
        if durable { &self.durable } else { &self.relaxed }
    }
}

/// One thing to write.
enum Write {
    Intent(Box<Intent>),
    Outcome(Box<Outcome>),
    Events(Vec<OutboxEvent>),
    Progress(Box<ProgressEvent>),
}

/// What a writer has besides its connection.
struct Desk {
    is_durable: bool,
    relays: Relays,
}

impl Entry for Write {
    const NAME: &'static str = "ledger entries";
    const MAX_ROWS: usize = 256;
    /// An intent that stands already would be taken for another's.
    const TRIES_AGAIN: bool = false;

    /// Whether it was written.
    type Answer = bool;
    type Desk = Desk;
    type Key = ();

    fn bytes(&self) -> usize {
        let payloads = |events: &[OutboxEvent]| events.iter().map(|event| event.payload.len()).sum::<usize>();
        match self {
            Self::Intent(intent) => {
                intent.execution.arguments_json.len() + intent.job.as_ref().map_or(0, String::len)
            }
            Self::Outcome(outcome) => outcome.result_json.len() + payloads(&outcome.events),
            Self::Events(events) => payloads(events),
            Self::Progress(event) => event.body_json.len(),
        }
    }

    /// All together where each commit waits for the disk; else apart, which saves the transaction around them. Events
    /// go with progress: whoever waits for events that come after progress finds the progress written.
    fn lane(&self, desk: &Desk) -> u8 {
        match self {
            _ if desk.is_durable => 0,
            Self::Intent(_) => 0,
            Self::Outcome(_) => 1,
            Self::Events(_) | Self::Progress(_) => 2,
        }
    }

    /// Tells the relays before the callers: whoever has an answer may ask at once whether its events are delivered.
    async fn commit(
        desk: &mut Desk,
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<bool>>, Error> {
        let mut group = Group::default();
        for write in batch {
            match write {
                Self::Intent(intent) => group.intents.push(intent),
                Self::Outcome(outcome) => group.outcomes.push(outcome),
                Self::Events(events) => group.events.extend(events),
                Self::Progress(event) => group.progress.push(event),
            }
        }
        let written = store::group_commit(connection, &group).await?;
        let mut ids = &written.events[..];
        Ok(batch.iter().map(|write| Some(told(desk, write, &written, &mut ids))).collect())
    }
}

/// Whether an entry was written; its events go on their way. `ids` are those of events that belong to no execution.
fn told(desk: &Desk, write: &Write, written: &Written, ids: &mut &[i64]) -> bool {
    match write {
        Write::Intent(intent) => written.intents.contains(&intent.execution.id),
        Write::Outcome(outcome) => {
            let ids = written.outcomes.get(&outcome.id);
            desk.relays.hand_over(&outcome.events, ids.map_or(&[], Vec::as_slice));
            ids.is_some()
        }
        Write::Events(events) => {
            let (own, rest) = ids.split_at(events.len().min(ids.len()));
            desk.relays.hand_over(events, own);
            *ids = rest;
            true
        }
        Write::Progress(_) => true,
    }
}
