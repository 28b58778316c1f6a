//! The weights of the scores, by team: the built-in ones of the settings, or a version that was fitted to the team's
//! selections. A copy in memory, so that a selection asks no one. Must never rank by weights that were not activated.

mod fit;
mod judge;
pub(crate) mod log;
mod refit;

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use ::store::Database;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub(crate) use refit::refit;

use crate::{Error, store::policy as table};

/// How often the changes of other replicas are read.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);
/// Most versions that are listed.
const LISTED: i64 = 50;
/// How many scores are weighed.
pub(crate) const SCORES: usize = 6;

/// Shares of the scores: the two of the combined score, the two of the match, and the four of the suitability each sum
/// to 1. What is not named has the rest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Weights {
    /// Of the match in the combined score; the suitability has the rest.
    pub matching: f64,
    /// Of the capabilities in the match; the semantic score has the rest.
    pub capability: f64,
    /// Of success in the suitability.
    pub success: f64,
    /// Of latency.
    pub latency: f64,
    /// Of cost.
    pub cost: f64,
    /// Of quality.
    pub quality: f64,
}

impl Weights {
    /// Of the suitability in the combined score.
    pub(crate) fn suitability(&self) -> f64 {
        1.0 - self.matching
    }

    /// Of the semantic score in the match.
    pub(crate) fn semantic(&self) -> f64 {
        1.0 - self.capability
    }

    /// What each score counts in the combined one: capability, semantic, success, latency, cost, quality. They sum to 1.
    pub(crate) fn coefficients(&self) -> [f64; SCORES] {
        let (matching, suitability) = (self.matching, self.suitability());
        let parts = [self.success, self.latency, self.cost, self.quality].map(|part| suitability * part);
        [matching * self.capability, matching * self.semantic(), parts[0], parts[1], parts[2], parts[3]]
    }
}

/// Where a version stands; the names are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Candidate,
    Active,
    Retired,
    Refused,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Active => "active",
            Self::Retired => "retired",
            Self::Refused => "refused",
        }
    }

    /// The state of this name; an unknown one counts as refused, so that it never ranks.
    pub(crate) fn named(name: &str) -> Self {
        let all = [Self::Candidate, Self::Active, Self::Retired];
        all.into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Refused)
    }
}

/// How a version was judged against the log.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Evaluation {
    /// Logged selections with an outcome, for the fit and the judgement together.
    pub selections: i64,
    /// Share of tasks that succeed by the weights that ranked then, as estimated.
    pub reward_before: f64,
    /// By the new ones.
    pub reward_after: f64,
    /// Their difference: the interval that holds it with 95 %.
    pub gain_low: f64,
    pub gain_high: f64,
    /// Share of the selections for which both choose the same tool.
    pub agreement: f64,
    /// Why it was refused; empty otherwise.
    pub refusal: String,
}

/// One version of a team's weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Policy {
    /// 0: the built-in ones.
    pub version: i32,
    pub state: State,
    pub weights: Weights,
    pub evaluation: Option<Evaluation>,
    pub create_agent_id: String,
    pub create_time: Option<DateTime<Utc>>,
    pub activate_time: Option<DateTime<Utc>>,
}

impl Policy {
    fn built_in(weights: Weights, is_active: bool) -> Self {
        Self {
            version: 0,
            state: if is_active { State::Active } else { State::Retired },
            weights,
            evaluation: None,
            create_agent_id: String::new(),
            create_time: None,
            activate_time: None,
        }
    }
}

/// The weights that rank, by team. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Policies {
    built_in: Weights,
    active: Arc<RwLock<HashMap<String, (i32, Weights)>>>,
}

impl Policies {
    pub(crate) fn new(built_in: Weights) -> Self {
        Self { built_in, active: Arc::default() }
    }

    /// The version that ranks for a team, and its weights.
    pub(crate) fn of(&self, team: &str) -> (i32, Weights) {
        let active = self.active.read().unwrap_or_else(PoisonError::into_inner);
        active.get(team).copied().unwrap_or((0, self.built_in))
    }

    fn put(&self, changed: Vec<table::ActiveRow>) {
        let mut active = self.active.write().unwrap_or_else(PoisonError::into_inner);
        for row in changed {
            match row.active {
                Some(version) => active.insert(row.team_id, version),
                None => active.remove(&row.team_id),
            };
        }
    }

    /// Reads what was changed since a horizon and gives the next one; 0 reads all.
    pub(crate) async fn read(&self, database: &Database, horizon: i64) -> Result<i64, Error> {
        let (next, changed) = table::policies_changed(database.pool()?, horizon).await?;
        self.put(changed);
        Ok(next)
    }

    /// Reads what other replicas activate, until told to stop.
    pub(crate) async fn follow(self, database: Database, mut horizon: i64, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
                () = stop.cancelled() => return,
            }
            match self.read(&database, horizon).await {
                Ok(next) => horizon = next,
                Err(error) => {
                    tracing::warn!(%error, "weights cannot be read; selections use the copy in memory");
                }
            }
        }
    }

    /// Makes a version rank, here at once; 0: the built-in one.
    pub(crate) async fn activate(
        &self,
        database: &Database,
        team: &str,
        version: i32,
    ) -> Result<Policy, Error> {
        if version < 0 {
            return Err(Error::invalid("version", "must be 0, for the built-in weights, or above"));
        }
        let activated = table::policy_activate(database.pool()?, team, version).await?;
        let policy = match activated {
            table::Activated::BuiltIn => Policy::built_in(self.built_in, true),
            table::Activated::Version(policy) => *policy,
            table::Activated::Refused(policy) => {
                let refusal = policy.evaluation.unwrap_or_default().refusal;
                return Err(Error::WeightsRefused { version, refusal });
            }
            table::Activated::Unknown { newest } => return Err(Error::NoSuchWeights { version, newest }),
        };
        let active = (policy.version > 0).then_some((policy.version, policy.weights));
        self.put(vec![table::ActiveRow { team_id: team.to_owned(), active }]);
        Ok(policy)
    }

    /// The newest versions, newest first, and the built-in one.
    pub(crate) async fn list(&self, database: &Database, team: &str) -> Result<Vec<Policy>, Error> {
        let mut policies = table::policies_list(database.pool()?, team, LISTED).await?;
        let is_active = |policy: &Policy| policy.state == State::Active;
        let built_in_ranks = table::policy_active(database.pool()?, team).await?.is_none();
        debug_assert!(!built_in_ranks || !policies.iter().any(is_active));
        policies.push(Policy::built_in(self.built_in, built_in_ranks));
        Ok(policies)
    }
}
