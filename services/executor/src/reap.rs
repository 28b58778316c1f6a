//! Closes what no one runs any more. A process says that it lives; what one that fell silent was running is looked
//! at: a queued call whose tool changes nothing, or may be done twice, or was surely not asked, goes back to the queue,
//! as often as it may. Everything else ends, and whether it took effect is not known: it is never silently run again,
//! and counts and costs as if it had.

use std::{
    collections::HashMap,
    time::{Duration, Instant as Clock},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::Effect;
use uuid::Uuid;

use crate::{
    Error, Executor,
    lease::Moment,
    outcome::{self, Finished, Reached, Status, ToolError, ToolErrorCode},
    perform::MAX_MICRO_USD,
    store::{self, Execution, Left, Outcome},
};

/// Executions looked at in one transaction.
const BATCH: i64 = 100;
/// How often the partitions of the coming months are looked after, and old events are forgotten.
const HOUSEKEEPING: Duration = Duration::from_hours(1);
/// Old events forgotten in one statement.
const PURGED: i64 = 5_000;

/// Since when the database has heard from this process without a gap. After a gap the others may only seem
/// to be dead: the database was away for them as well, so each is given the time of a lease to speak up.
#[derive(Debug, Default)]
struct Steady {
    since: Option<Instant>,
    last: Option<Instant>,
}

impl Steady {
    /// Takes a heartbeat that arrived; `true` when the silence of others means their death.
    fn heard(&mut self, now: Instant, lease: Duration) -> bool {
        if self.last.is_none_or(|last| now.duration_since(last) > lease / 2) {
            self.since = Some(now);
        }
        self.last = Some(now);
        self.since.is_some_and(|since| now.duration_since(since) >= lease)
    }

    fn failed(&mut self) {
        self.last = None;
    }
}

/// Heartbeat, then reap, again and again until told to stop. The heartbeat comes first, so that a process
/// back from an outage does not take itself for dead.
pub(crate) async fn keep(executor: &Executor, stop: CancellationToken) {
    let mut housekeeping_due = Instant::now();
    let (mut steady, mut database) = (Steady::default(), executor.database.watch());
    loop {
        if let Err(error) = beat(executor, &mut steady).await {
            steady.failed();
            if !matches!(error, Error::Store(::store::Error::Unavailable(_))) {
                tracing::error!(error = %cause(&error), "heartbeat failed");
            }
        }
        if Instant::now() >= housekeeping_due && executor.database.is_up() {
            housekeeping_due = Instant::now() + HOUSEKEEPING;
            keep_house(executor);
        }
        tokio::select! {
            () = tokio::time::sleep(executor.heartbeat_interval) => {}
            // Back from an outage: calls wait for the next heartbeat.
            Ok(()) = database.changed() => {}
            () = stop.cancelled() => break,
        }
    }
    if let Ok(pool) = executor.database.pool() {
        // A row left behind is removed by a later process.
        let _ = store::worker_delete(pool, executor.owner).await;
    }
}

/// In a task of its own: no heartbeat may wait for it.
fn keep_house(executor: &Executor) {
    let database = executor.database.clone();
    tokio::spawn(async move {
        let Ok(pool) = database.pool() else { return };
        if let Err(error) = store::partitions_ensure(pool).await {
            tracing::warn!(error = %cause(&error), "partitions cannot be made; executions go to the default one");
        }
        loop {
            match store::progress_purge(pool, PURGED).await {
                Ok(purged) if purged >= PURGED.unsigned_abs() => {}
                Ok(_) => return,
                Err(error) => {
                    return tracing::warn!(error = %cause(&error), "old events cannot be forgotten; tried again later");
                }
            }
        }
    });
}

async fn beat(executor: &Executor, steady: &mut Steady) -> Result<(), Error> {
    touch(executor).await?;
    if steady.heard(Instant::now(), executor.lease_timeout) {
        while reap(executor).await? == BATCH {
            touch(executor).await?;
        }
    }
    Ok(())
}

/// Says that this process lives. Its lease counts from before that: the others cannot have heard it earlier.
async fn touch(executor: &Executor) -> Result<(), Error> {
    let sent = Moment::now();
    store::worker_touch(executor.database.pool()?, executor.owner).await?;
    executor.lease.renew(sent);
    Ok(())
}

/// Takes orphans and decides on each; tells how many there were.
async fn reap(executor: &Executor) -> Result<i64, Error> {
    let unmade = executor.ledger.unconfirmed().all();
    let found = take_orphans(executor, &unmade).await?;
    if found < BATCH {
        // What was written is as old as its note, so this look has found it.
        let old = executor.lease_timeout * 2;
        let past = unmade.into_iter().filter(|(_, noted)| noted.elapsed() > old);
        executor.ledger.unconfirmed().forget(past.map(|(id, _)| id));
    }
    Ok(found)
}

async fn take_orphans(executor: &Executor, unmade: &HashMap<Uuid, Clock>) -> Result<i64, Error> {
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    let mut ours = executor.running.ids();
    ours.extend(executor.queue.ids());
    let this = (executor.owner, &ours[..]);
    let orphans = store::orphans_take_in_txn(&mut transaction, executor.lease_timeout, this, BATCH).await?;
    if orphans.is_empty() {
        return Ok(0);
    }
    let left = store::jobs_left_in_txn(&mut transaction, &orphans.iter().collect::<Vec<_>>()).await?;
    let left = |execution: &Execution| left.get(&execution.id).copied().unwrap_or_default();
    let fate = |e: &Execution| if unmade.contains_key(&e.id) { Fate::Unmade } else { fate(e, left(e)) };
    let mut fates: Vec<_> = orphans.iter().map(|e| (e, fate(e))).collect();
    let again: Vec<_> = fates.iter().filter(|(_, fate)| *fate == Fate::Again).map(|(e, _)| *e).collect();
    let waiting = store::jobs_put_back_in_txn(&mut transaction, &again).await?;
    fates.retain(|(execution, _)| !waiting.contains(&execution.id));
    let outcomes: Vec<_> = fates
        .iter()
        .map(|(execution, fate)| {
            let reached = match fate {
                Fate::Unmade => Reached::No,
                Fate::Again | Fate::DeadLetter | Fate::Cancelled | Fate::Unknown => {
                    reached(execution, left(execution))
                }
            };
            fate.outcome(execution, reached, cost(executor, execution))
        })
        .collect();
    let ended = store::outcomes_update(&mut transaction, &outcomes.iter().collect::<Vec<_>>()).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    executor.relays.hand_over_all(&outcomes, &ended);
    tell(executor, &fates, &waiting);
    Ok(i64::try_from(orphans.len()).unwrap_or(i64::MAX))
}

/// What becomes of an execution whose process died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It goes back to the queue.
    Again,
    /// Its processes died as often as they may.
    DeadLetter,
    /// A caller had cancelled it: it is not run again.
    Cancelled,
    /// It may have taken effect, and must not do so twice.
    Unknown,
    /// This process accepted it, was not told that it is on record, and ran nothing.
    Unmade,
}

fn is_repeatable(execution: &Execution) -> bool {
    execution.effect.parse::<Effect>().is_ok_and(|effect| effect != Effect::SideEffect)
}

fn fate(execution: &Execution, left: Left) -> Fate {
    if !execution.asynchronous || reached(execution, left) != Reached::No && !is_repeatable(execution) {
        Fate::Unknown
    } else if left.is_cancelled {
        Fate::Cancelled
    } else if execution.deliveries >= execution.max_deliveries {
        Fate::DeadLetter
    } else {
        Fate::Again
    }
}

/// Whether the tool may have been asked. That a repeatable one is about to be is not recorded.
fn reached(execution: &Execution, left: Left) -> Reached {
    if left.is_unbegun && !is_repeatable(execution) { Reached::No } else { Reached::Maybe }
}

/// What one call of the tool costs, as its newest version declares it: the one that ran may be gone.
fn cost(executor: &Executor, execution: &Execution) -> i64 {
    let tool = executor.resolver.catalog.find(&execution.team_id, &execution.tool_name);
    let declared = tool.and_then(|tool| Some(tool.definition.as_ref()?.cost_micro_usd)).unwrap_or(0);
    declared.min(MAX_MICRO_USD)
}

impl Fate {
    /// How it ends. What may have been made costs what one call does, however often it was taken up.
    fn outcome(self, execution: &Execution, reached: Reached, cost_micro_usd: i64) -> Outcome {
        let unknown = "the process that ran it died before the outcome was recorded; whether it took effect is not known";
        let (status, code, message) = match self {
            Self::Cancelled => {
                let message = match reached {
                    Reached::No => "a caller cancelled it, and the process that took it died before it began",
                    Reached::Maybe | Reached::Yes => {
                        "a caller cancelled it, and the process that ran it died; it may have taken effect"
                    }
                };
                (Status::Cancelled, ToolErrorCode::Cancelled, message.to_owned())
            }
            Self::DeadLetter => {
                let (times, most) = (execution.deliveries, execution.max_deliveries);
                let message = format!(
                    "given up after {times} of at most {most} deliveries: the last process that ran it died"
                );
                (Status::DeadLetter, ToolErrorCode::OwnerDied, message)
            }
            Self::Unmade => {
                let message = "the database went away before it said that the call is on record; the tool was not called";
                (Status::Failed, ToolErrorCode::OwnerDied, message.to_owned())
            }
            // One that was to go back has no place in the queue any more.
            Self::Unknown | Self::Again => {
                (Status::UnknownOutcome, ToolErrorCode::OwnerDied, unknown.to_owned())
            }
        };
        let error = ToolError::new(code, message).having(reached);
        let cost_micro_usd = if reached == Reached::No { 0 } else { cost_micro_usd };
        let finished = Finished {
            cost_micro_usd,
            own_cost_micro_usd: cost_micro_usd,
            ..Finished::without_attempt(Err(error)).following(execution)
        };
        outcome::outcome_as(execution, status, &finished, String::new(), store::now())
    }
}

/// Tells what ended and what waits again, and wakes the workers for it.
fn tell(executor: &Executor, ended: &[(&Execution, Fate)], waiting: &[Uuid]) {
    for (execution, fate) in ended {
        tracing::warn!(execution.id = %execution.id, tool.name = execution.tool_name, ?fate, "no process runs it any more; it is closed");
    }
    for id in waiting {
        tracing::warn!(execution.id = %id, "its process died; it is back in the queue");
    }
    if !waiting.is_empty() {
        executor.queue.wake();
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_gap_the_others_have_the_time_of_a_lease_to_speak_up() {
        let (lease, start, mut steady) = (Duration::from_secs(15), Instant::now(), Steady::default());
        let mut heard = |seconds: u64| steady.heard(start + Duration::from_secs(seconds), lease);
        assert_eq!([0, 5, 10, 14, 15].map(&mut heard), [false, false, false, false, true]);
        assert_eq!([30, 35, 40, 44, 45].map(&mut heard), [false, false, false, false, true]);
        steady.failed();
        assert!(!steady.heard(start + Duration::from_secs(46), lease));
    }

    #[test]
    fn only_queued_calls_that_may_be_done_twice_are_run_again_and_not_for_ever() {
        let left = |effect: &str, asynchronous, deliveries| Execution {
            effect: effect.into(),
            asynchronous,
            deliveries,
            max_deliveries: 3,
            ..Execution::default()
        };
        let (begun, cancelled) = (Left::default(), Left { is_cancelled: true, is_unbegun: false });
        let queued = |effect, deliveries| fate(&left(effect, true, deliveries), begun);
        assert_eq!((queued("read_only", 1), queued("idempotent", 2)), (Fate::Again, Fate::Again));
        assert_eq!((queued("read_only", 3), queued("idempotent", 4)), (Fate::DeadLetter, Fate::DeadLetter));
        assert_eq!((queued("side_effect", 1), queued("", 1)), (Fate::Unknown, Fate::Unknown));
        assert_eq!(fate(&left("read_only", false, 1), begun), Fate::Unknown, "its caller is told");
        assert_eq!(fate(&left("read_only", true, 1), cancelled), Fate::Cancelled);
        assert_eq!(fate(&left("side_effect", true, 1), cancelled), Fate::Unknown);
        let taken = |deliveries, is_cancelled| {
            let left_over = left("side_effect", true, deliveries);
            fate(&left_over, Left { is_cancelled, is_unbegun: true })
        };
        assert_eq!((taken(1, false), taken(3, false)), (Fate::Again, Fate::DeadLetter));
        assert_eq!(taken(1, true), Fate::Cancelled);
    }
}
