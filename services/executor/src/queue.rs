//! The workers of the queue: they take calls that are due, only as many as this process has places for, and never
//! so many of one tool that it could fill them all. What becomes of a taken call is told in `queue/deliver.rs`.

mod awaiting;
mod decided;
mod deliver;
mod places;

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    awaiting::keep as keep_awaiting,
    decided::follow as follow_decisions,
    places::{Place, Queue},
};
use crate::{
    Error, Executor,
    store::{self, Claimed, Execution},
};

/// Calls that begin later than this stand aside until then.
const ASIDE: Duration = Duration::from_secs(5);
/// Calls set aside in one statement, and statements before what is due gets its turn.
const MOVED: i64 = 1_000;
const MOVES: usize = 10;

/// Takes and runs calls until told to stop; those under way then end as runs do.
pub(crate) async fn work(executor: &Arc<Executor>, stop: CancellationToken) {
    let poll = Duration::from_millis(executor.config.queue_poll_ms);
    let (mut unconfirmed, mut look) = (Vec::new(), Instant::now());
    while !stop.is_cancelled() {
        let is_time = Instant::now() >= look;
        if is_time {
            look = Instant::now() + poll;
        }
        if let Err(error) = turn(executor, &mut unconfirmed, is_time).await
            && !matches!(error, Error::Store(::store::Error::Unavailable(_)))
        {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::error!(%error, cause, "queued calls cannot be taken; tried again");
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = executor.queue.woken() => {}
            () = tokio::time::sleep_until(look) => {}
        }
    }
    // What stays is found by the reaper.
    let _ = return_unconfirmed(executor, &mut unconfirmed).await;
}

/// Takes what is due; now and then it looks first at what stands aside.
async fn turn(
    executor: &Arc<Executor>,
    unconfirmed: &mut Vec<Execution>,
    looks_aside: bool,
) -> Result<(), Error> {
    if looks_aside {
        set_aside(executor).await?;
    }
    fill(executor, unconfirmed).await
}

/// Sets aside what is due much later, so that no look for work walks over it, and calls back what is due.
async fn set_aside(executor: &Executor) -> Result<(), Error> {
    for _ in 0..MOVES {
        let moved = store::jobs_set_aside(executor.database.pool()?, ASIDE, MOVED).await?;
        if moved < MOVED.unsigned_abs() {
            break;
        }
    }
    Ok(())
}

/// Takes what is due, until no place is free or nothing is due. Takes nothing while no new call is taken either.
async fn fill(executor: &Arc<Executor>, unconfirmed: &mut Vec<Execution>) -> Result<(), Error> {
    return_unconfirmed(executor, unconfirmed).await?;
    while executor.queue.free() > 0 && executor.lease.is_held() {
        let Ok(admitted) = executor.admit().await else { return Ok(()) };
        let before = crate::lease::Moment::now();
        let claimed = claim(executor, unconfirmed).await?;
        if claimed.is_empty() {
            return Ok(());
        }
        for call in claimed {
            let place = executor.queue.take(&call.execution);
            executor.runs.spawn(deliver::deliver(Arc::clone(executor), call, place, before));
        }
        drop(admitted);
    }
    Ok(())
}

/// Makes calls this process's own, on disk. Where no answer says whether that happened, they are remembered.
async fn claim(executor: &Executor, unconfirmed: &mut Vec<Execution>) -> Result<Vec<Claimed>, Error> {
    let (load, queue) = (executor.queue.load(Instant::now()), &executor.queue);
    let mut transaction = store::begin(executor.database.pool()?, true).await?;
    let room = (queue.free(), queue.most_of_one());
    let claimed = store::jobs_claim_in_txn(&mut transaction, executor.owner, &load, room).await?;
    if claimed.is_empty() {
        return Ok(claimed);
    }
    if let Err(error) = transaction.commit().await {
        unconfirmed.extend(claimed.into_iter().map(|call| call.execution));
        return Err(::store::Error::from(error).into());
    }
    Ok(claimed)
}

/// Puts back what may have been taken: it was not begun. Where it was not taken, nothing is touched.
async fn return_unconfirmed(executor: &Executor, unconfirmed: &mut Vec<Execution>) -> Result<(), Error> {
    while let Some(execution) = unconfirmed.last() {
        let (team, id) = (&execution.team_id, execution.id);
        let unchanged = (None, execution.attempts_json.as_str());
        store::job_put_back(executor.database.pool()?, team, id, execution.lease_epoch, unchanged).await?;
        unconfirmed.pop();
    }
    Ok(())
}
