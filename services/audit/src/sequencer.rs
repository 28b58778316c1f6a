//! Makes leaves of records: one process at a time, team by team, in order and without a gap, and signs what came of it.
//! `grow.rs` is the pure part. Must never sign a tree that does not follow from the one signed before, and never write
//! once another process has taken over.

mod figures;
mod grow;

use std::{
    collections::HashMap,
    error::Error as _,
    pin::pin,
    slice,
    time::{Duration, Instant},
};

use ::store::{Database, Kept};
use chrono::Utc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trail::{Hash, TileId, Tiles};

use self::figures::Figures;
use crate::{
    Error, adopt,
    checkpoints::{Checkpoints, Standing},
    fold,
    store::{self, Connection, NewTree, RecordRow, Waiting},
    subjects::Subjects,
};

/// How often the place of whoever sequences is asked for by the others.
const ASK: Duration = Duration::from_secs(1);
/// How often a sign of life is given.
const BEAT: Duration = Duration::from_secs(1);
/// Teams of one turn.
const TEAMS: i64 = 256;
/// Fewest records of a team in one turn, where so many wait.
const LEAST: usize = 16;

/// Makes leaves and signs.
pub(crate) struct Sequencer {
    database: Database,
    checkpoints: Checkpoints,
    /// Seals what older versions have left in the clear.
    subjects: Subjects,
    interval: Duration,
    batch: usize,
    figures: Figures,
}

/// Trees as they are to be, and the records that made them so.
pub(crate) struct Prepared {
    trees: Vec<NewTree>,
    /// In order of the trees.
    records: Vec<Vec<RecordRow>>,
    /// Whether there is more than one turn takes.
    is_more: bool,
}

/// What a turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing waits any more.
    Done,
    /// More waits.
    More,
    /// Another process has taken over; nothing was written.
    Fenced,
}

/// What came of writing trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// All of them are there.
    Done,
    /// One of them did not follow from the tree that is there; nothing was written.
    Unlike,
    /// Another process has taken over; nothing was written.
    Fenced,
}

impl Sequencer {
    /// For this trail, every `interval` and at most about `batch` records in one transaction.
    pub(crate) fn new(
        database: Database,
        checkpoints: Checkpoints,
        subjects: Subjects,
        (interval, batch): (Duration, usize),
    ) -> Self {
        Self { database, checkpoints, subjects, interval, batch, figures: Figures::new() }
    }

    /// Sequences whenever no other process does, until told to stop; `office` tells whether it does.
    pub(crate) async fn run(self, office: watch::Sender<bool>, stop: CancellationToken) {
        let mut kept = Kept::durable(&self.database);
        while !stop.is_cancelled() {
            if let Err(error) = self.serve(&mut kept, &office, &stop).await {
                tracing::warn!(%error, "sequencing is interrupted");
            }
            office.send_replace(false);
            tokio::select! {
                () = tokio::time::sleep(ASK) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// One term of office: from taking the place until it is lost. The place goes with the connection.
    async fn serve(
        &self,
        kept: &mut Kept,
        office: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let mut connection = kept.take().await?;
        let Some(epoch) = store::sequencer_take(&mut connection).await? else {
            kept.put_back(connection);
            return Ok(());
        };
        tracing::info!(epoch, "this process sequences the trail");
        self.checkpoints.begin_anew();
        office.send_replace(true);
        let mut beat = Instant::now();
        while !stop.is_cancelled() {
            let began = Instant::now();
            if beat.elapsed() >= BEAT {
                beat = began;
                if !store::sequencer_beat(&mut connection, epoch).await? {
                    return Ok(());
                }
            }
            match self.turn(&mut connection, epoch).await? {
                Turn::Fenced => return Ok(()),
                Turn::More => continue,
                Turn::Done => {}
            }
            let rest = tokio::time::sleep(self.interval.saturating_sub(began.elapsed()));
            let rest = async {
                tokio::select! { () = rest => {}, () = stop.cancelled() => {} }
            };
            beating(&mut connection, epoch, rest).await?;
        }
        Ok(())
    }

    /// One turn. What waits for its old rows to be moved over comes in a later one.
    pub(crate) async fn turn(&self, connection: &mut Connection, epoch: i64) -> Result<Turn, Error> {
        let moved = adopt::adopt_some(connection, &self.subjects).await.unwrap_or_else(|error| {
            // It is tried again in the next turn; what is sealed already need not wait for it.
            tracing::warn!(%error, "events of an older version cannot be moved over");
            0
        });
        let prepared = self.prepare(connection, epoch).await?;
        let is_more = prepared.is_more || moved > 0;
        if prepared.trees.is_empty() {
            return Ok(if moved > 0 { Turn::More } else { Turn::Done });
        }
        if !self.commit(connection, epoch, prepared).await? {
            tracing::warn!(epoch, "another process has taken over sequencing; nothing was written");
            return Ok(Turn::Fenced);
        }
        Ok(if is_more { Turn::More } else { Turn::Done })
    }

    /// Reads what waits and makes the trees of it; writes nothing but why a team cannot be gone on with. Teams that do
    /// not get a tree now do not take the places of those behind them.
    pub(crate) async fn prepare(&self, connection: &mut Connection, epoch: i64) -> Result<Prepared, Error> {
        let mut left_out = self.checkpoints.resting();
        loop {
            let waiting = store::teams_waiting(connection, &left_out, TEAMS).await?;
            let is_full = i64::try_from(waiting.len()) == Ok(TEAMS);
            left_out.extend(waiting.iter().map(|team| team.team.clone()));
            let mut prepared = beating(connection, epoch, self.grow(waiting)).await??;
            if is_full && prepared.trees.is_empty() {
                continue;
            }
            prepared.is_more |= is_full;
            return Ok(prepared);
        }
    }

    /// Makes trees of what waits of these teams.
    async fn grow(&self, waiting: Vec<Waiting>) -> Result<Prepared, Error> {
        let waiting = self.sound(waiting).await?;
        let mut prepared = Prepared { trees: Vec::new(), records: Vec::new(), is_more: false };
        if waiting.is_empty() {
            return Ok(prepared);
        }
        let each = i64::try_from((self.batch / waiting.len()).max(LEAST)).unwrap_or(i64::MAX);
        let pool = self.database.pool()?;
        let mut records = by_team(store::records_after_trees(pool, &waiting, each).await?);
        let mut tiles = self.edges(&waiting).await?;
        for team in waiting {
            let records = records.remove(&team.team).unwrap_or_default();
            let edge = tiles.remove(&team.team).unwrap_or_default();
            match grow::grow(&team, edge, records, self.checkpoints.signer()) {
                Ok(Some((tree, records))) => {
                    prepared.is_more |= tree.size < team.head;
                    prepared.trees.push(tree);
                    prepared.records.push(records);
                }
                Ok(None) => self.note_gap(&team).await?,
                Err(broken) => self.note_broken(&team.team, &broken.to_string()).await?,
            }
        }
        Ok(prepared)
    }

    /// Writes prepared trees, with what is folded out of their records; `false`: another process has taken over, and
    /// nothing more was written. What fails for all together is done team by team, so that only those are left out
    /// that cannot be written.
    pub(crate) async fn commit(
        &self,
        connection: &mut Connection,
        epoch: i64,
        prepared: Prepared,
    ) -> Result<bool, Error> {
        let Prepared { trees, records, .. } = prepared;
        match self.put(connection, epoch, &trees, &records).await {
            Ok(Put::Done) => return Ok(true),
            Ok(Put::Fenced) => return Ok(false),
            Err(error @ ::store::Error::Unavailable(_)) => return Err(error.into()),
            Ok(Put::Unlike) | Err(::store::Error::Conflict { .. } | ::store::Error::Failed(_)) => {}
        }
        for (tree, records) in trees.iter().zip(&records) {
            let reason = match self
                .put(connection, epoch, slice::from_ref(tree), slice::from_ref(records))
                .await
            {
                Ok(Put::Done) => continue,
                Ok(Put::Fenced) => return Ok(false),
                Err(error @ ::store::Error::Unavailable(_)) => return Err(error.into()),
                Ok(Put::Unlike) => format!(
                    "the tree of {} events that is to be gone on with is not the newest that was signed; it is \
                     looked at again",
                    tree.old_size
                ),
                Err(error @ (::store::Error::Conflict { .. } | ::store::Error::Failed(_))) => {
                    let cause = error.source().map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(team = tree.team, %error, cause, "a tree cannot be written");
                    let (from, to) = (tree.old_size + 1, tree.size);
                    format!(
                        "positions {from} to {to} cannot be put under a checkpoint: {error}; the log of the audit \
                         service says why"
                    )
                }
            };
            self.note_broken(&tree.team, &reason).await?;
        }
        Ok(true)
    }

    /// Writes trees in one transaction: all or none.
    async fn put(
        &self,
        connection: &mut Connection,
        epoch: i64,
        trees: &[NewTree],
        records: &[Vec<RecordRow>],
    ) -> Result<Put, ::store::Error> {
        let mut transaction = store::begin(connection).await?;
        if !store::epoch_hold_in_txn(&mut transaction, epoch).await? {
            return Ok(Put::Fenced);
        }
        if store::trees_put_in_txn(&mut transaction, epoch, trees).await? != trees.len() as u64 {
            return Ok(Put::Unlike);
        }
        store::tiles_put_in_txn(&mut transaction, trees).await?;
        store::checkpoints_keep_in_txn(&mut transaction, trees).await?;
        for (tree, records) in trees.iter().zip(records) {
            fold::fold(&mut transaction, &tree.team, records).await?;
        }
        transaction.commit().await?;
        self.mend(trees).await?;
        self.figures.signed(records, Utc::now());
        Ok(Put::Done)
    }

    /// Teams that may be signed for; those that were never looked at are now.
    async fn sound(&self, waiting: Vec<Waiting>) -> Result<Vec<Waiting>, Error> {
        let unknown = waiting.iter().filter(|team| self.checkpoints.standing(&team.team).is_none());
        let examined = unknown.map(|team| self.checkpoints.examine(&self.database, &team.team));
        for examined in futures_util::future::join_all(examined).await {
            examined?;
        }
        let may = |team: &Waiting| match self.checkpoints.standing(&team.team) {
            Some(Standing::Sound) => true,
            Some(Standing::Broken(until)) => until <= Instant::now(),
            Some(Standing::Contradicted) | None => false,
        };
        Ok(waiting.into_iter().filter(may).collect())
    }

    /// The tiles at the right edge of each tree.
    async fn edges(&self, waiting: &[Waiting]) -> Result<HashMap<String, Tiles>, Error> {
        let wanted: Vec<(&str, TileId)> = waiting
            .iter()
            .flat_map(|team| grow::tiles_for(team).into_iter().map(|tile| (team.team.as_str(), tile)))
            .collect();
        let mut edges: HashMap<String, Tiles> = HashMap::new();
        if wanted.is_empty() {
            return Ok(edges);
        }
        for (team, id, hashes) in store::tiles_of(self.database.pool()?, &wanted).await? {
            edges.entry(team).or_default().insert(id, hashes);
        }
        Ok(edges)
    }

    /// The next record is not there: it waits to be moved over, or it is gone.
    async fn note_gap(&self, team: &Waiting) -> Result<(), Error> {
        let next = team.size + 1;
        if store::event_is_to_move(self.database.pool()?, &team.team, next).await? {
            return Ok(());
        }
        let reason = format!(
            "the record at position {next} is gone before it was signed, and {} wait behind it; restore it from a backup",
            team.head - next
        );
        self.note_broken(&team.team, &reason).await
    }

    async fn note_broken(&self, team: &str, reason: &str) -> Result<(), Error> {
        if store::halt_put(self.database.pool()?, team, reason).await? {
            tracing::error!(team, reason, "nothing is signed for this team");
        }
        self.checkpoints.set_broken(team);
        Ok(())
    }

    /// Teams that were broken and are signed for again.
    async fn mend(&self, trees: &[NewTree]) -> Result<(), ::store::Error> {
        let is_broken = |team: &str| matches!(self.checkpoints.standing(team), Some(Standing::Broken(_)));
        let mended: Vec<&str> =
            trees.iter().map(|tree| tree.team.as_str()).filter(|team| is_broken(team)).collect();
        if mended.is_empty() {
            return Ok(());
        }
        store::halts_end(self.database.pool()?, &mended).await?;
        for team in mended {
            tracing::info!(team, "this team is signed for again");
            self.checkpoints.set_standing(team, Standing::Sound);
        }
        Ok(())
    }
}

/// Does what leaves the connection alone, with a sign of life whenever it takes long: the server would end a silent
/// connection, and the place with it. That the place is lost is found by whoever writes next.
async fn beating<T>(
    connection: &mut Connection,
    epoch: i64,
    work: impl Future<Output = T>,
) -> Result<T, Error> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return Ok(done),
            () = tokio::time::sleep(BEAT) => {
                store::sequencer_beat(connection, epoch).await?;
            }
        }
    }
}

/// Records in order, by team.
fn by_team(records: Vec<RecordRow>) -> HashMap<String, Vec<RecordRow>> {
    let mut teams: HashMap<String, Vec<RecordRow>> = HashMap::new();
    for record in records {
        match teams.get_mut(&record.team_id) {
            Some(known) => known.push(record),
            None => {
                teams.insert(record.team_id.clone(), vec![record]);
            }
        }
    }
    teams
}

/// The root as the database has it.
fn root_of(bytes: &[u8]) -> Option<Hash> {
    Hash::try_from(bytes).ok()
}
