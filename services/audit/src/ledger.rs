//! Group commit of events: requests that wait while the last statement runs go into the next one, over a
//! connection of its own. A request is written whole or not at all, and nobody waits for a batch to fill.
//! Must never answer for what is not committed.

use std::collections::HashSet;

use ::store::{Database, Error, Kept};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    append::Appended,
    store::{self, Connection, EventRow},
};

/// Most requests of one statement.
const MAX_BATCH: usize = 64;
/// Events written at once, unless one request alone has more.
const MAX_BATCH_EVENTS: usize = 1_000;
/// Bytes of long texts written at once, unless one request alone has more.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Requests that may wait; more make their callers wait.
const QUEUE: usize = 256;

/// One request and whoever waits for its answer.
struct Entry {
    events: Vec<EventRow>,
    answer: oneshot::Sender<Result<Appended, Error>>,
}

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    entries: mpsc::Sender<Entry>,
}

impl Ledger {
    /// The ledger, with its writer at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database) -> Self {
        let (entries, waiting) = mpsc::channel(QUEUE);
        // Not counted among the tasks that end with the process: it ends with the last handle.
        tokio::spawn(write(Writer { kept: Kept::durable(database) }, waiting));
        Self { entries }
    }

    /// Adds the events that are new: all of them or none.
    pub(crate) async fn append(&self, events: Vec<EventRow>) -> Result<Appended, Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.entries.send(Entry { events, answer }).await;
        sent.map_err(|_| Error::Unavailable(None))?;
        answered.await.unwrap_or(Err(Error::Unavailable(None)))
    }
}

/// Writes until every sender is gone and all is answered.
async fn write(mut writer: Writer, mut queue: mpsc::Receiver<Entry>) {
    let mut waiting = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        // Whoever stopped waiting will send it again.
        waiting.retain(|entry| !entry.answer.is_closed());
        for part in parts(std::mem::take(&mut waiting)) {
            writer.commit_together(part).await;
        }
    }
}

/// The same requests in the same order, in parts of a bounded size.
fn parts(batch: Vec<Entry>) -> Vec<Vec<Entry>> {
    let (mut parts, mut part, mut events, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for entry in batch {
        let size: usize =
            entry.events.iter().map(|event| event.arguments_json.len() + event.message.len()).sum();
        let full = events + entry.events.len() > MAX_BATCH_EVENTS || bytes + size > MAX_BATCH_BYTES;
        if full && !part.is_empty() {
            parts.push(std::mem::take(&mut part));
            (events, bytes) = (0, 0);
        }
        events += entry.events.len();
        bytes += size;
        part.push(entry);
    }
    if !part.is_empty() {
        parts.push(part);
    }
    parts
}

/// The one connection that writes.
struct Writer {
    kept: Kept,
}

impl Writer {
    async fn commit_together(&mut self, batch: Vec<Entry>) {
        match self.commit(&batch).await {
            Ok(answers) => answer(batch, answers),
            // One request that the database refuses must not fail its neighbours.
            Err(Error::Failed(_) | Error::Conflict { .. }) if batch.len() > 1 => {
                for entry in batch {
                    let alone = vec![entry];
                    match self.commit(&alone).await {
                        Ok(answers) => answer(alone, answers),
                        Err(error) => refuse(alone, error),
                    }
                }
            }
            Err(error) => refuse(batch, error),
        }
    }

    /// Writes a batch in one transaction and answers in its order. A kept connection may be dead, so it is
    /// tried once more on a new one: what was written by a statement whose answer was lost is found, not
    /// written again.
    async fn commit(&mut self, batch: &[Entry]) -> Result<Vec<Appended>, Error> {
        match self.commit_once(batch).await {
            Err(Error::Unavailable(_)) => self.commit_once(batch).await,
            done => done,
        }
    }

    async fn commit_once(&mut self, batch: &[Entry]) -> Result<Vec<Appended>, Error> {
        let mut connection = self.kept.take().await?;
        let answers = commit(&mut connection, batch).await?;
        self.kept.put_back(connection);
        Ok(answers)
    }
}

/// An event's key in the trail.
type Key<'a> = (&'a str, Uuid);

/// Takes all for new, as it nearly always is. Where an event is not, each is looked up first, under the
/// locks that keep others from adding one.
async fn commit(connection: &mut Connection, batch: &[Entry]) -> Result<Vec<Appended>, Error> {
    let (events, answers) = fresh(batch, HashSet::new());
    if events.is_empty() {
        return Ok(answers);
    }
    match store::events_insert(connection, &events).await {
        Err(Error::Conflict { .. }) => {}
        done => return done.map(|()| answers),
    }
    let mut transaction = store::begin(connection).await?;
    let teams: Vec<&str> = events.iter().map(|event| event.team_id.as_str()).collect();
    store::heads_lock_in_txn(&mut transaction, &teams).await?;
    let known = store::events_known_in_txn(&mut transaction, &events).await?;
    let (events, answers) = fresh(batch, known.iter().map(|(team, id)| (team.as_str(), *id)).collect());
    if !events.is_empty() {
        store::events_insert(&mut transaction, &events).await?;
    }
    transaction.commit().await.map_err(Error::from)?;
    Ok(answers)
}

/// The events of a batch that are not known, each once, and what that makes of every request. Of an event
/// in two requests, the first has it.
fn fresh<'a>(batch: &'a [Entry], mut known: HashSet<Key<'a>>) -> (Vec<&'a EventRow>, Vec<Appended>) {
    let mut events = Vec::new();
    let answers = batch.iter().map(|entry| {
        let before = events.len();
        events.extend(entry.events.iter().filter(|event| known.insert((event.team_id.as_str(), event.id))));
        let new = events.len() - before;
        Appended { new, duplicates: entry.events.len() - new }
    });
    let answers = answers.collect();
    (events, answers)
}

fn answer(batch: Vec<Entry>, answers: Vec<Appended>) {
    for (entry, appended) in batch.into_iter().zip(answers) {
        // A caller that stopped waiting does not undo what is written.
        let _ = entry.answer.send(Ok(appended));
    }
}

fn refuse(batch: Vec<Entry>, error: Error) {
    if !matches!(error, Error::Unavailable(_)) {
        // The message alone: the detail of a database error repeats the row.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, requests = batch.len(), "events were refused by the database");
    }
    let mut first = Some(error);
    for entry in batch {
        // An error cannot be copied: the first caller gets its detail, the others its kind.
        let error = first.take().unwrap_or(Error::Unavailable(None));
        let _ = entry.answer.send(Err(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_keep_the_order() {
        let sizes = [1_000, 1, 998, 1, 1, 600, 600];
        let entries = sizes.map(|size| Entry {
            events: vec![crate::tests::event("team", ""); size],
            answer: oneshot::channel().0,
        });
        let sizes = |part: &Vec<Entry>| part.iter().map(|entry| entry.events.len()).collect::<Vec<_>>();
        let parts: Vec<Vec<usize>> = parts(entries.into()).iter().map(sizes).collect();
        assert_eq!(parts, [vec![1_000], vec![1, 998, 1], vec![1, 600], vec![600]]);

        let long = |bytes| Entry {
            events: vec![EventRow { message: " ".repeat(bytes), ..crate::tests::event("team", "") }],
            answer: oneshot::channel().0,
        };
        let parts = super::parts(vec![long(MAX_BATCH_BYTES + 1), long(1), long(MAX_BATCH_BYTES - 1)]);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert!(super::parts(Vec::new()).is_empty());
    }
}
