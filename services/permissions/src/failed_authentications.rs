//! Tells of credentials that were presented and not taken: to the log and the metrics, and to the trail of the team whose
//! they are, where that is known. Whoever presents them chooses how many there are, and so they are counted, and
//! written once a minute at most. Must never keep or tell a credential.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ::store::Database;
use opentelemetry::{KeyValue, global, metrics::Counter};
use proto::audit::v1::Result as Outcome;
use tokio_util::sync::CancellationToken;
use types::Caller;

use crate::{
    Error,
    trail::{self, Action, Event},
};

/// How often the same failure is told of at most.
const REST: Duration = Duration::from_mins(1);
/// How soon a new one is.
const TICK: Duration = Duration::from_secs(5);
/// Most kinds of failures that are told apart at once, and most of one team: the others are counted together.
const MAX: usize = 2_000;
const MAX_OF_TEAM: usize = 50;
/// Longest text of what was presented or where it came from.
const MAX_TEXT: usize = 100;

/// What was presented, and why it was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Failure {
    /// The team it belongs to; empty where that is not known for sure.
    pub team: String,
    /// The agent it belongs to; may be empty.
    pub agent: String,
    /// Why, in a word or a few: the same for all failures of one kind.
    pub cause: &'static str,
    /// Which it was: the id of a key, or issuer and id of a token. Never the credential itself.
    pub credential: String,
    /// Where it came from: an IP address; may be empty.
    pub peer: String,
}

#[derive(Debug, Default)]
struct Count {
    since_told: u64,
    told: Option<Instant>,
}

#[derive(Debug, Default)]
struct Counts {
    each: HashMap<Failure, Count>,
    of_team: HashMap<String, usize>,
}

/// Counts failures. Cheap to ask; holds a bounded number of them.
#[derive(Debug)]
pub(crate) struct FailedAuthentications {
    counts: Mutex<Counts>,
    total: Counter<u64>,
}

impl FailedAuthentications {
    pub(crate) fn new() -> Self {
        let total = global::meter("toolcrib")
            .u64_counter("toolcrib.permissions.authentication_failures")
            .with_description("Credentials that were presented and not taken, by cause.")
            .build();
        Self { counts: Mutex::default(), total }
    }

    /// Counts one.
    pub(crate) fn note(&self, failure: Failure) {
        self.total.add(1, &[KeyValue::new("cause", failure.cause)]);
        let failure = Failure {
            credential: clipped(&failure.credential),
            peer: clipped(&failure.peer),
            agent: clipped(&failure.agent),
            ..failure
        };
        let mut counts = self.counts();
        let has_room = counts.each.len() < MAX
            && counts.of_team.get(&failure.team).is_none_or(|of_team| *of_team < MAX_OF_TEAM);
        let failure = if counts.each.contains_key(&failure) || has_room { failure } else { others(failure) };
        if !counts.each.contains_key(&failure) {
            *counts.of_team.entry(failure.team.clone()).or_default() += 1;
        }
        counts.each.entry(failure).or_default().since_told += 1;
    }

    /// Tells what is new every few seconds, until told to stop, and once more then.
    pub(crate) async fn keep_told(&self, database: Database, stop: CancellationToken) {
        let mut is_over = false;
        while !is_over {
            tokio::select! {
                () = stop.cancelled() => is_over = true,
                () = tokio::time::sleep(TICK) => {}
            }
            if let Err(error) = self.tell(&database, is_over).await {
                tracing::warn!(%error, "failed authentications are not in the trail yet");
            }
        }
    }

    /// Tells of those that are due, or of all.
    pub(crate) async fn tell(&self, database: &Database, all: bool) -> Result<(), Error> {
        let due = self.take_due(all);
        for (failure, count) in &due {
            tracing::warn!(
                team = failure.team,
                cause = failure.cause,
                credential = failure.credential,
                peer = failure.peer,
                count,
                "a credential was not taken"
            );
        }
        let events: Vec<Event> = due.iter().filter_map(|(failure, count)| event(failure, *count)).collect();
        if events.is_empty() {
            return Ok(());
        }
        let written = async {
            let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
            trail::record_all(&mut transaction, &events).await?;
            transaction.commit().await.map_err(::store::Error::from)
        };
        let written = written.await;
        if written.is_err() {
            self.put_back(due);
        }
        Ok(written?)
    }

    /// Takes the counts that are due, and forgets what has not happened for a while.
    fn take_due(&self, all: bool) -> Vec<(Failure, u64)> {
        let mut counts = self.counts();
        let mut due = Vec::new();
        counts.each.retain(|failure, count| {
            let has_rested = count.told.is_none_or(|told| told.elapsed() >= REST);
            if has_rested && count.since_told == 0 {
                return false;
            }
            if has_rested || (all && count.since_told > 0) {
                due.push((failure.clone(), mem::take(&mut count.since_told)));
                count.told = Some(Instant::now());
            }
            true
        });
        let mut of_team = HashMap::new();
        for failure in counts.each.keys() {
            *of_team.entry(failure.team.clone()).or_default() += 1;
        }
        counts.of_team = of_team;
        due
    }

    /// What could not be written is told of later.
    fn put_back(&self, due: Vec<(Failure, u64)>) {
        let mut counts = self.counts();
        for (failure, since_told) in due.into_iter().filter(|(failure, _)| !failure.team.is_empty()) {
            let count = counts.each.entry(failure).or_default();
            (count.since_told, count.told) = (count.since_told + since_told, None);
        }
    }

    /// How many kinds are held.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.counts().each.len()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of where there is no room for more.
fn others(failure: Failure) -> Failure {
    let credential = "many others".to_owned();
    Failure { credential, agent: String::new(), peer: String::new(), ..failure }
}

fn event(failure: &Failure, count: u64) -> Option<Event> {
    if failure.team.is_empty() {
        return None;
    }
    let Failure { team, agent, cause, credential, peer } = failure;
    let caller = Caller { team: team.clone(), agent: agent.clone(), ..Caller::service("permissions") };
    let times = if count == 1 { "once".to_owned() } else { format!("{count} times") };
    let from = if peer.is_empty() { String::new() } else { format!(" from {peer}") };
    let message = format!("{credential} was presented{from} and not taken, {times}: {cause}");
    Some(Event {
        result: Outcome::Denied.into(),
        reason: "UNAUTHENTICATED".to_owned(),
        trace_id: String::new(),
        ..trail::event(Action::AuthenticationFailed, &caller, message)
    })
}

/// A bounded text without anything that a terminal or a log could take for more than text.
fn clipped(text: &str) -> String {
    let printable = |each: char| if each.is_ascii_graphic() || each == ' ' { each } else { '?' };
    text.chars().take(MAX_TEXT).map(printable).collect()
}
