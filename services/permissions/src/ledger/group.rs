//! Group commit: one writer for many callers. Whatever waits while the last statement runs goes into the
//! next one, and under load the writer first lets those ask that are ready to. Nobody waits for a batch to
//! fill, and no timer is set.

use std::collections::HashSet;

use ::store::{Database, Error, Kept};
use tokio::sync::{mpsc, oneshot};

use crate::store::Connection;

/// Most entries of one statement: those of the largest request.
const MAX_BATCH: usize = 1_000;
/// Requests that may wait; more make their callers wait.
const QUEUE: usize = 4_096;
/// How often all other tasks get their turn before a statement, at most.
const TURNS: usize = 4;

/// What a group commit can write.
pub(super) trait Item: Send + Sync + 'static {
    type Answer: Send;
    type Key: std::hash::Hash + Eq + Send;

    /// Of two with the same key, the second goes into a later statement.
    fn key(&self) -> Self::Key;

    /// Writes together, all or nothing, and answers in the order of the batch; without an answer, an entry
    /// is written again.
    fn commit(
        connection: &mut Connection,
        batch: &[&Self],
    ) -> impl Future<Output = Result<Vec<Option<Self::Answer>>, Error>> + Send;
}

/// One entry and whoever waits for its answer.
#[derive(Debug)]
struct Entry<T: Item> {
    item: T,
    answer: oneshot::Sender<Result<T::Answer, Error>>,
}

/// The way to a writer. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug)]
pub(super) struct Group<T: Item> {
    queue: mpsc::Sender<Vec<Entry<T>>>,
}

impl<T: Item> Clone for Group<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<T: Item> Group<T> {
    /// The group, with its writer at work. Must be called inside a tokio runtime.
    pub(super) fn start(database: &Database) -> Self {
        let (queue, entries) = mpsc::channel(QUEUE);
        // Not counted among the tasks that end with the process: it ends with the last handle.
        tokio::spawn(write(Writer { kept: Kept::relaxed(database) }, entries));
        Self { queue }
    }

    pub(super) async fn write(&self, item: T) -> Result<T::Answer, Error> {
        let (answer, answered) = oneshot::channel();
        self.queue.send(vec![Entry { item, answer }]).await.map_err(|_| Error::Unavailable(None))?;
        answered.await.unwrap_or(Err(Error::Unavailable(None)))
    }

    /// Writes as many as fit into one statement in one, and answers in their order.
    pub(super) async fn write_all(&self, items: Vec<T>) -> Vec<Result<T::Answer, Error>> {
        let (entries, waiting): (Vec<_>, Vec<_>) = items
            .into_iter()
            .map(|item| {
                let (answer, answered) = oneshot::channel();
                (Entry { item, answer }, answered)
            })
            .unzip();
        // Where the writer is gone, every answer is an error.
        let _ = self.queue.send(entries).await;
        let mut answers = Vec::with_capacity(waiting.len());
        for answered in waiting {
            answers.push(answered.await.unwrap_or(Err(Error::Unavailable(None))));
        }
        answers
    }
}

/// Writes until every sender is gone and all is answered.
async fn write<T: Item>(mut writer: Writer, mut queue: mpsc::Receiver<Vec<Entry<T>>>) {
    let (mut waiting, mut crowded) = (Vec::new(), false);
    loop {
        if waiting.is_empty() {
            let Some(entries) = queue.recv().await else { return };
            waiting = entries;
        }
        if crowded || waiting.len() + queue.len() > 1 {
            gather(waiting.len(), || queue.len()).await;
        }
        while let (true, Ok(entries)) = (waiting.len() < MAX_BATCH, queue.try_recv()) {
            waiting.extend(entries);
        }
        let (batch, later) = together(waiting);
        crowded = batch.len() > 1;
        waiting = writer.commit_together(batch).await;
        waiting.extend(later);
    }
}

/// Lets other tasks run for as long as each round of them brings more that wait.
async fn gather(waiting: usize, queued: impl Fn() -> usize) {
    for _ in 0..TURNS {
        let before = queued();
        if waiting + before >= MAX_BATCH {
            return;
        }
        tokio::task::yield_now().await;
        if queued() <= before {
            return;
        }
    }
}

/// What goes into the next statement, and what is written after it.
fn together<T: Item>(waiting: Vec<Entry<T>>) -> (Vec<Entry<T>>, Vec<Entry<T>>) {
    let mut seen = HashSet::with_capacity(waiting.len());
    waiting.into_iter().partition(|entry| seen.len() < MAX_BATCH && seen.insert(entry.item.key()))
}

/// The connection, kept from one statement to the next.
struct Writer {
    kept: Kept,
}

impl Writer {
    /// Writes a batch, answers, and gives back what must be written again.
    async fn commit_together<T: Item>(&mut self, batch: Vec<Entry<T>>) -> Vec<Entry<T>> {
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

    async fn commit_alone<T: Item>(&mut self, entry: Entry<T>) -> Vec<Entry<T>> {
        let alone = vec![entry];
        match self.commit(&alone).await {
            Ok(answers) => answer(alone, answers),
            Err(error) => refuse(alone, error),
        }
    }

    /// A kept connection may be dead, so it is tried once more on a new one: what was written by a
    /// statement whose answer was lost is found, not written again.
    async fn commit<T: Item>(&mut self, batch: &[Entry<T>]) -> Result<Vec<Option<T::Answer>>, Error> {
        let items: Vec<&T> = batch.iter().map(|entry| &entry.item).collect();
        let connection = self.kept.take().await?;
        match self.commit_on(connection, &items).await {
            Err(Error::Unavailable(_)) => {
                let connection = self.kept.take().await?;
                self.commit_on(connection, &items).await
            }
            done => done,
        }
    }

    async fn commit_on<T: Item>(
        &mut self,
        mut connection: Connection,
        items: &[&T],
    ) -> Result<Vec<Option<T::Answer>>, Error> {
        let done = T::commit(&mut connection, items).await;
        // What the database refuses, it refuses without harm to the connection.
        if !matches!(done, Err(Error::Unavailable(_))) {
            self.kept.put_back(connection);
        }
        done
    }
}

fn answer<T: Item>(batch: Vec<Entry<T>>, answers: Vec<Option<T::Answer>>) -> Vec<Entry<T>> {
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

fn refuse<T: Item>(batch: Vec<Entry<T>>, error: Error) -> Vec<Entry<T>> {
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

#[cfg(test)]
mod tests;
