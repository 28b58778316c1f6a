//! Tools that are offered in every answer besides the ranking: a copy in memory, so that a selection asks no one. Must
//! never make a tool be offered to whoever may not call it; `select.rs` asks for permission as for any other.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use types::{Caller, Category};
use uuid::Uuid;

use crate::{
    Error,
    index::Index,
    nearest::nearest,
    store::{self, Pinned},
};

/// How often the changes of other replicas are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Most pins of a team.
pub(crate) const MAX_PINS: i64 = 100;
/// Longest note, in bytes.
const MAX_NOTE: usize = 1_024;
/// Longest name of an agent, in bytes.
const MAX_AGENT: usize = 256;

/// A tool that is pinned.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pin {
    pub id: Uuid,
    pub tool_name: String,
    /// Empty: all agents.
    pub agent_id: String,
    /// `None`: tasks of every category.
    pub category: Option<Category>,
    pub note: String,
    pub create_agent_id: String,
    pub create_time: DateTime<Utc>,
}

impl Pin {
    /// Whether it is for this agent, and for tasks of this category.
    pub(crate) fn is_for(&self, agent: &str, category: Option<Category>) -> bool {
        (self.agent_id.is_empty() || self.agent_id == agent)
            && (self.category.is_none() || self.category == category)
    }
}

/// Every team's pins. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pins {
    teams: Arc<RwLock<HashMap<String, Arc<Vec<Pin>>>>>,
}

impl Pins {
    /// A team's pins, by tool.
    pub(crate) fn team(&self, team: &str) -> Arc<Vec<Pin>> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
    }

    /// Reads what was changed since a horizon and gives the next one; 0 reads all.
    pub(crate) async fn read(&self, database: &Database, horizon: i64) -> Result<i64, Error> {
        let (next, changed) = store::pins_changed(database.pool()?, horizon).await?;
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        for (team, pins) in changed {
            teams.insert(team, Arc::new(pins));
        }
        Ok(next)
    }

    /// Reads what other replicas change, until told to stop.
    pub(crate) async fn follow(self, database: Database, mut horizon: i64, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            match self.read(&database, horizon).await {
                Ok(next) => horizon = next,
                Err(error) => {
                    tracing::warn!(%error, "pins cannot be read; selections use the copy in memory");
                }
            }
        }
    }

    /// Pins a tool, here at once; pinning it again changes the note.
    pub(crate) async fn pin(
        &self,
        database: &Database,
        caller: &Caller,
        index: &Index,
        pin: Pin,
    ) -> Result<Pin, Error> {
        check(index, &pin)?;
        match store::pin_put(database.pool()?, &caller.team, &pin, MAX_PINS).await? {
            Pinned::Done(pin) => {
                self.refresh(database, &caller.team).await?;
                Ok(*pin)
            }
            Pinned::TooMany => {
                let description = format!("the team has {MAX_PINS} pins, the most there may be; unpin one");
                Err(Error::invalid("tool_name", description))
            }
        }
    }

    /// Ends a pin, here at once.
    pub(crate) async fn unpin(&self, database: &Database, team: &str, id: Uuid) -> Result<(), Error> {
        if !store::pin_delete(database.pool()?, team, id).await? {
            return Err(Error::NotFound { what: "pin", id: id.to_string() });
        }
        self.refresh(database, team).await
    }

    /// The pins as they are kept.
    pub(crate) async fn list(&self, database: &Database, team: &str) -> Result<Vec<Pin>, Error> {
        Ok(store::pins_list(database.pool()?, team).await?)
    }

    async fn refresh(&self, database: &Database, team: &str) -> Result<(), Error> {
        let pins = store::pins_list(database.pool()?, team).await?;
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        teams.insert(team.to_owned(), Arc::new(pins));
        Ok(())
    }
}

fn check(index: &Index, pin: &Pin) -> Result<(), Error> {
    if pin.tool_name.is_empty() {
        return Err(Error::invalid("tool_name", "is not set"));
    }
    let has_control = |text: &str| text.contains(char::is_control);
    if pin.agent_id.len() > MAX_AGENT || has_control(&pin.agent_id) {
        let description = format!("must be at most {MAX_AGENT} bytes without control characters");
        return Err(Error::invalid("agent_id", description));
    }
    if pin.note.len() > MAX_NOTE || pin.note.contains('\0') {
        return Err(Error::invalid(
            "note",
            format!("must be at most {MAX_NOTE} bytes without zero characters"),
        ));
    }
    if index.find(&pin.tool_name).is_none() {
        let names = index.entries().map(|(_, entry)| entry.name.as_str());
        return Err(Error::ToolNotFound {
            nearest: nearest(&pin.tool_name, names),
            name: pin.tool_name.chars().take(128).collect(),
        });
    }
    Ok(())
}
