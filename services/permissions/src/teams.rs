//! What this process knows of each team: agents, grants and budget, read when first asked for and kept up
//! to date by `follow.rs`. It is trusted only for `TRUST` after everything was last known to be read; else
//! the database is asked, and without an answer nothing is decided.

mod index;
mod policies;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use ::store::Database;
use redact::Redaction;
use tokio::sync::Semaphore;

use crate::{
    Error,
    access_requests::Approval,
    policies::{AgentFacts, team::TeamPolicies},
    store::{self, GrantRow},
};
use index::Index;

/// How long after everything was known to be read it is decided upon: less than the second in which a
/// revocation bites everywhere.
const TRUST: Duration = Duration::from_millis(900);

/// Where an agent stands with a tool.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub agent: AgentFacts,
    /// The agent's own grants first, then those of its specialization, each oldest first.
    pub grants: Vec<Arc<GrantRow>>,
    /// The agent's approvals for the tool.
    pub approvals: Vec<Approval>,
    /// The team's daily budget in micro USD; 0: none.
    pub daily_micro_usd: i64,
    /// The team's own policies that are in force.
    pub policies: TeamPolicies,
    /// What is known is as of this revision.
    pub revision: i64,
}

/// The teams that were asked for.
#[derive(Debug)]
pub(crate) struct Teams {
    database: Database,
    known: RwLock<HashMap<String, Arc<Team>>>,
    /// When it was last known that no team has a later revision than the one wanted of it.
    verified: Mutex<Option<Instant>>,
    /// What of a team's calls and words is not stored.
    redaction: Arc<Redaction>,
}

#[derive(Debug)]
struct Team {
    name: String,
    /// The latest revision that was heard of.
    wanted: AtomicI64,
    index: RwLock<Index>,
    /// When the last reading that ended had begun.
    read_at: Mutex<Option<Instant>>,
    /// One reads at a time, for all that wait.
    reader: Semaphore,
}

impl Teams {
    pub(crate) fn new(database: &Database) -> Self {
        Self {
            database: database.clone(),
            known: RwLock::default(),
            verified: Mutex::new(None),
            redaction: Arc::default(),
        }
    }

    /// The same under these rules of redaction.
    pub(crate) fn keeping_to(self, redaction: Arc<Redaction>) -> Self {
        Self { redaction, ..self }
    }

    /// The rules under which a team's calls of a tool and its words are stored; what the tool adds is among them.
    pub(crate) fn rules(&self, team: &str, added: redact::Added) -> Arc<redact::Rules> {
        self.redaction.tool(team, added)
    }

    /// Where it all is read.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Where an agent stands with each of some tools, in their order, as of this revision or a later one. `None` when
    /// there is no such agent.
    pub(crate) async fn standings(
        &self,
        team: &str,
        agent: &str,
        tools: &[&str],
        at_least: i64,
    ) -> Result<Option<Vec<Standing>>, Error> {
        let Some(team) = self.current(team, at_least).await? else { return Ok(None) };
        let index = team.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(tools.iter().map(|tool| index.standing(agent, tool)).collect())
    }

    /// The team's own policies that are in force.
    pub(crate) async fn policies(&self, team: &str) -> Result<TeamPolicies, Error> {
        let Some(team) = self.current(team, 0).await? else { return Ok(TeamPolicies::default()) };
        let index = team.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(index.policies().clone())
    }

    /// Hears that a team has this revision: nothing older is decided upon from now on.
    pub(crate) fn changed(&self, team: &str, revision: i64) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(team) = known.get(team) {
            team.wanted.fetch_max(revision, Ordering::AcqRel);
        }
    }

    /// Every team and the latest revision that was heard of; to be asked for later ones.
    pub(crate) fn revisions(&self) -> (Vec<String>, Vec<i64>) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let revision = |team: &Arc<Team>| team.wanted.load(Ordering::Acquire).max(team.revision());
        known.values().map(|team| (team.name.clone(), revision(team))).unzip()
    }

    /// Hears that at this time no team had a later revision than what `changed` was told.
    pub(crate) fn verified(&self, at: Instant) {
        *lock(&self.verified) = Some(at);
    }

    /// Whether what is known may be decided upon.
    pub(crate) fn is_trusted(&self) -> bool {
        lock(&self.verified).is_some_and(|at| at.elapsed() < TRUST)
    }

    /// The team as it stands, read anew unless what is known is trusted and as new as is asked.
    async fn current(&self, name: &str, at_least: i64) -> Result<Option<Arc<Team>>, Error> {
        let asked_at = Instant::now();
        let team = self.entry(name);
        if self.is_trusted() && team.is_current() && team.revision() >= at_least {
            return Ok(Some(team));
        }
        let permit = team.reader.acquire().await;
        // Another reading that began after this request serves it as well.
        let is_read = lock(&team.read_at).is_some_and(|at| at >= asked_at);
        let exists = (is_read && team.is_current()) || team.read(&self.database).await?;
        drop(permit);
        if exists && team.revision() < at_least {
            return Err(Error::Behind { asked: at_least, known: team.revision() });
        }
        if !exists {
            self.known.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        }
        Ok(exists.then_some(team))
    }

    /// Entered before it is read, so that a change in the meantime is heard.
    fn entry(&self, name: &str) -> Arc<Team> {
        if let Some(team) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(team);
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(name.to_owned()).or_insert_with(|| Arc::new(Team::new(name))))
    }
}

impl Team {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            wanted: AtomicI64::new(-1),
            index: RwLock::default(),
            read_at: Mutex::new(None),
            reader: Semaphore::new(1),
        }
    }

    fn revision(&self) -> i64 {
        self.index.read().unwrap_or_else(PoisonError::into_inner).revision()
    }

    fn is_current(&self) -> bool {
        let revision = self.revision();
        revision >= 0 && revision >= self.wanted.load(Ordering::Acquire)
    }

    /// Reads what changed; `false` when there is no such team.
    async fn read(&self, database: &Database) -> Result<bool, Error> {
        let began = Instant::now();
        let changes = store::changes_get(database.pool()?, &self.name, self.revision()).await?;
        let Some(changes) = changes else { return Ok(false) };
        self.index.write().unwrap_or_else(PoisonError::into_inner).apply(changes);
        *lock(&self.read_at) = Some(began);
        Ok(true)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
