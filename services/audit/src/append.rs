//! Takes events into the trail: checked, sealed, once each, in one contiguous order a team. An event that tells of an
//! execution without its intent is refused, with an alarm.

use std::time::Duration;

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use opentelemetry::{global, metrics::Counter};
use tokio_util::sync::CancellationToken;
use uuid::{Uuid, Version};

use crate::{
    Error,
    ledger::{self, Ledger, Written},
    payload::Draft,
    store::{self, Txn},
    subjects::{Resolved, Sealed, Subjects},
};

/// Most events in one request.
const MAX_EVENTS: usize = 1_000;
/// How far the clocks of two processes may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(5);
/// How often events are sealed again whose subjects are erased meanwhile.
const SEALINGS: usize = 5;
/// Actions that tell of an execution, whose intent was recorded before.
const WITH_INTENT: [&str; 5] =
    ["tool_invoked", "cache_hit", "cache_miss", "retry_attempted", "fallback_used"];

/// What became of a request's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub new: usize,
    pub duplicates: usize,
}

/// The way into the trail, for senders and for the audit service itself. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Journal {
    database: Database,
    ledger: Ledger,
    pub subjects: Subjects,
    without_intent: Counter<u64>,
}

impl Journal {
    /// The journal, with its writer at work. Must be called inside a tokio runtime.
    pub(crate) fn start(database: &Database, subjects: Subjects) -> Self {
        let without_intent = global::meter("toolcrib")
            .u64_counter("toolcrib.audit.events_without_intent")
            .with_description("Events refused that tell of an execution without its intent.")
            .build();
        Self { database: database.clone(), ledger: Ledger::start(database), subjects, without_intent }
    }

    /// Appends what is new: all of it or nothing.
    pub(crate) async fn append(&self, mut drafts: Vec<Draft>) -> Result<Appended, Error> {
        let asked = drafts.len();
        if asked > MAX_EVENTS {
            let told = format!("has {asked} events; at most {MAX_EVENTS} are taken");
            return Err(Error::invalid("events", told));
        }
        drafts.iter_mut().for_each(take_intent);
        if let Some((index, why)) = drafts.iter().enumerate().find_map(without_intent) {
            return Err(self.alarm(index, &drafts[index], why).await);
        }
        for _ in 0..SEALINGS {
            match self.ledger.append(self.seal(&drafts).await?).await? {
                Written::Done(done) => return Ok(done),
                Written::Stale(gone) => self.subjects.forget(&gone),
            }
        }
        Err(Error::Overtaken)
    }

    /// Appends events of the audit service itself in a transaction of the caller's, with what they tell of. The
    /// heads of their teams stay locked until it ends, so this comes last in it.
    pub(crate) async fn append_in_txn(
        &self,
        transaction: &mut Txn<'_>,
        drafts: &[Draft],
    ) -> Result<(), Error> {
        for _ in 0..SEALINGS {
            let sealed = self.seal(drafts).await?;
            let answers = ledger::write_in_txn(transaction, &[&sealed]).await?;
            match answers.into_iter().flatten().next() {
                Some(Written::Stale(gone)) => self.subjects.forget(&gone),
                _ => return Ok(()),
            }
        }
        Err(Error::Overtaken)
    }

    async fn seal(&self, drafts: &[Draft]) -> Result<Vec<Sealed>, Error> {
        let resolved: Resolved = self.subjects.resolve(drafts).await?;
        drafts.iter().map(|draft| resolved.seal(draft)).collect()
    }

    /// Tells everybody who listens of an event without an intent.
    async fn alarm(&self, index: usize, draft: &Draft, why: &'static str) -> Error {
        let record = &draft.record;
        let (team, id) = (record.team_id.as_str(), record.id);
        self.without_intent.add(1, &[]);
        tracing::error!(team, event = %id, action = record.action, why, "an event without an intent is refused");
        let message = format!("event {id} ({}) was refused: {why}", record.action);
        let execution = record.execution_id.unwrap_or(Uuid::nil());
        let kept = match self.database.pool() {
            Ok(pool) => {
                store::finding_open(pool, team, ("INTENT_MISSING", execution), &message).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = kept {
            tracing::error!(%error, "that is not among the findings");
        }
        Error::NoIntent { index, id, why }
    }
}

/// An executor of the version before does not say when the intent was recorded: the id of the execution, a UUIDv7
/// (RFC 9562, 5.7), was made in the milliseconds before.
fn take_intent(draft: &mut Draft) {
    let record = &mut draft.record;
    if record.intent_time.is_none() && WITH_INTENT.contains(&record.action.as_str()) {
        record.intent_time = record.execution_id.and_then(made);
    }
}

/// When an id was made, where it tells.
fn made(id: Uuid) -> Option<DateTime<Utc>> {
    let made = id.get_timestamp().filter(|_| id.get_version() == Some(Version::SortRand))?;
    let (seconds, nanos) = made.to_unix();
    DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanos)
}

/// Why an event that needs an intent has none.
fn without_intent((index, draft): (usize, &Draft)) -> Option<(usize, &'static str)> {
    let record = &draft.record;
    if !WITH_INTENT.contains(&record.action.as_str()) {
        return None;
    }
    let why = match record.intent_time {
        _ if record.execution_id.is_none() => "it names no execution_id",
        None => "it has no intent_time, and its execution_id tells none",
        Some(intent) if intent - record.event_time > SKEW => {
            "its intent_time, or that of its execution_id, is after its time"
        }
        Some(_) => return None,
    };
    Some((index, why))
}

/// Makes the partitions of the coming months ahead of time, until told to stop.
pub(crate) async fn keep_partitions(database: Database, interval: Duration, stop: CancellationToken) {
    loop {
        let made = match database.pool() {
            Ok(pool) => store::partitions_ensure(pool).await,
            Err(error) => Err(error),
        };
        if let Err(error) = made {
            tracing::warn!(%error, "partitions cannot be made; events go to the default one");
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
    }
}
