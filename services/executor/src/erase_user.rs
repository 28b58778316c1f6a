//! Erases what is kept of an end user. Waiting calls of theirs are cancelled and never run; running ones go on, and
//! what comes of them is written without a text. Every step may be repeated, by any process and after any death: what
//! is left to do is read from the rows. Never done while a call of theirs runs or may still come to be recorded, an event
//! that names them waits, or a living process has a file of theirs.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Executor, artifact,
    builtin::files,
    cancel, events,
    outcome::{Reached, ToolError, ToolErrorCode},
    signals,
    store::{self, Erased, Subject},
};

/// Executions emptied in one statement, and waiting calls cancelled before the next look.
const BATCH: i64 = 500;
/// How long one request works: whoever asks is told how far it is, and asks again.
const TIME: Duration = Duration::from_secs(5);
/// For how many times the time after which a silent process is taken for dead, 30 s unless it is set, calls from before
/// an erasure may come to be recorded: it makes up for slow writes and for clocks that differ.
const LEASES: u32 = 2;
/// How often it is looked whether the others have deleted their files.
const POLL: Duration = Duration::from_millis(100);
/// How often a process looks for files that it was not told of.
const LOOK: Duration = Duration::from_mins(1);
/// How far clocks of processes may lie apart; files noted so long before the last look are looked at again.
const SKEW: chrono::TimeDelta = chrono::TimeDelta::minutes(10);

/// Erases, and tells what went under this erasure so far and whether that was all.
pub(crate) async fn erase(executor: &Arc<Executor>, subject: &Subject) -> Result<(Erased, bool), Error> {
    let pool = executor.database.pool()?;
    let until = Instant::now() + TIME;
    if store::erasure_begin(pool, subject).await? {
        drop_cached(executor, subject).await?;
    }
    let mut done = false;
    while !done && Instant::now() < until {
        done = step(executor, subject, until).await?;
        if !done {
            tokio::time::sleep(POLL).await;
        }
    }
    Ok((store::erasure_get(pool, subject).await?, done))
}

/// One round; `true`: nothing is left.
async fn step(executor: &Arc<Executor>, subject: &Subject, until: Instant) -> Result<bool, Error> {
    let pool = executor.database.pool()?;
    // A call is stamped before its intent is written, by a clock of its own. Asked first: only a round that is begun
    // after the margin sees every call from before the erasure.
    let settled = store::erasure_is_settled(pool, subject, executor.lease_timeout * LEASES).await?;
    cancel_waiting(executor, subject, until).await?;
    let mut running = store::user_running_erase(pool, subject).await?;
    while store::user_ended_erase(pool, subject, BATCH).await? > 0 {
        if Instant::now() >= until {
            return Ok(false);
        }
        running = store::user_running_erase(pool, subject).await?;
    }
    erase_files(executor, Some(subject), Some(until)).await?;
    if running > 0 || !settled {
        return Ok(false);
    }
    if store::erasure_get(pool, subject).await?.quiet_time.is_none() {
        // What ran meanwhile may have put answers of its own there.
        drop_cached(executor, subject).await?;
        signals::erased(executor).await?;
    }
    let quiet = store::erasure_quiet(pool, subject).await?;
    let fields = (events::team_field(&subject.team), events::user_field(&subject.user));
    Ok(!store::is_in_outbox(pool, events::AUDIT, (&fields.0, &fields.1), quiet).await?
        && !store::files_are_left(pool, subject, executor.lease_timeout).await?)
}

/// Ends the calls that wait, with an outcome as if a caller had cancelled them. Those that are left, for want of time or
/// because they cannot be taken, count as running.
async fn cancel_waiting(executor: &Executor, subject: &Subject, until: Instant) -> Result<(), Error> {
    let pool = executor.database.pool()?;
    loop {
        let waiting = store::user_waiting(pool, subject, BATCH).await?;
        let mut cancelled = 0;
        for id in &waiting {
            if Instant::now() >= until {
                return Ok(());
            }
            let mut transaction = store::begin(pool, true).await?;
            let taken = store::queued_take_in_txn(&mut transaction, &subject.team, *id).await?;
            // A worker that takes it at this moment has it: it is found among those that run.
            let Some(mut taken) = taken else { continue };
            taken.arguments_json.clear();
            taken.arguments_digest.clear();
            taken.user_id.clear();
            let message = "its data subject was erased before it began";
            let error = ToolError::new(ToolErrorCode::Cancelled, message).having(Reached::No);
            cancel::close(executor, transaction, &taken, error).await?;
            cancelled += 1;
        }
        if cancelled == 0 || waiting.len() < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            return Ok(());
        }
    }
}

/// Drops every cached answer of the team: which of them tell of a user nobody can say.
async fn drop_cached(executor: &Executor, subject: &Subject) -> Result<(), Error> {
    let dropped = signals::invalidate_team(executor, &subject.team).await?;
    let dropped = i64::try_from(dropped).unwrap_or(i64::MAX);
    Ok(store::erasure_count_cached(executor.database.pool()?, subject, dropped).await?)
}

/// Deletes files until told to stop: those that others noted while this process was away, too.
pub(crate) async fn keep_erasing(executor: &Executor, stop: CancellationToken) {
    loop {
        if let Err(error) = tidy(executor).await
            && executor.database.is_up()
        {
            tracing::warn!(%error, "files of erased users cannot be deleted; tried again in a minute");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = executor.erasing.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn tidy(executor: &Executor) -> Result<(), Error> {
    let erased = erase_files(executor, None, None).await;
    store::files_forget(executor.database.pool()?, BATCH).await?;
    erased
}

/// Deletes what this process has of the files that are to go, and says so. One that cannot be deleted stays noted, and
/// keeps none of the others.
async fn erase_files(
    executor: &Executor,
    subject: Option<&Subject>,
    until: Option<Instant>,
) -> Result<(), Error> {
    let pool = executor.database.pool()?;
    // Everything that is noted, the first time; a subject's own files are at most as old as its erasure.
    let since = subject.map_or(chrono::DateTime::UNIX_EPOCH, |subject| subject.before - SKEW);
    let mut last = None;
    loop {
        let files = store::files_to_erase(pool, executor.owner, since, last.as_ref(), BATCH).await?;
        if files.is_empty() {
            return Ok(());
        }
        let (mut gone, mut deleted) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
        for file in files {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(store::files_erased(pool, executor.owner, &gone, &deleted).await?);
            }
            last = Some(file.clone());
            let workspace = executor.drivers.workspace(&file.team_id, &file.task_id);
            match files::remove(workspace, artifact::path(file.execution_id)).await {
                Ok(was_there) => {
                    gone.push(file);
                    deleted.push(was_there);
                }
                // Told once a minute, by who deletes in the background; a request tries it many times.
                Err(error) if until.is_some() => tracing::debug!(execution.id = %file.execution_id, %error),
                Err(error) => {
                    tracing::error!(execution.id = %file.execution_id, %error, "a file of an erased user cannot be deleted");
                }
            }
        }
        store::files_erased(pool, executor.owner, &gone, &deleted).await?;
    }
}
