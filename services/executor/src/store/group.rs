//! One group commit: what the ledger writes at once, whole or nothing.

use std::collections::{HashMap, HashSet};

use ::store::Error;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    Intent, OutboxEvent, Outcome, ProgressEvent, events_insert, intents_insert, outcomes_recorded,
    outcomes_update, progress_insert, takes_more,
};

/// What is written at once.
#[derive(Default)]
pub(crate) struct Group<'a> {
    pub intents: Vec<&'a Intent>,
    pub outcomes: Vec<&'a Outcome>,
    pub events: Vec<&'a OutboxEvent>,
    pub progress: Vec<&'a ProgressEvent>,
}

/// What was written.
#[derive(Debug, Default)]
pub(crate) struct Written {
    /// The executions whose intent was.
    pub intents: HashSet<Uuid>,
    /// The executions whose outcome was, and the ids of its events in the outbox; none when it stood already.
    pub outcomes: HashMap<Uuid, Vec<i64>>,
    /// The ids in the outbox of the other events, in their order.
    pub events: Vec<i64>,
}

/// Writes a group. One statement needs no transaction around it.
pub(crate) async fn group_commit(connection: &mut PgConnection, group: &Group<'_>) -> Result<Written, Error> {
    if group.takes_one_statement() {
        return group.write(connection).await;
    }
    let mut transaction = connection.begin().await?;
    let written = group.write(&mut transaction).await?;
    transaction.commit().await?;
    Ok(written)
}

impl Group<'_> {
    fn takes_one_statement(&self) -> bool {
        let kinds = [
            self.intents.is_empty(),
            self.outcomes.is_empty(),
            self.events.is_empty(),
            self.progress.is_empty(),
        ];
        kinds.iter().filter(|is_empty| !**is_empty).count() <= 1 && !takes_more(&self.outcomes)
    }

    /// Progress before outcomes: of a run that has ended none is written.
    async fn write(&self, connection: &mut PgConnection) -> Result<Written, Error> {
        let mut written = Written::default();
        if !self.intents.is_empty() {
            written.intents.extend(intents_insert(connection, &self.intents).await?);
        }
        if !self.progress.is_empty() {
            progress_insert(connection, &self.progress).await?;
        }
        if !self.outcomes.is_empty() {
            let ended = outcomes_update(connection, &self.outcomes).await?;
            written.outcomes.extend(ended.into_iter().map(|ended| (ended.id, ended.events)));
            if written.outcomes.len() < self.outcomes.len() {
                // Written before, by a commit whose answer was lost: its events are found in the outbox.
                for id in outcomes_recorded(connection, &self.outcomes).await? {
                    written.outcomes.entry(id).or_default();
                }
            }
        }
        if !self.events.is_empty() {
            written.events = events_insert(connection, &self.events).await?;
        }
        Ok(written)
    }
}
