//! Group commit of outcomes: requests that wait while the last statement runs go into the next one, over a
//! connection of its own. A request is written whole or not at all, and nobody waits for a batch to fill.
//! Must never answer for what is not committed.

use std::collections::HashSet;

use ::store::{Database, Error, Kept};
use tokio::sync::{mpsc, oneshot};

use crate::{
    history::History,
    store::{self, Connection, HistoryRow, OutcomeRow},
};

/// Most requests of one statement.
const MAX_BATCH: usize = 64;
/// Outcomes written at once, unless one request alone has more.
const MAX_BATCH_OUTCOMES: usize = 1_000;
/// Requests that may wait; more make their callers wait.
const QUEUE: usize = 256;

/// One request and whoever waits for its answer.
struct Entry {
    outcomes: Vec<OutcomeRow>,
    answer: oneshot::Sender<Result<i64, Error>>,
}

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    entries: mpsc::Sender<Entry>,
}

impl Ledger {
    /// The ledger, with its writer at work: what it records is in this copy of the history at once. Must be
    /// called inside a tokio runtime.
    pub(crate) fn start(database: &Database, history: &History) -> Self {
        let (entries, waiting) = mpsc::channel(QUEUE);
        let writer = Writer { kept: Kept::durable(database), history: history.clone() };
        // Not counted among the tasks that end with the process: it ends with the last handle.
        tokio::spawn(write(writer, waiting));
        Self { entries }
    }

    /// Records the outcomes that are new, all of them or none, and gives their number.
    pub(crate) async fn record(&self, outcomes: Vec<OutcomeRow>) -> Result<i64, Error> {
        let (answer, answered) = oneshot::channel();
        let sent = self.entries.send(Entry { outcomes, answer }).await;
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
    let (mut parts, mut part, mut outcomes) = (Vec::new(), Vec::new(), 0);
    for entry in batch {
        outcomes += entry.outcomes.len();
        if outcomes > MAX_BATCH_OUTCOMES && !part.is_empty() {
            outcomes = entry.outcomes.len();
            parts.push(std::mem::take(&mut part));
        }
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
    history: History,
}

impl Writer {
    async fn commit_together(&mut self, batch: Vec<Entry>) {
        match self.commit(&batch).await {
            Ok(Some(answers)) => answer(batch, answers),
            Err(error) if batch.len() == 1 || matches!(error, Error::Unavailable(_)) => refuse(batch, error),
            // One request that the database refuses must not fail its neighbours, and one that came before
            // must not be counted for them.
            Ok(None) | Err(_) => {
                for entry in batch {
                    let alone = vec![entry];
                    match self.commit(&alone).await {
                        Ok(answers) => answer(alone, answers.unwrap_or_default()),
                        Err(error) => refuse(alone, error),
                    }
                }
            }
        }
    }

    /// Writes a batch in one transaction and gives the number recorded of each request; nothing when it has
    /// to be written request by request. A kept connection may be dead, so it is tried once more on a new
    /// one: what was written by a statement whose answer was lost is found, not counted again.
    async fn commit(&mut self, batch: &[Entry]) -> Result<Option<Vec<i64>>, Error> {
        match self.commit_once(batch).await {
            Err(Error::Unavailable(_)) => self.commit_once(batch).await,
            done => done,
        }
    }

    async fn commit_once(&mut self, batch: &[Entry]) -> Result<Option<Vec<i64>>, Error> {
        let mut connection = self.kept.take().await?;
        let written = commit(&mut connection, batch).await?;
        self.kept.put_back(connection);
        Ok(written.map(|(recorded, rows)| {
            self.history.put(rows);
            recorded
        }))
    }
}

/// A request alone is one statement. Of several, only the sum is known: where it is not that of all their
/// outcomes, nothing is written.
async fn commit(
    connection: &mut Connection,
    batch: &[Entry],
) -> Result<Option<(Vec<i64>, Vec<HistoryRow>)>, Error> {
    let (outcomes, answers) = distinct(batch);
    if batch.len() == 1 {
        let (recorded, rows) = store::outcomes_insert(connection, &outcomes).await?;
        return Ok(Some((vec![recorded], rows)));
    }
    let mut transaction = store::begin(connection).await?;
    let (recorded, rows) = store::outcomes_insert(&mut transaction, &outcomes).await?;
    if recorded < answers.iter().sum() {
        transaction.rollback().await.map_err(Error::from)?;
        return Ok(None);
    }
    transaction.commit().await.map_err(Error::from)?;
    Ok(Some((answers, rows)))
}

/// The outcomes of a batch, each once and in order of team and id, and how many of each request. Of an
/// outcome in two requests, the first has it.
fn distinct(batch: &[Entry]) -> (Vec<&OutcomeRow>, Vec<i64>) {
    let (mut seen, mut outcomes, mut answers) = (HashSet::new(), Vec::new(), Vec::new());
    for entry in batch {
        let mut count = 0;
        for outcome in &entry.outcomes {
            if seen.insert((&outcome.team_id, outcome.event_id)) {
                outcomes.push(outcome);
                count += 1;
            }
        }
        answers.push(count);
    }
    outcomes.sort_unstable_by_key(|outcome| (&outcome.team_id, outcome.event_id));
    (outcomes, answers)
}

fn answer(batch: Vec<Entry>, answers: Vec<i64>) {
    for (entry, recorded) in batch.into_iter().zip(answers) {
        // A caller that stopped waiting does not undo what is written.
        let _ = entry.answer.send(Ok(recorded));
    }
}

fn refuse(batch: Vec<Entry>, error: Error) {
    if !matches!(error, Error::Unavailable(_)) {
        // The message alone: the detail of a database error repeats the row.
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::error!(%error, cause, requests = batch.len(), "outcomes were refused by the database");
    }
    let mut first = Some(error);
    for entry in batch {
        // An error cannot be copied: the first caller gets its detail, the others its kind.
        let error = first.take().unwrap_or(Error::Unavailable(None));
        let _ = entry.answer.send(Err(error));
    }
}
