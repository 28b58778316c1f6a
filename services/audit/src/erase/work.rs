//! The part of an erasure that goes on in the background: payloads go out of the records, the executor, permissions and
//! the selector erase what they keep, and once all is done and the leaf is under a checkpoint, the certificate is signed and the name
//! goes. One process at a time works at an erasure; whichever is alive goes on with it. Every step may be repeated; when
//! one is due next is in its row, and none keeps those of other teams waiting for good.

use std::time::Duration;

use ::rpc::ServiceError;
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Eraser,
    certificate::{self, Leaf},
};
use crate::{
    Error,
    payload::micros,
    peers::{ErasedThere, Subject},
    store::{self, ErasureRow, OpenErasure, Part},
};

/// Records emptied in one statement.
const BATCH: i64 = 1_000;
/// Erasures tried in one round, and of one team.
const MOST: i64 = 100;
const OF_TEAM: i64 = 4;
/// How often it is looked for some at least, and at most.
const LOOK: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);

impl Eraser {
    /// Works until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut was_away = false;
        loop {
            let round = self.round();
            let pause = tokio::select! {
                done = round => match done {
                    Ok(pause) => { was_away = false; pause }
                    Err(error) => {
                        if !std::mem::replace(&mut was_away, true) {
                            tracing::warn!(%error, "erasures cannot go on; tried again");
                        }
                        LOOK
                    }
                },
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Works at what is due, and says how long to rest.
    async fn round(&self) -> Result<Duration, Error> {
        let pool = self.database.pool()?;
        for OpenErasure { team_id, id } in store::erasures_due(pool, OF_TEAM, MOST).await? {
            self.step(&team_id, id).await?;
        }
        let next = store::erasures_next_ms(pool).await?.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        Ok(next.unwrap_or(LOOK).clamp(SOON, LOOK))
    }

    /// One try, where no other process is at it; one that does not end it puts the next off.
    async fn step(&self, team: &str, id: Uuid) -> Result<(), Error> {
        let pool = self.database.pool()?;
        let mut lock = pool.begin().await.map_err(::store::Error::from)?;
        if !store::erasure_lock(&mut lock, id).await? {
            return Ok(());
        }
        let done = match self.attempt(&mut lock, team, id).await {
            Ok(done) => done,
            Err(error) => {
                tracing::warn!(team.id = team, erasure.id = %id, %error, "an erasure is not done; tried again");
                false
            }
        };
        if !done {
            store::erasure_put_off(pool, team, id).await?;
        }
        Ok(())
    }

    /// Does all that is left; `true`: it is done.
    async fn attempt(&self, lock: &mut store::Connection, team: &str, id: Uuid) -> Result<bool, Error> {
        let Some(erasure) = store::erasure_get(lock, team, id).await? else { return Ok(true) };
        let Some(sealed) = erasure.sealed_user.as_ref().filter(|_| erasure.done_time.is_none()) else {
            return Ok(true);
        };
        // First what is here, whether the others answer or not.
        let emptied = self.erase_payloads(team, &erasure).await;
        let user = self.journal.subjects.open_name(team, id, sealed).await?;
        let subject = Subject { team: team.to_owned(), user, before: erasure.request_time, erasure: id };
        let (executions, requests, selections) = tokio::join!(
            self.peers.erase_executions(&subject),
            self.peers.erase_requests(&subject),
            self.peers.erase_selections(&subject)
        );
        // And once more last: what the others told it meanwhile came in without a payload, and counts.
        let trail = match emptied {
            Ok(_) => self.erase_payloads(team, &erasure).await,
            failed => failed,
        };
        let parts = parts(&trail, &executions, &requests, &selections);
        let pool = self.database.pool()?;
        if !parts.iter().all(|part| part.done) {
            store::erasure_note(pool, team, id, &parts).await?;
            return Ok(false);
        }
        self.end(team, &erasure, &parts).await
    }

    /// Takes every payload of the subject, and counts its records.
    async fn erase_payloads(&self, team: &str, erasure: &ErasureRow) -> Result<i64, Error> {
        let Some(subject) = erasure.subject_id else { return Ok(0) };
        let pool = self.database.pool()?;
        let mut after = Uuid::nil();
        while let Some(last) = store::payloads_erase(pool, team, subject, after, BATCH).await? {
            after = last;
        }
        let (all, left) = store::payloads_count(pool, team, subject).await?;
        if left > 0 {
            return Err(Error::Broken(format!("{left} records of an erased subject still have a payload")));
        }
        Ok(all)
    }

    /// Signs the certificate once the leaf is under a checkpoint; `false`: not yet.
    async fn end(&self, team: &str, erasure: &ErasureRow, parts: &[Part]) -> Result<bool, Error> {
        let pool = self.database.pool()?;
        let position = store::record_position(pool, team, erasure.id).await?;
        let tree_size = store::tree_get(pool, team).await?.map_or(0, |tree| tree.size);
        let Some(position) = position.filter(|position| *position <= tree_size) else {
            store::erasure_note(pool, team, erasure.id, parts).await?;
            return Ok(false);
        };
        let (leaf, now) = (Leaf { index: position - 1, tree_size }, micros(Utc::now()));
        let certificate = self.signer.note(&certificate::text(team, erasure, parts, leaf, now));
        store::erasure_note(pool, team, erasure.id, parts).await?;
        store::erasure_end(pool, team, erasure.id, &certificate, now).await?;
        tracing::info!(team.id = team, erasure.id = %erasure.id, "an erasure is done in every part");
        Ok(true)
    }
}

/// What every part has done.
fn parts(
    trail: &Result<i64, Error>,
    executions: &Result<ErasedThere, Error>,
    requests: &Result<ErasedThere, Error>,
    selections: &Result<ErasedThere, Error>,
) -> Vec<Part> {
    let there = |name: &str, answer: &Result<ErasedThere, Error>, count: fn(&ErasedThere) -> i64| match answer
    {
        Ok(erased) => Part {
            part: name.to_owned(),
            records: count(erased),
            done: erased.done,
            failure: if erased.done {
                String::new()
            } else {
                "calls, messages or selections of the user still end".to_owned()
            },
        },
        Err(error) => failed(name, error),
    };
    let own = match trail {
        Ok(records) => Part { part: "trail".into(), records: *records, done: true, failure: String::new() },
        Err(error) => failed("trail", error),
    };
    vec![
        own,
        there("executions", executions, |erased| erased.rows),
        there("cache", executions, |erased| erased.passing),
        there("artifacts", executions, |erased| erased.files),
        there("access_requests", requests, |erased| erased.rows + erased.passing),
        there("selections", selections, |erased| erased.rows + erased.passing),
    ]
}

fn failed(part: &str, error: &Error) -> Part {
    Part { part: part.to_owned(), records: 0, done: false, failure: error.public_message() }
}
