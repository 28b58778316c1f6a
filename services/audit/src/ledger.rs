//! Group commit of records: requests that wait while the last statement runs go into the next one, over a connection
//! of its own. A request is written whole or not at all, and nobody waits for a batch to fill. Must never answer for
//! what is not committed, nor write what is sealed under a key that is erased.

use std::collections::{BTreeSet, HashSet};

use ::store::{Database, Entry, Error, GroupCommit, Kept};
use uuid::Uuid;

use crate::{
    append::Appended,
    store::{self, Connection, RecordRow, SealedUnder, Txn},
    subjects::Sealed,
};

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    requests: GroupCommit<Request>,
}

/// What became of a request's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    /// They are in the trail.
    Done(Appended),
    /// None is: these keys are erased that some are sealed under.
    Stale(Vec<Uuid>),
}

impl Ledger {
    /// The ledger, with its writer at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database) -> Self {
        Self { requests: GroupCommit::start(Kept::durable(database), ()) }
    }

    /// Adds the records that are new: all of them or none.
    pub(crate) async fn append(&self, records: Vec<Sealed>) -> Result<Written, Error> {
        self.requests.write(Request(records)).await
    }
}

/// The records of one request.
struct Request(Vec<Sealed>);

impl Entry for Request {
    const NAME: &'static str = "events";
    /// Whoever stopped waiting will send it again.
    const LAPSES: bool = true;

    type Answer = Written;
    type Desk = ();
    type Key = ();

    fn rows(&self) -> usize {
        self.0.len()
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|sealed| sealed.record.payload.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Takes all for new, as it nearly always is, and all keys for live.
    async fn commit(
        (): &mut (),
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<Written>>, Error> {
        let requests: Vec<&[Sealed]> = batch.iter().map(|request| request.0.as_slice()).collect();
        let (records, answers) = fresh(&requests, HashSet::new(), &[]);
        if records.is_empty() {
            return Ok(answers);
        }
        match store::records_insert(connection, &rows(&records), &under(&records), false).await {
            Ok(true) => return Ok(answers),
            Ok(false) | Err(Error::Conflict { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut transaction = store::begin(connection).await?;
        let answers = write_in_txn(&mut transaction, &requests).await?;
        transaction.commit().await.map_err(Error::from)?;
        Ok(answers)
    }
}

/// Looks every key and every record up first, under the locks that keep others from erasing or adding one.
pub(crate) async fn write_in_txn(
    transaction: &mut Txn<'_>,
    requests: &[&[Sealed]],
) -> Result<Vec<Option<Written>>, Error> {
    let all: Vec<&Sealed> = requests.iter().copied().flatten().collect();
    let SealedUnder { teams, users } = under(&all);
    let dead = store::subjects_dead_in_txn(transaction, &[teams, users].concat()).await?;
    let teams: Vec<&str> = all.iter().map(|sealed| sealed.record.team_id.as_str()).collect();
    store::heads_lock_in_txn(transaction, &teams).await?;
    let known = store::records_known_in_txn(transaction, &rows(&all)).await?;
    let known = known.iter().map(|(team, id)| (team.as_str(), *id)).collect();
    let (records, answers) = fresh(requests, known, &dead);
    if !records.is_empty() {
        store::records_insert(transaction, &rows(&records), &SealedUnder::default(), true).await?;
    }
    Ok(answers)
}

fn rows<'a>(records: &[&'a Sealed]) -> Vec<&'a RecordRow> {
    records.iter().map(|sealed| &sealed.record).collect()
}

/// The keys that records are sealed under, each once.
fn under<'a>(records: &[&'a Sealed]) -> SealedUnder<'a> {
    let keys = |of_users: bool| {
        let those = records.iter().filter(move |sealed| sealed.record.subject_id.is_some() == of_users);
        let keys = those.filter_map(|sealed| Some((sealed.record.team_id.as_str(), sealed.under?)));
        keys.collect::<BTreeSet<_>>().into_iter().collect()
    };
    SealedUnder { teams: keys(false), users: keys(true) }
}

/// A record's key in the trail.
type Key<'a> = (&'a str, Uuid);

/// The records of requests that are not known, each once, and what that makes of every request. Of a record in two
/// requests, the first has it. A request with a record under a dead key is left out whole.
fn fresh<'a>(
    requests: &[&'a [Sealed]],
    mut known: HashSet<Key<'a>>,
    dead: &[Uuid],
) -> (Vec<&'a Sealed>, Vec<Option<Written>>) {
    let mut records = Vec::new();
    let answers = requests.iter().map(|request| {
        let mut stale: Vec<Uuid> = request.iter().filter_map(|sealed| sealed.under).collect();
        stale.retain(|id| dead.contains(id));
        if !stale.is_empty() {
            return Some(Written::Stale(stale));
        }
        let before = records.len();
        for sealed in *request {
            if known.insert((sealed.record.team_id.as_str(), sealed.record.id)) {
                records.push(sealed);
            }
        }
        let new = records.len() - before;
        Some(Written::Done(Appended { new, duplicates: request.len() - new }))
    });
    let answers = answers.collect();
    (records, answers)
}
