//! Group commit of outcomes: requests that wait while the last transaction runs go into the next one, over a connection
//! of its own. A request is written whole or not at all, and nobody waits for a batch to fill. Must never answer for
//! what is not committed.

use std::collections::{BTreeSet, HashMap, HashSet};

use ::store::{Database, Entry, Error, GroupCommit, Kept};
use catalog::Catalog;
use uuid::Uuid;

use super::{
    kind::kind,
    memory::{Changes, Learned},
    write::{Fresh, Known, credit},
};
use crate::{
    patterns::{self, Sequences},
    store::{self, Connection, Followed, OutcomeRow},
};

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    requests: GroupCommit<Request>,
}

/// What the writer has besides its connection.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    /// What it learns is in this copy at once.
    pub learned: Learned,
    pub sequences: Sequences,
    /// Knows the category of a tool that was called without a selection.
    pub catalog: Catalog,
}

impl Ledger {
    /// The ledger, with its writer at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database, desk: Desk) -> Self {
        Self { requests: GroupCommit::start(Kept::durable(database), desk) }
    }

    /// Records the outcomes that are new, all of them or none, and gives their number.
    pub(crate) async fn record(&self, outcomes: Vec<OutcomeRow>) -> Result<i64, Error> {
        self.requests.write(Request(outcomes)).await
    }
}

/// The outcomes of one request.
struct Request(Vec<OutcomeRow>);

impl Entry for Request {
    const NAME: &'static str = "outcomes";
    /// Whoever stopped waiting will send it again.
    const LAPSES: bool = true;

    type Answer = i64;
    type Desk = Desk;
    type Key = ();

    fn rows(&self) -> usize {
        self.0.len()
    }

    async fn commit(
        desk: &mut Desk,
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<i64>>, Error> {
        let mut outcomes = distinct(batch);
        let teams: BTreeSet<String> = outcomes.iter().map(|outcome| outcome.team_id.clone()).collect();
        let mut transaction = store::begin(connection).await?;
        let now = store::teams_lock(&mut transaction, &Vec::from_iter(teams)).await?;
        let new = store::outcomes_insert(&mut transaction, &outcomes).await?;
        outcomes.retain(|outcome| new.contains_key(&key(outcome)));
        let mut fresh: Vec<Fresh> = outcomes.iter().map(|outcome| fresh(desk, outcome, &new)).collect();
        store::selections_spend(&mut transaction, credit(&mut fresh)).await?;
        let mut known = read(&mut transaction, &fresh).await?;
        let added = known.learn(&fresh, now);
        let mut changes = write(&mut transaction, known).await?;
        store::hours_add(&mut transaction, &added.hours, &added.tools).await?;
        for alarm in &added.alarms {
            changes.alarms.push(store::alarm_put(&mut transaction, alarm).await?);
        }
        let steps = patterns::write(&mut transaction, &outcomes).await?;
        transaction.commit().await.map_err(Error::from)?;
        desk.learned.put(changes);
        desk.sequences.put(steps);
        Ok(answers(batch, &new))
    }
}

fn key(outcome: &OutcomeRow) -> (String, Uuid) {
    (outcome.team_id.clone(), outcome.event_id)
}

/// The outcomes of a batch, each once and in order of team and id.
fn distinct<'a>(batch: &[&'a Request]) -> Vec<&'a OutcomeRow> {
    let mut seen = HashSet::new();
    let all = batch.iter().flat_map(|request| &request.0);
    let mut outcomes: Vec<_> =
        all.filter(|outcome| seen.insert((&outcome.team_id, outcome.event_id))).collect();
    outcomes.sort_unstable_by_key(|outcome| (&outcome.team_id, outcome.event_id));
    outcomes
}

/// How many of each request were new. Of an outcome in two requests, the first has it.
fn answers(batch: &[&Request], new: &HashMap<(String, Uuid), Option<Followed>>) -> Vec<Option<i64>> {
    let mut told = HashSet::new();
    let count = |request: &&Request| {
        let its = request.0.iter().map(key).filter(|key| new.contains_key(key));
        i64::try_from(its.filter(|key| told.insert(key.clone())).count()).ok()
    };
    batch.iter().map(count).collect()
}

/// An outcome with the task it was for: of its selection, else of the kind of work that the tool does.
fn fresh<'a>(desk: &Desk, row: &'a OutcomeRow, new: &HashMap<(String, Uuid), Option<Followed>>) -> Fresh<'a> {
    let followed = new.get(&key(row)).and_then(Option::as_ref);
    let of_selection = followed.map(|followed| followed.category.as_str());
    let category = kind(of_selection, &desk.catalog, &row.team_id, &row.tool_name);
    let task = followed.and_then(|followed| {
        let vector = embed::Vector::from_bytes(followed.task_vector.as_ref()?)?;
        Some((followed.model_id.clone(), vector.numbers().collect()))
    });
    Fresh { row, category, task }
}

async fn read(connection: &mut Connection, fresh: &[Fresh<'_>]) -> Result<Known, Error> {
    let mut known = Known::default();
    let records: HashSet<_> = fresh.iter().map(Fresh::record_key).collect();
    for row in store::records_get(connection, records.iter()).await? {
        known.records.insert((row.team_id, row.tool_name, row.agent_id, row.category), row.counts);
    }
    let tools: HashSet<_> = fresh.iter().map(Fresh::tool_key).collect();
    known.watches.extend(store::watches_get(connection, tools.iter()).await?);
    let centroids: HashSet<_> = fresh.iter().filter_map(Fresh::centroid_key).collect();
    if !centroids.is_empty() {
        for row in store::centroids_get(connection, centroids.iter()).await? {
            known.centroids.insert([row.team_id, row.tool_name, row.agent_id, row.model_id], row.centroid);
        }
    }
    Ok(known)
}

async fn write(connection: &mut Connection, known: Known) -> Result<Changes, Error> {
    let records: Vec<_> = known.records.into_iter().collect();
    let records = store::records_put(connection, &records).await?;
    let centroids: Vec<_> = known.centroids.into_iter().collect();
    let centroids =
        if centroids.is_empty() { Vec::new() } else { store::centroids_put(connection, &centroids).await? };
    Ok(Changes { records, centroids, alarms: Vec::new() })
}
