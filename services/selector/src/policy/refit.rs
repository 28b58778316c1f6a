//! Fits new weights to a team's log, judges them, and keeps them as a version. They rank only when they are activated.

use ::rpc::Call;
use ::store::Database;

use super::{
    Policies, Policy, State,
    fit::fit,
    judge::judge,
    log::{Sample, fair},
};
use crate::{
    Error,
    store::policy::{self as table, NewPolicy},
};

/// Fewest selections with an outcome to fit to.
const FEWEST: usize = 100;
/// Most of them, the newest: more tell nothing new.
const MOST: i64 = 20_000;
/// Percentage of the samples, the oldest, that is fitted to; the others judge.
const FITTED: usize = 70;

/// Fits, judges and keeps a version; `activate` makes it rank, if it passes.
pub(crate) async fn refit(
    policies: &Policies,
    database: &Database,
    call: &Call,
    activate: bool,
) -> Result<Policy, Error> {
    let team = &call.caller.team;
    let samples = fair(table::samples_read(database.pool()?, team, MOST).await?);
    if samples.len() < FEWEST {
        return Err(Error::TooFewOutcomes { found: samples.len(), needed: FEWEST });
    }
    let (_, present) = policies.of(team);
    let judged = tokio::task::spawn_blocking(move || {
        let (older, newer) = samples.split_at(samples.len() * FITTED / 100);
        let weights = fit(older, &present);
        (weights, judge((older, newer), &present, &weights, seed(&samples)))
    });
    let (weights, evaluation) = judged.await.expect("the fit is not aborted and does not panic");
    let state = if evaluation.refusal.is_empty() { State::Candidate } else { State::Refused };
    let new = NewPolicy { state, weights, evaluation, agent: &call.caller.agent };
    let policy = table::policy_insert(database.pool()?, team, new).await?;
    if activate && state == State::Candidate {
        return policies.activate(database, team, policy.version).await;
    }
    Ok(policy)
}

/// The same log is judged the same.
fn seed(samples: &[Sample]) -> u64 {
    let newest = samples.last().map_or(0, |sample| sample.create_time.timestamp_micros());
    newest.unsigned_abs()
}
