//! Brings the newest checkpoint of every team to the second places, and looks how those are. Works in the process that
//! sequences. Must never hold up signing.

use std::{sync::Arc, time::Duration};

use ::store::Database;
use futures_util::{StreamExt, stream};
use opentelemetry::{KeyValue, metrics::Gauge};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{Checkpoints, Located};
use crate::{
    Error,
    copy::{Copy, Failure},
    store::{self, Uncopied},
};

/// How often a place is looked at: with the longest answer, a missing one is known within 5 s.
const LOOK: Duration = Duration::from_millis(1_500);
/// Checkpoints that are brought to one place at once.
const AT_ONCE: usize = 8;
/// Checkpoints of one round.
const ROUND: i64 = 500;
/// Longest rest after a copy failed that a look did not expect.
const MAX_REST: Duration = Duration::from_secs(30);
/// How often contradicted teams are looked at again.
const SURVEY: Duration = Duration::from_secs(10);

/// Serves one place while this process sequences, until told to stop.
pub(crate) async fn keep(
    checkpoints: Checkpoints,
    database: Database,
    place: Arc<Located>,
    mut in_office: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut round =
        Round { checkpoints, database, place, due: Instant::now(), failed: 0, copy_failure: String::new() };
    let failing = failing();
    while !stop.is_cancelled() {
        if *in_office.borrow_and_update() {
            round.go().await;
            let label = [KeyValue::new("place", round.place.name.clone())];
            failing.record(u64::from(!round.place.failure().is_empty()), &label);
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
            changed = in_office.changed() => if changed.is_err() { return },
        }
    }
}

/// Looks at every team whenever this process begins to sequence or a place is back, and at contradicted ones again and
/// again.
pub(crate) async fn survey(
    checkpoints: Checkpoints,
    database: Database,
    mut in_office: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    let mut all = true;
    while !stop.is_cancelled() {
        let is_mine = *in_office.borrow_and_update();
        // What could not be read is compared once it can be.
        let is_unread = checkpoints.places().iter().any(|place| !place.failure().is_empty());
        if is_mine && let Err(error) = look(&checkpoints, &database, all).await {
            tracing::debug!(%error, "teams cannot be compared with second places for now");
        } else {
            all = !is_mine || is_unread;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(SURVEY) => {}
            changed = in_office.changed() => if changed.is_err() { return },
        }
    }
}

async fn look(checkpoints: &Checkpoints, database: &Database, all: bool) -> Result<(), Error> {
    let mut teams = checkpoints.contradicted();
    if all {
        teams.extend(store::teams_with_trees(database.pool()?).await?);
    }
    let teams = stream::iter(teams).map(|team| async move { checkpoints.examine(database, &team).await });
    let mut done = teams.buffer_unordered(AT_ONCE);
    while let Some(done) = done.next().await {
        done?;
    }
    Ok(())
}

/// What is remembered of a place from one look to the next.
struct Round {
    checkpoints: Checkpoints,
    database: Database,
    place: Arc<Located>,
    /// When the next copies go.
    due: Instant,
    /// Copies that failed one after the other.
    failed: u32,
    copy_failure: Failure,
}

impl Round {
    async fn go(&mut self) {
        let seen = self.place.place.probe(self.checkpoints.config().timeout()).await;
        // A place that is back gets what it missed at once.
        let is_back = seen.is_ok() && !self.place.failure().is_empty() && self.failed == 0;
        let failure = match seen {
            Err(failure) => failure,
            Ok(()) if is_back || Instant::now() >= self.due => match self.copy().await {
                Ok(failure) => failure,
                Err(error) => return tracing::debug!(%error, "checkpoints wait for the database"),
            },
            Ok(()) => self.copy_failure.clone(),
        };
        self.place.set_failure(&failure);
        let written = async { store::place_put(self.database.pool()?, &self.place.name, &failure).await };
        if let Err(error) = written.await {
            tracing::debug!(%error, "how a second place is cannot be written down");
        }
    }

    /// Brings what is missing there; gives why it failed, empty where it did not.
    async fn copy(&mut self) -> Result<Failure, Error> {
        let uncopied = store::checkpoints_uncopied(self.database.pool()?, &self.place.name, ROUND).await?;
        let (copied, failure) = self.bring(uncopied).await;
        if !copied.is_empty() {
            store::copies_put(self.database.pool()?, &self.place.name, &copied).await?;
        }
        let config = self.checkpoints.config();
        (self.failed, self.due) = if failure.is_empty() {
            (0, Instant::now() + config.copy_interval())
        } else {
            let rest = MAX_REST.min(Duration::from_secs(1 << self.failed.min(5)));
            (self.failed.saturating_add(1), Instant::now() + rest)
        };
        self.copy_failure.clone_from(&failure);
        Ok(failure)
    }

    /// Ends at the first failure: what a place refuses once it will refuse again.
    async fn bring(&self, uncopied: Vec<Uncopied>) -> (Vec<Uncopied>, Failure) {
        let brought = stream::iter(uncopied).map(|copy| async move { (self.bring_one(&copy).await, copy) });
        let mut brought = brought.buffer_unordered(AT_ONCE);
        let (mut copied, mut failure) = (Vec::new(), Failure::new());
        while let Some((done, copy)) = brought.next().await {
            match done {
                Ok(true) => copied.push(copy),
                Ok(false) => {}
                Err(why) => {
                    failure = why;
                    break;
                }
            }
        }
        (copied, failure)
    }

    /// `false`: this team's must not be brought.
    async fn bring_one(&self, uncopied: &Uncopied) -> Result<bool, Failure> {
        let may = self.checkpoints.may_copy(&self.database, &self.place, &uncopied.team).await;
        if !may? {
            return Ok(false);
        }
        let copy = Copy { team: &uncopied.team, size: uncopied.size, note: &uncopied.checkpoint };
        self.place.place.put(copy, self.checkpoints.config().timeout()).await?;
        Ok(true)
    }
}

/// 1 while a second place fails.
fn failing() -> Gauge<u64> {
    let meter = opentelemetry::global::meter("toolcrib");
    let gauge = meter.u64_gauge("toolcrib.audit.checkpoint_place_failing");
    gauge.with_description("1 while checkpoints do not reach this second place").build()
}
