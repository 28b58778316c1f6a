//! Erases what is kept of a data subject (GDPR Art. 17). In one transaction the subject's key is destroyed, the erasure
//! becomes a row, and a leaf tells of it, by pseudonym; from then on nothing that was sealed for them can be read. The
//! rest goes on in the background until every part of the suite has done it (`erase/work.rs`), through the death of any
//! process. Never done under a hold, never half begun, and never names the subject in the trail.

mod certificate;
mod work;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ::store::Database;
use chrono::Utc;
use tokio::sync::Notify;
use types::Caller;

use crate::{
    Error, Signer,
    append::Journal,
    own,
    payload::micros,
    peers::Peers,
    store::{self, ErasureRow, Parts},
};

/// How long an answer waits for all of it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks.
const POLL: Duration = Duration::from_millis(100);
/// What is left of the caller's time for the answer itself.
const MARGIN: Duration = Duration::from_millis(300);
/// Longest name of an end user, in bytes: no caller has a longer one.
const MAX_USER: usize = 1_000;

/// Erases, with what it needs for that. Cheap to clone.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds keys")]
pub(crate) struct Eraser {
    pub database: Database,
    pub journal: Journal,
    pub peers: Peers,
    pub signer: Signer,
    wake: Arc<Notify>,
}

/// Whom, and why. No `Debug`, so that no log line ever has it.
pub(crate) struct Asked {
    pub user: String,
    pub reason: String,
    pub request_id: String,
}

impl Eraser {
    pub(crate) fn new(database: Database, journal: Journal, peers: Peers, signer: Signer) -> Self {
        Self { database, journal, peers, signer, wake: Arc::default() }
    }

    /// Begins an erasure, or finds the one that was begun, and waits a few seconds for its end.
    pub(crate) async fn erase(
        &self,
        caller: &Caller,
        asked: &Asked,
        until: Instant,
    ) -> Result<ErasureRow, Error> {
        check(asked)?;
        let begun = self.begin(caller, asked).await?;
        self.wake.notify_one();
        self.wait(&caller.team, begun, until).await
    }

    /// In one transaction: the key is destroyed, the erasure is on record, and the trail tells of it.
    async fn begin(&self, caller: &Caller, asked: &Asked) -> Result<ErasureRow, Error> {
        let (team, subjects) = (caller.team.as_str(), &self.journal.subjects);
        // Also makes sure that the team has its key: nobody can make one while the subject is locked.
        let digest = subjects.digest(team, &asked.user).await?;
        let id = types::new_id();
        let sealed_user = subjects.seal_name(team, id, &asked.user).await?;
        let pool = self.database.pool()?;
        let mut transaction = pool.begin().await.map_err(::store::Error::from)?;
        store::erasing_lock_in_txn(&mut transaction, team).await?;
        if let Some(earlier) = store::erasure_find(&mut transaction, team, &asked.request_id, &digest).await?
        {
            drop(transaction);
            return same(team, earlier, asked, &digest);
        }
        let subject = store::subjects_find(&mut transaction, &[(team, &digest)]).await?.pop();
        let subject_id = subject.map(|subject| subject.subject_id);
        if let Some(hold) = store::hold_of_subject(&mut transaction, team, subject_id).await? {
            return Err(Error::OnHold { hold });
        }
        let erasure = ErasureRow {
            id,
            subject_id,
            sealed_user: Some(sealed_user),
            user_digest: Some(digest),
            reason: asked.reason.clone(),
            agent_id: caller.agent.clone(),
            request_id: asked.request_id.clone(),
            request_time: micros(Utc::now()),
            parts: Parts::default(),
            done_time: None,
            certificate: String::new(),
        };
        if let Some(subject) = subject_id {
            store::subject_destroy_in_txn(&mut transaction, team, subject, erasure.request_time).await?;
        }
        store::erasure_insert(&mut transaction, team, &erasure).await?;
        self.journal.append_in_txn(&mut transaction, &[own::erased(team, &erasure)]).await?;
        transaction.commit().await.map_err(::store::Error::from)?;
        // Here at once; wherever else a key is remembered, it seals nothing more and is forgotten in minutes.
        subjects.forget(&subject_id.into_iter().collect::<Vec<_>>());
        tracing::info!(team.id = team, erasure.id = %id, subject.id = ?subject_id, "a data subject is erased");
        Ok(erasure)
    }

    /// Looks until it is done, for a few seconds at most.
    async fn wait(&self, team: &str, mut erasure: ErasureRow, until: Instant) -> Result<ErasureRow, Error> {
        let until = (Instant::now() + PATIENCE).min(until.checked_sub(MARGIN).unwrap_or(until));
        while erasure.done_time.is_none() && Instant::now() < until {
            tokio::time::sleep(POLL).await;
            let mut connection = self.database.pool()?.acquire().await.map_err(::store::Error::from)?;
            let found = store::erasure_get(&mut connection, team, erasure.id).await?;
            erasure = found.unwrap_or(erasure);
        }
        Ok(erasure)
    }
}

/// An earlier erasure, where it is of the same user and reason, or goes on already.
fn same(team: &str, earlier: ErasureRow, asked: &Asked, digest: &[u8]) -> Result<ErasureRow, Error> {
    let is_repeated = !asked.request_id.is_empty() && earlier.request_id == asked.request_id;
    // Long after its end nothing tells whose it was.
    let is_other = earlier.user_digest.as_deref().is_some_and(|known| known != digest);
    if is_repeated && (is_other || earlier.reason != asked.reason) {
        return Err(Error::RequestIdReused(asked.request_id.clone()));
    }
    tracing::debug!(team.id = team, erasure.id = %earlier.id, "the erasure was begun before");
    Ok(earlier)
}

fn check(asked: &Asked) -> Result<(), Error> {
    let Asked { user, reason, request_id } = asked;
    if user.is_empty() || user.len() > MAX_USER || user.contains('\0') {
        return Err(Error::invalid("user", format!("name the end user, in 1 to {MAX_USER} bytes")));
    }
    if !(1..=1_000).contains(&reason.chars().count()) || reason.contains('\0') {
        return Err(Error::invalid("reason", "say why, in 1 to 1,000 characters"));
    }
    if reason.contains(user.as_str()) {
        let told = "names the user; it stays in the trail for good, so say why without personal data";
        return Err(Error::invalid("reason", told));
    }
    if request_id.chars().count() > 128 || request_id.contains('\0') {
        return Err(Error::invalid("request_id", "has more than 128 characters"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stays_for_good_and_so_must_not_name_the_user() {
        let asked = |user: &str, reason: &str| {
            check(&Asked { user: user.into(), reason: reason.into(), request_id: String::new() })
                .err()
                .map(|error| error.to_string())
        };
        assert_eq!(asked("ada", "GDPR Art. 17, ticket 12"), None);
        assert!(asked("ada", "asked for by ada").unwrap().contains("reason"));
        assert!(asked("", "why").unwrap().contains("user"));
        assert!(asked("ada", "").unwrap().contains("reason"));
        assert!(asked("ada", &"x".repeat(1_001)).unwrap().contains("reason"));
    }
}
