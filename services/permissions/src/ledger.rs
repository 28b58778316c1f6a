//! Reservations and their ends, written for many calls at once, so that a call costs a share of a
//! statement. Nothing is granted that the database did not grant.

mod allot;

use ::store::{Database, Entry, Error, GroupCommit, Kept};

use crate::{
    budget_alerts::Witness,
    store::{self, Connection, NewReservation, Settlement},
};

pub(crate) use allot::{Full, Taken};

/// The way to write. Cheap to clone; the writers end when every clone is gone.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    takes: GroupCommit<NewReservation>,
    ends: GroupCommit<Settlement>,
}

impl Ledger {
    /// The ledger, with its writers at work. Must be called inside a tokio runtime.
    #[cfg(test)]
    pub(crate) fn start(database: &Database) -> Self {
        Self::start_telling(database, Witness::default())
    }

    /// The same, with somebody who sees what reservations reach.
    pub(crate) fn start_telling(database: &Database, witness: Witness) -> Self {
        Self {
            takes: GroupCommit::start(Kept::relaxed(database), witness),
            ends: GroupCommit::start(Kept::relaxed(database), ()),
        }
    }

    /// Takes all that a call needs, or nothing. A conflict means that another process took it for the same
    /// execution: ask again.
    pub(crate) async fn take(&self, wanted: NewReservation) -> Result<Taken, Error> {
        self.takes.write(wanted).await
    }

    /// Ends a reservation; `false` when there is none.
    pub(crate) async fn end(&self, settlement: Settlement) -> Result<bool, Error> {
        self.ends.write(settlement).await
    }

    /// Ends reservations, those of different decisions together, and answers each as `end` does, in their
    /// order.
    pub(crate) async fn end_all(&self, settlements: Vec<Settlement>) -> Vec<Result<bool, Error>> {
        self.ends.write_all(settlements).await
    }
}

impl Entry for NewReservation {
    const NAME: &'static str = "reservations";

    type Desk = Witness;
    type Answer = Taken;
    type Key = (String, uuid::Uuid);

    fn key(&self) -> Option<Self::Key> {
        Some((self.team_id.clone(), self.execution_id))
    }

    async fn commit(
        witness: &mut Witness,
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<Taken>>, Error> {
        let mut rows = None;
        // A place of an hour and nothing else: the common case.
        let is_plain =
            |wanted: &&Self| wanted.day.is_none() && matches!(wanted.counters(), [Some(_), None, None, None]);
        if batch.iter().all(is_plain) {
            rows = store::places_take(connection, batch).await?;
        }
        let rows = match rows {
            Some(rows) => rows,
            None => store::reservations_insert(connection, batch).await?,
        };
        witness.see(batch, &rows);
        let missing = allot::missing(batch, &rows);
        if !missing.is_empty() {
            store::counters_make(connection, &missing).await?;
        }
        Ok(allot::answers(batch, rows))
    }
}

impl Entry for Settlement {
    const NAME: &'static str = "ends of reservations";

    type Desk = ();
    type Answer = bool;
    type Key = (String, uuid::Uuid);

    fn key(&self) -> Option<Self::Key> {
        Some((self.team_id.clone(), self.decision_id))
    }

    async fn commit(
        (): &mut (),
        connection: &mut Connection,
        batch: &[&Self],
    ) -> Result<Vec<Option<bool>>, Error> {
        Ok(store::reservations_settle(connection, batch).await?.into_iter().map(Some).collect())
    }
}
