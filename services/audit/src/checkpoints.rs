//! Signed checkpoints and their second places: what is signed next must follow from what was signed before, and the newest
//! of it goes to every place. Must never sign for, or copy from, a trail that a place contradicts.

mod courier;
mod examine;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reach::Authorities;
use tokio::sync::watch;

pub(crate) use courier::{keep, survey};

use crate::{
    Config, Signer,
    config::{CheckpointConfig, OnFailure},
    copy::Place,
};

/// What a team for which nothing is signed is looked at again after.
const HALT_REST: Duration = Duration::from_secs(10);

/// The signing key, the second places, and how they are. Cheap to clone.
#[derive(Clone)]
pub struct Checkpoints(Arc<Shared>);

struct Shared {
    signer: Signer,
    config: CheckpointConfig,
    places: Vec<Arc<Located>>,
    standings: Mutex<HashMap<String, Standing>>,
    health: watch::Sender<Health>,
}

/// How signing and copying are, as every process sees it in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    /// Whether nothing needs anybody.
    pub is_well: bool,
    /// Whether events are refused until a copy arrives somewhere.
    pub is_blocked: bool,
}

/// A second place.
pub(crate) struct Located {
    /// As the settings have it.
    pub name: String,
    pub place: Place,
    /// Why it failed last; empty: it did not.
    failure: Mutex<String>,
    /// Teams whose latest checkpoint there goes with the tree here, or that have none there.
    compared: Mutex<HashSet<String>>,
}

/// Whether a team may be signed for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    Sound,
    /// Not while a place contradicts it, or none could be read.
    Contradicted,
    /// Its own records or tiles are not what they should be; tried again then.
    Broken(Instant),
}

impl Checkpoints {
    /// What the settings say; the error names the setting and what is wrong with it.
    pub fn prepare(config: &Config, authorities: &Authorities) -> Result<Self, String> {
        Self::new(Signer::read(config)?, config.checkpoints.clone(), authorities)
    }

    pub(crate) fn new(
        signer: Signer,
        config: CheckpointConfig,
        authorities: &Authorities,
    ) -> Result<Self, String> {
        let located = |name: &String| {
            let place = Place::open(name, &config, authorities)
                .map_err(|wrong| format!("audit.checkpoints.places: {name} {wrong}"))?;
            let (failure, compared) = (Mutex::default(), Mutex::default());
            Ok::<_, String>(Arc::new(Located { name: name.clone(), place, failure, compared }))
        };
        let places = config.places.iter().map(located).collect::<Result<_, _>>()?;
        let health = watch::Sender::new(Health { is_well: true, is_blocked: false });
        Ok(Self(Arc::new(Shared { signer, config, places, standings: Mutex::default(), health })))
    }

    /// Whether checkpoints are signed and reach every place, for as long as anybody asks.
    pub fn watch(&self) -> CheckpointsWatch {
        CheckpointsWatch(self.0.health.subscribe())
    }

    /// Signs.
    pub(crate) fn signer(&self) -> &Signer {
        &self.0.signer
    }

    /// Settings of copies.
    pub(crate) fn config(&self) -> &CheckpointConfig {
        &self.0.config
    }

    /// The second places.
    pub(crate) fn places(&self) -> &[Arc<Located>] {
        &self.0.places
    }

    /// Whether events are refused until a copy arrives.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.health.borrow().is_blocked
    }

    /// Says how all is.
    pub(crate) fn set_health(&self, health: Health) {
        self.0.health.send_if_modified(|was| std::mem::replace(was, health) != health);
    }

    /// Whether nothing is signed before a place has been read.
    fn must_compare(&self) -> bool {
        self.0.config.on_failure == OnFailure::Block && !self.0.places.is_empty()
    }

    /// Forgets what was compared: another process may have signed since.
    pub(crate) fn begin_anew(&self) {
        self.standings().clear();
        for place in &self.0.places {
            lock(&place.compared).clear();
        }
    }

    /// How a team stands; `None`: it has not been looked at yet.
    pub(crate) fn standing(&self, team: &str) -> Option<Standing> {
        self.standings().get(team).cloned()
    }

    /// Says how a team stands.
    pub(crate) fn set_standing(&self, team: &str, standing: Standing) {
        self.standings().insert(team.to_owned(), standing);
    }

    /// Says that a team's own records or tiles are not what they should be.
    pub(crate) fn set_broken(&self, team: &str) {
        self.set_standing(team, Standing::Broken(Instant::now() + HALT_REST));
    }

    /// Teams that are not signed for now: contradicted ones, and broken ones until they are tried again.
    pub(crate) fn resting(&self) -> Vec<String> {
        let now = Instant::now();
        let rests = |standing: &Standing| match standing {
            Standing::Sound => false,
            Standing::Contradicted => true,
            Standing::Broken(until) => *until > now,
        };
        let standings = self.standings();
        standings.iter().filter(|(_, standing)| rests(standing)).map(|(team, _)| team.clone()).collect()
    }

    /// Teams that are contradicted.
    fn contradicted(&self) -> Vec<String> {
        let standings = self.standings();
        let found = standings.iter().filter(|(_, standing)| **standing == Standing::Contradicted);
        found.map(|(team, _)| team.clone()).collect()
    }

    fn standings(&self) -> MutexGuard<'_, HashMap<String, Standing>> {
        lock(&self.0.standings)
    }
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpoints").field("places", &self.0.config.places).finish_non_exhaustive()
    }
}

impl Located {
    /// Why it failed last; empty: it did not.
    pub(crate) fn failure(&self) -> String {
        lock(&self.failure).clone()
    }

    fn set_failure(&self, failure: &str) {
        let mut was = lock(&self.failure);
        if *was == failure {
            return;
        }
        let place = self.name.as_str();
        if !failure.is_empty() && !was.is_empty() {
            tracing::debug!(place, failure, "a second place still fails, in another way");
        } else if failure.is_empty() {
            tracing::info!(place, "checkpoints reach their second place again");
        } else {
            tracing::error!(place, failure, "checkpoints do not reach their second place");
        }
        failure.clone_into(&mut was);
    }
}

/// Follows whether checkpoints are signed and reach every place.
#[derive(Debug, Clone)]
pub struct CheckpointsWatch(watch::Receiver<Health>);

impl CheckpointsWatch {
    /// How it is now.
    pub fn is_well(&mut self) -> bool {
        self.0.borrow_and_update().is_well
    }

    /// Waits for a change; `false`: there will be none.
    pub async fn changed(&mut self) -> bool {
        self.0.changed().await.is_ok()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
