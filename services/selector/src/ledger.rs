//! Group commit of outcomes: requests that wait while the last statement runs go into the next one, over a
//! connection of its own. A request is written whole or not at all, and nobody waits for a batch to fill.
//! Must never answer for what is not committed.

use std::collections::HashSet;

use ::store::{Database, Entry, Error, GroupCommit, Kept};

use crate::{
    history::History,
    store::{self, Connection, OutcomeRow},
};

/// The way to write. Cheap to clone; the writer ends when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    requests: GroupCommit<Request>,
}

impl Ledger {
    /// The ledger, with its writer at work: what it records is in this copy of the history at once. Must be
    /// called inside a tokio runtime.
    pub(crate) fn start(database: &Database, history: &History) -> Self {
        Self { requests: GroupCommit::start(Kept::durable(database), history.clone()) }
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
    type Desk = History;
    type Key = ();

    fn rows(&self) -> usize {
        self.0.len()
    }

    /// A request alone is one statement. Of several, only the sum is known: where it is not that of all their
    /// outcomes, nothing is written, and each is tried alone.
    async fn commit(
        history: &mut History,
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<i64>>, Error> {
        let (outcomes, answers) = distinct(batch);
        if batch.len() == 1 {
            let (recorded, rows) = store::outcomes_insert(connection, &outcomes).await?;
            history.put(rows);
            return Ok(vec![Some(recorded)]);
        }
        let mut transaction = store::begin(connection).await?;
        let (recorded, rows) = store::outcomes_insert(&mut transaction, &outcomes).await?;
        if recorded < answers.iter().sum() {
            transaction.rollback().await.map_err(Error::from)?;
            return Err(Error::Conflict { constraint: "outcomes that came before".to_owned() });
        }
        transaction.commit().await.map_err(Error::from)?;
        history.put(rows);
        Ok(answers.into_iter().map(Some).collect())
    }
}

/// The outcomes of a batch, each once and in order of team and id, and how many of each request. Of an
/// outcome in two requests, the first has it.
fn distinct<'a>(batch: &[&'a Request]) -> (Vec<&'a OutcomeRow>, Vec<i64>) {
    let (mut seen, mut outcomes, mut answers) = (HashSet::new(), Vec::new(), Vec::new());
    for request in batch {
        let mut count = 0;
        for outcome in &request.0 {
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
