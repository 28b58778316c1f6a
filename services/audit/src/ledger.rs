//! Group commit of events: requests that wait while the last statement runs go into the next one, over a
//! connection of its own. A request is written whole or not at all, and nobody waits for a batch to fill.
//! Must never answer for what is not committed.

use std::collections::HashSet;

use ::store::{Database, Entry, Error, GroupCommit, Kept};
use uuid::Uuid;

use crate::{
    append::Appended,
    store::{self, Connection, EventRow},
};

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    requests: GroupCommit<Request>,
}

impl Ledger {
    /// The ledger, with its writer at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database) -> Self {
        Self { requests: GroupCommit::start(Kept::durable(database), ()) }
    }

    /// Adds the events that are new: all of them or none.
    pub(crate) async fn append(&self, events: Vec<EventRow>) -> Result<Appended, Error> {
        self.requests.write(Request(events)).await
    }
}

/// The events of one request.
struct Request(Vec<EventRow>);

impl Entry for Request {
    const NAME: &'static str = "events";
    /// Whoever stopped waiting will send it again.
    const LAPSES: bool = true;

    type Answer = Appended;
    type Desk = ();
    type Key = ();

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|event| event.arguments_json.len() + event.message.len()).sum()
    }

    /// Takes all for new, as it nearly always is. Where an event is not, each is looked up first, under the
    /// locks that keep others from adding one.
    async fn commit(
        (): &mut (),
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<Appended>>, Error> {
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
}

/// An event's key in the trail.
type Key<'a> = (&'a str, Uuid);

/// The events of a batch that are not known, each once, and what that makes of every request. Of an event
/// in two requests, the first has it.
fn fresh<'a>(
    batch: &[&'a Request],
    mut known: HashSet<Key<'a>>,
) -> (Vec<&'a EventRow>, Vec<Option<Appended>>) {
    let mut events = Vec::new();
    let answers = batch.iter().map(|request| {
        let before = events.len();
        events.extend(request.0.iter().filter(|event| known.insert((event.team_id.as_str(), event.id))));
        let new = events.len() - before;
        Some(Appended { new, duplicates: request.0.len() - new })
    });
    let answers = answers.collect();
    (events, answers)
}
