//! Whether a secret was a credential's before, under a key that is the credential's own. What has ended must not come
//! back because a source still gives it.

use chrono::{DateTime, Utc};
use keyring::Key;

use super::{
    Credentials,
    envelope::{Envelope, Owner},
    put::{Next, Origin},
    rotation::State,
    sealed,
};
use crate::{
    Error,
    store::{CredentialWrite, KnownVersion},
};

impl Credentials {
    /// The digest of the secret that is to be added.
    pub(super) async fn digest(&self, write: &mut CredentialWrite, next: &Next) -> Result<Vec<u8>, Error> {
        let owner = Owner::whole(&next.caller.team, &next.name);
        let known = match write.digest_key().await? {
            None => None,
            Some((id, wrapped)) => match sealed::unwrap(&*self.keys_for(&id)?, owner, &id, &wrapped) {
                Ok(key) => Some(key),
                // Nobody could say whether a source gives what has ended.
                Err(error) if matches!(next.origin, Origin::Source { .. }) => return Err(error),
                Err(_) => None,
            },
        };
        let key = if let Some(key) = known {
            key
        } else {
            let key = Key::random();
            let keys = self.0.keys.keys()?;
            let (id, wrapping) = keys.newest();
            let wrapped = key.wrap_for(owner, id, wrapping).ok_or(Error::Sealing)?;
            write.set_digest_key(id, &wrapped).await?;
            key
        };
        sealed::digest(&key, &next.secret)
    }
}

impl Next {
    /// When a secret that was the credential's before ends, or why it is not taken again.
    pub(super) fn end_again(&self, known: &KnownVersion) -> Result<Option<DateTime<Utc>>, Error> {
        let now = Utc::now();
        let is_over = known.expire_time.is_some_and(|end| end <= now);
        let has_ended = is_over || matches!(known.state, State::Retiring | State::Revoked);
        if has_ended && matches!(self.origin, Origin::Source { .. }) {
            let version = known.version;
            return Err(Error::CredentialUnavailable {
                name: self.name.clone(),
                why: format!("cannot be rotated: its source gives version {version} again, which has ended"),
                retry_after: None,
            });
        }
        if self.expire_time.is_none() && is_over {
            let told = format!("must be given: version {} of the same secret has ended", known.version);
            return Err(Error::invalid("expire_time", told));
        }
        Ok(if self.expire_time.is_none() { known.expire_time } else { None })
    }
}
