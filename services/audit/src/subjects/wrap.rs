//! Wrapping keys in the background: reads the operator's file again, and wraps with its first key what another one
//! wraps, so that a key can be replaced while everything runs. Any number of processes may do it.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use keyring::Key;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Fault, Subjects, key_binding};
use crate::{
    Error,
    store::{self, SubjectRow},
};

/// How often.
const INTERVAL: Duration = Duration::from_mins(1);
/// Keys wrapped anew by one query.
const BATCH: i64 = 500;
/// How long the HMAC of an erased user's name is kept after the erasure is done, so that what was on its way then comes
/// in without its payload: an erasure that the next late event undoes would be none (GDPR Art. 17(1), 5(2)). Bounded,
/// since it is personal data still (recital 26): no outbox holds anything for longer.
const KEEP_DIGESTS: TimeDelta = TimeDelta::days(30);

impl Subjects {
    /// Looks after wrapping keys until told to stop.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        loop {
            if let Err(error) = self.look_after().await {
                tracing::error!(%error, "payloads of the trail cannot be opened or sealed, or not wrapped anew");
            }
            tokio::select! {
                () = tokio::time::sleep(INTERVAL) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// One round. What cannot be unwrapped is told at its end, and keeps nothing else back.
    pub(crate) async fn look_after(&self) -> Result<(), Error> {
        self.read_keys()?;
        let keys = self.0.keys.keys()?;
        let pool = self.0.database.pool()?;
        store::erased_forget(pool, Utc::now() - KEEP_DIGESTS).await?;
        let newest = keys.newest().0;
        let (mut others, mut failed) = (Vec::new(), None);
        for row in store::subjects_sample(pool).await? {
            // A file with the right ids and wrong keys would not be noticed before somebody reads.
            let fault = self.try_unwrap(&row)?.err();
            // Nothing of a key that is not there can be wrapped anew.
            let is_there = !matches!(fault, Some(Fault::Missing(_)));
            failed = failed.or(fault);
            others.extend(Some(row.key_id).filter(|id| is_there && id != newest));
        }
        let mut done = 0;
        let mut after = (String::new(), Uuid::nil());
        loop {
            let rows = store::subjects_wrapped_by(pool, &others, (&after.0, after.1), BATCH).await?;
            let Some(last) = rows.last() else { break };
            after = (last.team_id.clone(), last.subject_id);
            for row in &rows {
                let key = match self.try_unwrap(row)? {
                    Ok(key) => key,
                    Err(fault) => {
                        self.tell(row, &fault);
                        failed = failed.or(Some(fault));
                        continue;
                    }
                };
                let (id, wrapping) = keys.newest();
                let wrapped = key.wrap(&key_binding(&row.team_id, row.subject_id, id), wrapping);
                let wrapped = wrapped.ok_or(Error::Sealing(row.subject_id))?;
                store::subject_rewrap(pool, row, id, &wrapped).await?;
                done += 1;
            }
        }
        if done > 0 {
            tracing::info!(done, key = newest, "keys of data subjects wrapped anew");
        }
        failed.map_or(Ok(()), |fault| Err(fault.into()))
    }

    /// Opens a subject's key, or tells what is wrong with this one. An error is about all of them: there are no
    /// wrapping keys.
    pub(super) fn try_unwrap(&self, row: &SubjectRow) -> Result<Result<Key, Fault>, Error> {
        let keys = &self.0.keys;
        // A file that cannot be read again is no worse than one that does not have the key.
        let keys = keys.keys_with(&row.key_id).or_else(|_| keys.keys())?;
        let Some(key) = keys.find(&row.key_id) else { return Ok(Err(Fault::Missing(row.key_id.clone()))) };
        let binding = key_binding(&row.team_id, row.subject_id, &row.key_id);
        let opened = key.unwrap(&binding, &row.wrapped_key);
        Ok(opened.ok_or_else(|| Fault::Wrong(row.key_id.clone())))
    }
}
