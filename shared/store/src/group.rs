//! Group commit: one writer for many callers. Whatever waits while the last statement runs goes into the next one,
//! and under load the writer first lets those ask that are ready to. Nobody waits for a batch to fill, no timer is
//! set, and nobody is answered before the commit.

use std::{collections::HashSet, fmt, hash::Hash};

use sqlx::PgConnection;
use tokio::sync::{mpsc, oneshot};

use crate::{Error, Kept};

/// Requests that may wait; more make their callers wait.
const QUEUE: usize = 4_096;
/// How often all other tasks get their turn before a statement, at most.
const TURNS: usize = 4;

/// What many callers write together.
pub trait Entry: Send + Sync + 'static {
    /// What it is called in logs, in the plural.
    const NAME: &'static str;
    /// Most rows of one batch, unless one entry alone has more.
    const MAX_ROWS: usize = 1_000;
    /// Most bytes of long texts in one batch, unless one entry alone has more.
    const MAX_BYTES: usize = 8 * 1024 * 1024;
    /// Whether a batch whose connection broke is written once more over a new one: what was written by a statement
    /// whose answer was lost must then be found, not written again.
    const TRIES_AGAIN: bool = true;
    /// Whether an entry need not be written whose caller is gone.
    const LAPSES: bool = false;

    /// What its caller gets.
    type Answer: Send;
    /// What the writer has besides its connection.
    type Desk: Send + Sync;
    /// Of two entries with one key, the second goes into a later batch.
    type Key: Hash + Eq + Send;

    /// Its key; `None`: it goes with any other.
    fn key(&self) -> Option<Self::Key> {
        None
    }

    /// Rows that it is.
    fn rows(&self) -> usize {
        1
    }

    /// Bytes of its long texts.
    fn bytes(&self) -> usize {
        0
    }

    /// Entries of different lanes are written apart; the oldest that waits goes first.
    fn lane(&self, _: &Self::Desk) -> u8 {
        0
    }

    /// Writes together, all or nothing, and answers in the order of the batch; without an answer, an entry is
    /// written again. Where the database refuses a batch, each entry is written alone.
    fn commit(
        desk: &mut Self::Desk,
        connection: &mut PgConnection,
        batch: &[&Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Error>> + Send;
}

/// One entry and whoever waits for its answer.
struct Waiting<E: Entry> {
    entry: E,
    answer: oneshot::Sender<Result<E::Answer, Error>>,
}

/// The way to a writer. Cheap to clone; the writer ends when every clone is gone.
pub struct GroupCommit<E: Entry> {
    queue: mpsc::Sender<Vec<Waiting<E>>>,
}

impl<E: Entry> Clone for GroupCommit<E> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<E: Entry> fmt::Debug for GroupCommit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit").field("of", &E::NAME).finish_non_exhaustive()
    }
}

impl<E: Entry> GroupCommit<E> {
    /// A group commit with its writer at work. Must be called inside a tokio runtime.
    pub fn start(kept: Kept, desk: E::Desk) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        // Counted nowhere: it ends with the last handle, and whoever waits for an answer holds one.
        tokio::spawn(Writer { kept, desk }.write(entries));
        Self { queue }
    }

    /// Writes an entry and gives its answer.
    pub async fn write(&self, entry: E) -> Result<E::Answer, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(vec![Waiting { entry, answer }]).await.map_err(|_| Error::Unavailable(None))?;
        answered.await.unwrap_or(Err(Error::Unavailable(None)))
    }

    /// Writes as many as fit into one batch in one, and answers in their order.
    pub async fn write_all(&self, entries: Vec<E>) -> Vec<Result<E::Answer, Error>> {
        let (entries, answers): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .map(|entry| {
                let (answer, answered) = oneshot::channel();
                (Waiting { entry, answer }, answered)
            })
            .unzip();
        // Where the writer is gone, every answer is an error.
        let _ = self.queue.send(entries).await;
        let mut given = Vec::with_capacity(answers.len());
        for answered in answers {
            given.push(answered.await.unwrap_or(Err(Error::Unavailable(None))));
        }
        given
    }

    /// Leaves an entry to be written, unless too much waits already; nobody hears what became of it.
    pub fn offer(&self, entry: E) {
        let _ = self.queue.try_send(vec![Waiting { entry, answer: oneshot::channel().0 }]);
    }
}

/// The one that writes.
struct Writer<E: Entry> {
    kept: Kept,
    desk: E::Desk,
}

impl<E: Entry> Writer<E> {
    /// Writes until every handle is gone and all is answered.
    async fn write(mut self, mut queue: mpsc::Receiver<Vec<Waiting<E>>>) {
        let (mut waiting, mut crowded) = (Vec::new(), false);
        loop {
            if waiting.is_empty() {
                let Some(entries) = queue.recv().await else { return };
                waiting = entries;
            }
            if crowded || waiting.len() + queue.len() > 1 {
                gather::<E>(waiting.len(), || queue.len()).await;
            }
            while waiting.len() < E::MAX_ROWS
                && let Ok(entries) = queue.try_recv()
            {
                waiting.extend(entries);
            }
            if E::LAPSES {
                waiting.retain(|waiting| !waiting.answer.is_closed());
            }
            let (batch, later) = together(waiting, &self.desk);
            crowded = batch.len() > 1;
            waiting = self.commit_together(batch).await;
            waiting.extend(later);
        }
    }

    /// Writes a batch, answers, and gives back what must be written again.
    async fn commit_together(&mut self, batch: Vec<Waiting<E>>) -> Vec<Waiting<E>> {
        if batch.is_empty() {
            return batch;
        }
        match self.commit(&batch).await {
            Ok(answers) => answer(batch, answers),
            // One entry that the database refuses must not fail its neighbours.
            Err(Error::Failed(_) | Error::Conflict { .. }) if batch.len() > 1 => {
                let mut again = Vec::new();
                for entry in batch {
                    let alone = vec![entry];
                    match self.commit(&alone).await {
                        Ok(answers) => again.extend(answer(alone, answers)),
                        Err(error) => refuse(alone, error),
                    }
                }
                again
            }
            Err(error) => {
                refuse(batch, error);
                Vec::new()
            }
        }
    }

    async fn commit(&mut self, batch: &[Waiting<E>]) -> Result<Vec<Option<E::Answer>>, Error> {
        let entries: Vec<&E> = batch.iter().map(|waiting| &waiting.entry).collect();
        match self.commit_once(&entries).await {
            Err(Error::Unavailable(_)) if E::TRIES_AGAIN => self.commit_once(&entries).await,
            done => done,
        }
    }

    /// A connection that broke is not used again.
    async fn commit_once(&mut self, entries: &[&E]) -> Result<Vec<Option<E::Answer>>, Error> {
        let mut connection = self.kept.take().await?;
        let done = E::commit(&mut self.desk, &mut connection, entries).await;
        if !matches!(done, Err(Error::Unavailable(_))) {
            self.kept.put_back(connection);
        }
        done
    }
}

/// Lets other tasks run for as long as each round of them brings more that wait.
async fn gather<E: Entry>(waiting: usize, queued: impl Fn() -> usize) {
    for _ in 0..TURNS {
        let before = queued();
        if waiting + before >= E::MAX_ROWS {
            return;
        }
        tokio::task::yield_now().await;
        if queued() <= before {
            return;
        }
    }
}

/// What goes into the next batch, and what is written after it, each in its order.
fn together<E: Entry>(waiting: Vec<Waiting<E>>, desk: &E::Desk) -> (Vec<Waiting<E>>, Vec<Waiting<E>>) {
    let lane = waiting.first().map(|waiting| waiting.entry.lane(desk));
    let (mut seen, mut rows, mut bytes, mut full) = (HashSet::new(), 0, 0, false);
    waiting.into_iter().partition(|Waiting { entry, .. }| {
        if full || Some(entry.lane(desk)) != lane {
            return false;
        }
        full = rows > 0 && (rows + entry.rows() > E::MAX_ROWS || bytes + entry.bytes() > E::MAX_BYTES);
        if full || !entry.key().is_none_or(|key| seen.insert(key)) {
            return false;
        }
        rows += entry.rows();
        bytes += entry.bytes();
        true
    })
}

fn answer<E: Entry>(batch: Vec<Waiting<E>>, answers: Vec<Option<E::Answer>>) -> Vec<Waiting<E>> {
    let mut again = Vec::new();
    for (waiting, answer) in batch.into_iter().zip(answers) {
        match answer {
            // A caller that stopped waiting does not undo what is written.
            Some(answer) => drop(waiting.answer.send(Ok(answer))),
            None => again.push(waiting),
        }
    }
    again
}

fn refuse<E: Entry>(batch: Vec<Waiting<E>>, error: Error) {
    if !matches!(error, Error::Unavailable(_)) {
        // The message alone: the detail of a database error repeats the row.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, entries = batch.len(), "{} were refused by the database", E::NAME);
    }
    let mut first = Some(error);
    for waiting in batch {
        // An error cannot be copied: the first caller gets its detail, the others its kind.
        let error = first.take().unwrap_or(Error::Unavailable(None));
        let _ = waiting.answer.send(Err(error));
    }
}

#[cfg(test)]
mod tests;
