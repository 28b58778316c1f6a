//! Looks after credentials in the background: ends versions whose time is over, rotates what is due, reads the
//! wrapping keys again and wraps with the first of them what another one wraps. Any number of processes may do it.

use std::{sync::Arc, time::Duration};

use keyring::{KeyProvider, Keys};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Credentials,
    envelope::{Envelope, Owner},
    sealed,
    settle::Tried,
};
use crate::{
    Error,
    store::{self, DueRotation, WrappedKey},
    trail,
};

/// How often it is looked whether something is due.
const POLL: Duration = Duration::from_secs(2);
/// How often, in these, the keys are read again.
const KEYS_EVERY: u32 = 5;
/// Rotations of this process that are under way at once.
const AT_ONCE: usize = 8;
/// A rotation that has not ended for so long is begun again by any process.
const CLAIM: Duration = Duration::from_mins(2);
/// A version that was kept for so long without being used never will be.
const FORGOTTEN: Duration = Duration::from_mins(5);
/// Pause after a rotation that failed; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_hours(1);
/// Versions wrapped anew at a time.
const REWRAP: i64 = 100;

/// Looks after them until told to stop.
pub(crate) async fn keep(credentials: Credentials, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut round: u32 = 0;
    loop {
        if let Err(error) = credentials.tend(&places, round.is_multiple_of(KEYS_EVERY)).await {
            tracing::warn!(%error, "credentials cannot be looked after");
        }
        round = round.wrapping_add(1);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

impl Credentials {
    async fn tend(&self, places: &Arc<Semaphore>, with_keys: bool) -> Result<(), Error> {
        let pool = self.0.database.pool()?;
        for (team, name, version) in &store::version_forgotten(pool, FORGOTTEN).await? {
            let own = trail::own(team);
            let tried = Tried { caller: &own, name, version: *version, works: true, rotation: None };
            if let Err(error) = self.settle(&tried).await {
                tracing::warn!(%error, team, credential = name, version, "a version cannot be settled");
            }
        }
        let ended = |team: &str, name: &str, version: i32| {
            let told = format!("version {version} has ended: its time is over");
            trail::credential(&trail::own(team), name, &told)
        };
        for (team, credential, version) in store::version_end_due(pool, FORGOTTEN, ended).await? {
            tracing::info!(team, credential, version, "credential version ended");
        }
        if matches!(self.0.keys, KeyProvider::None(_)) {
            return Ok(());
        }
        if with_keys {
            self.rewrap().await?;
        }
        while let Ok(place) = Arc::clone(places).try_acquire_owned() {
            let Some(due) = store::rotation_claim(pool, CLAIM).await? else { break };
            let this = self.clone();
            self.0.tasks.spawn(async move {
                this.rotate_claimed(&due).await;
                drop(place);
            });
        }
        Ok(())
    }

    async fn rotate_claimed(&self, due: &DueRotation) {
        let rotated = self.rotate_due(due).await;
        let noted = match &rotated {
            // The next time stands in the row.
            Ok(true) => Ok(()),
            Ok(false) => self.skip(due).await,
            Err(error) => self.fail(due, error).await,
        };
        if let Err(error) = noted {
            tracing::warn!(%error, team = due.team_id, credential = due.name, "a rotation cannot be noted");
        }
    }

    async fn skip(&self, due: &DueRotation) -> Result<(), Error> {
        let pool = self.0.database.pool()?;
        let row = store::credential_find(pool, &due.team_id, &due.name).await?;
        let seconds = row.and_then(|row| row.rotation.interval_s()).unwrap_or_default();
        let pause = Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).max(FIRST_PAUSE);
        Ok(store::rotation_skip(pool, due, pause).await?)
    }

    async fn fail(&self, due: &DueRotation, error: &Error) -> Result<(), Error> {
        let pause = pause(due.failures);
        let told = told(error);
        let (team, credential) = (&due.team_id, &due.name);
        tracing::warn!(team, credential, error = told, again_s = pause.as_secs(), "rotation failed");
        let event = trail::credential_failed(&trail::own(team), credential, &told);
        Ok(store::rotation_fail(self.0.database.pool()?, due, &told, pause, &event).await?)
    }

    /// Reads the keys again, and wraps with the first what another one wraps, each key by itself: whatever was done
    /// stays done, and any process does the rest.
    pub(crate) async fn rewrap(&self) -> Result<(), Error> {
        let changed = match self.0.keys.refresh() {
            Ok(changed) => changed,
            Err(error) => {
                tracing::warn!(%error, "the wrapping keys cannot be read");
                return Ok(());
            }
        };
        let keys = self.0.keys.keys()?;
        if changed {
            tracing::info!(ids = keys.ids().join(" "), "wrapping keys read");
        }
        let (mut done, mut failed) = (0, 0);
        let others: Vec<String> = keys.ids().into_iter().skip(1).map(str::to_owned).collect();
        let pool = self.0.database.pool()?;
        let mut after = (String::new(), String::new(), 0);
        loop {
            let listed = store::wrapped_list(pool, &others, (&after.0, &after.1, after.2), REWRAP).await?;
            let Some(last) = listed.last() else { break };
            after = (last.team_id.clone(), last.name.clone(), last.version);
            for old in &listed {
                if let Err(error) = self.wrap_anew(&keys, old).await {
                    tracing::debug!(%error, "a data key cannot be wrapped anew");
                    failed += 1;
                } else {
                    done += 1;
                }
            }
        }
        if failed > 0 {
            tracing::warn!(failed, "credentials cannot be opened with the wrapping keys there are");
        }
        if done > 0 {
            tracing::info!(done, key = keys.newest().0, "credentials wrapped anew");
        }
        Ok(())
    }

    async fn wrap_anew(&self, keys: &Keys, old: &WrappedKey) -> Result<(), Error> {
        let WrappedKey { team_id, name, kind, version, key_id, wrapped_key } = old;
        let owner = match version {
            0 => Owner::whole(team_id, name),
            _ => Owner { team: team_id, name, version: *version, kind: sealed::kind(kind)? },
        };
        let (newest, wrapping) = keys.newest();
        let key = sealed::unwrap(keys, owner, key_id, wrapped_key)?;
        let wrapped = key.wrap_for(owner, newest, wrapping).ok_or(Error::Sealing)?;
        Ok(store::wrapped_replace(self.0.database.pool()?, old, newest, &wrapped).await?)
    }
}

/// What may be told of an error: its public words.
fn told(error: &Error) -> String {
    ::rpc::ServiceError::public_message(error).chars().take(500).collect()
}

fn pause(failures: i32) -> Duration {
    let times = u32::try_from(failures).unwrap_or(0).min(20);
    FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_that_fails_is_tried_again_after_ever_longer_pauses() {
        assert_eq!(
            [0, 1, 6, 7, 100].map(|failures| pause(failures).as_secs()),
            [30, 60, 1_920, 3_600, 3_600]
        );
    }
}
