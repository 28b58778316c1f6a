//! Group commit of reservations and of their ends: whatever waits while the last statement runs goes into
//! the next one, so that a call costs a share of a statement. Nothing is granted that the database did not
//! grant, and nobody waits for a batch to fill.

mod allot;

use std::{collections::HashSet, time::Duration};

use ::store::{Database, Error};
use tokio::sync::{mpsc, oneshot};

use crate::store::{self, Connection, NewReservation, Settlement};

pub(crate) use allot::Taken;

/// Most entries of one statement.
const MAX_BATCH: usize = 256;
/// Entries that may wait; more make their callers wait.
const QUEUE: usize = 4_096;
/// How long a writer without work keeps its connection from others.
const IDLE: Duration = Duration::from_secs(1);

/// One entry and whoever waits for its answer.
struct Entry<T, A> {
    item: T,
    answer: oneshot::Sender<Result<A, Error>>,
}

type Take = Entry<NewReservation, Taken>;
type End = Entry<Settlement, bool>;

/// The way to write. Cheap to clone; the writers end when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    takes: mpsc::Sender<Take>,
    ends: mpsc::Sender<End>,
}

impl Ledger {
    /// The ledger, with its writers at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database) -> Self {
        let (takes, taken) = mpsc::channel(QUEUE);
        let (ends, ended) = mpsc::channel(QUEUE);
        // Not counted among the tasks that end with the process: they end with the last handle.
        tokio::spawn(write(Writer::new(database), taken));
        tokio::spawn(write(Writer::new(database), ended));
        Self { takes, ends }
    }

    /// Takes all that a call needs, or nothing. A conflict means that another process took it for the same
    /// execution: ask again.
    pub(crate) async fn take(&self, wanted: NewReservation) -> Result<Taken, Error> {
        send(&self.takes, wanted).await
    }

    /// Ends a reservation; `false` when there is none.
    pub(crate) async fn end(&self, settlement: Settlement) -> Result<bool, Error> {
        send(&self.ends, settlement).await
    }
}

async fn send<T, A>(queue: &mpsc::Sender<Entry<T, A>>, item: T) -> Result<A, Error> {
    let (answer, answered) = oneshot::channel();
    queue.send(Entry { item, answer }).await.map_err(|_| Error::Unavailable(None))?;
    answered.await.unwrap_or(Err(Error::Unavailable(None)))
}

/// What a group commit can write.
trait Item: Clone + Send + Sync + 'static {
    type Answer: Send;
    type Key: std::hash::Hash + Eq;

    /// Of two with the same key, the second goes into a later statement.
    fn key(&self) -> Self::Key;

    /// Writes in one statement and answers in the order of the batch; without an answer, an entry is
    /// written again.
    fn commit(
        connection: &mut Connection,
        batch: &[&Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Error>> + Send;
}

impl Item for NewReservation {
    type Answer = Taken;
    type Key = (String, uuid::Uuid);

    fn key(&self) -> Self::Key {
        (self.team_id.clone(), self.execution_id)
    }

    async fn commit(connection: &mut Connection, batch: &[&Self]) -> Result<Vec<Option<Taken>>, Error> {
        let rows = store::reservations_insert(connection, batch).await?;
        let missing = allot::missing(batch, &rows);
        if !missing.is_empty() {
            store::counters_make(connection, &missing).await?;
        }
        Ok(allot::answers(batch, rows))
    }
}

impl Item for Settlement {
    type Answer = bool;
    type Key = (String, uuid::Uuid);

    fn key(&self) -> Self::Key {
        (self.team_id.clone(), self.decision_id)
    }

    async fn commit(connection: &mut Connection, batch: &[&Self]) -> Result<Vec<Option<bool>>, Error> {
        Ok(store::reservations_settle(connection, batch).await?.into_iter().map(Some).collect())
    }
}

/// Writes until every sender is gone and all is answered.
async fn write<T: Item>(mut writer: Writer, mut queue: mpsc::Receiver<Entry<T, T::Answer>>) {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    loop {
        if waiting.is_empty() {
            let received = tokio::time::timeout(IDLE, queue.recv_many(&mut waiting, MAX_BATCH)).await;
            match received {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) => {
                    writer.connection = None;
                    continue;
                }
            }
        } else {
            while let (true, Ok(entry)) = (waiting.len() < MAX_BATCH, queue.try_recv()) {
                waiting.push(entry);
            }
        }
        let mut seen = HashSet::new();
        let (batch, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut waiting).into_iter().partition(|entry| seen.insert(entry.item.key()));
        waiting = writer.commit_together(batch).await;
        waiting.extend(later);
    }
}

/// A connection that is kept while there is work.
struct Writer {
    database: Database,
    connection: Option<Connection>,
}

impl Writer {
    fn new(database: &Database) -> Self {
        Self { database: database.clone(), connection: None }
    }

    /// Writes a batch, answers, and gives back what must be written again.
    async fn commit_together<T: Item>(
        &mut self,
        batch: Vec<Entry<T, T::Answer>>,
    ) -> Vec<Entry<T, T::Answer>> {
        match self.commit(&batch).await {
            Ok(answers) => answer(batch, answers),
            // One entry that the database refuses must not fail its neighbours.
            Err(Error::Failed(_) | Error::Conflict { .. }) if batch.len() > 1 => {
                let mut again = Vec::new();
                for entry in batch {
                    again.extend(self.commit_alone(entry).await);
                }
                again
            }
            Err(error) => refuse(batch, error),
        }
    }

    async fn commit_alone<T: Item>(&mut self, entry: Entry<T, T::Answer>) -> Vec<Entry<T, T::Answer>> {
        let alone = vec![entry];
        match self.commit(&alone).await {
            Ok(answers) => answer(alone, answers),
            Err(error) => refuse(alone, error),
        }
    }

    /// One statement. A kept connection may be dead, so it is tried once more on a new one: what was
    /// written by a statement whose answer was lost is found, not written again.
    async fn commit<T: Item>(
        &mut self,
        batch: &[Entry<T, T::Answer>],
    ) -> Result<Vec<Option<T::Answer>>, Error> {
        let items: Vec<&T> = batch.iter().map(|entry| &entry.item).collect();
        let pool = self.database.pool()?;
        if let Some(mut connection) = self.connection.take() {
            match T::commit(&mut connection, &items).await {
                Err(Error::Unavailable(_)) => {}
                Err(error) => return Err(error),
                Ok(answers) => {
                    self.connection = Some(connection);
                    return Ok(answers);
                }
            }
        }
        let mut connection = store::connection(pool).await?;
        let answers = T::commit(&mut connection, &items).await?;
        self.connection = Some(connection);
        Ok(answers)
    }
}

fn answer<T, A>(batch: Vec<Entry<T, A>>, answers: Vec<Option<A>>) -> Vec<Entry<T, A>> {
    let mut again = Vec::new();
    for (entry, answer) in batch.into_iter().zip(answers) {
        match answer {
            // A caller that stopped waiting does not undo what is written; it expires.
            Some(answer) => drop(entry.answer.send(Ok(answer))),
            None => again.push(entry),
        }
    }
    again
}

fn refuse<T, A>(batch: Vec<Entry<T, A>>, error: Error) -> Vec<Entry<T, A>> {
    if matches!(error, Error::Failed(_)) {
        // The message alone: the detail of a database error repeats the row.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, entries = batch.len(), "reservations were refused by the database");
    }
    let mut first = Some(error);
    for entry in batch {
        // An error cannot be copied: the first caller gets its detail, the others its kind.
        let error = first.take().unwrap_or(Error::Unavailable(None));
        let _ = entry.answer.send(Err(error));
    }
    Vec::new()
}
