//! Secrets into what the database keeps of them, and back.

use chrono::{DateTime, Utc};
use keyring::{Key, Keys};
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::{
    envelope::{Envelope, Owner, Purpose},
    secret::{Kind, Secret, Text},
};
use crate::{
    Error,
    store::{LiveVersion, SealedVersion},
};

/// Room for any secret at once, so that it is not copied while it grows.
const ROOM: usize = 256 * 1024;

/// What is sealed: the secret as it is now.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plain {
    pub secret: Secret,
}

/// A version that was opened.
pub(super) struct Opened {
    key: Key,
    pub plain: Plain,
}

impl Plain {
    /// Takes a refresh token that the server gave in the place of the one there was.
    pub(super) fn replace(&mut self, refresh_token: Text) {
        if let Secret::OAuth2Refresh(refresh) = &mut self.secret {
            refresh.refresh_token = refresh_token;
        }
    }

    fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        encode(self)
    }
}

fn encode(secret: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *bytes, secret).map_err(|_| Error::Sealing)?;
    Ok(bytes)
}

/// What tells whether another secret of the credential is this one.
pub(super) fn digest(key: &Key, secret: &Secret) -> Result<Vec<u8>, Error> {
    Ok(key.digest(&encode(secret)?))
}

/// Seals a secret under a new data key.
pub(super) fn seal(
    keys: &Keys,
    owner: Owner,
    secret: Secret,
    digest: Vec<u8>,
    expire_time: Option<DateTime<Utc>>,
) -> Result<SealedVersion, Error> {
    let (key_id, wrapping) = keys.newest();
    let key = Key::random();
    let plain = Plain { secret }.encode()?;
    Ok(SealedVersion {
        version: owner.version,
        key_id: key_id.to_owned(),
        wrapped_key: key.wrap_for(owner, key_id, wrapping).ok_or(Error::Sealing)?,
        sealed: key.seal_for(owner, Purpose::Secret, &plain).ok_or(Error::Sealing)?,
        digest,
        expire_time,
    })
}

/// Opens a data key.
pub(super) fn unwrap(keys: &Keys, owner: Owner, key_id: &str, wrapped: &[u8]) -> Result<Key, Error> {
    keys.get(key_id)?.unwrap_for(owner, key_id, wrapped).ok_or(Error::Sealing)
}

/// Opens a version.
pub(super) fn open(keys: &Keys, owner: Owner, live: &LiveVersion) -> Result<Opened, Error> {
    let key = unwrap(keys, owner, &live.key_id, &live.wrapped_key)?;
    let plain = key.open_for(owner, Purpose::Secret, &live.sealed).ok_or(Error::Sealing)?;
    let plain = serde_json::from_slice(&plain).map_err(|_| Error::Sealing)?;
    Ok(Opened { key, plain })
}

impl Opened {
    /// Seals what the secret has become.
    pub(super) fn reseal(&self, owner: Owner) -> Result<Vec<u8>, Error> {
        self.key.seal_for(owner, Purpose::Secret, &self.plain.encode()?).ok_or(Error::Sealing)
    }

    pub(super) fn seal_token(&self, owner: Owner, token: &Text) -> Result<Vec<u8>, Error> {
        self.key.seal_for(owner, Purpose::Token, token.expose().as_bytes()).ok_or(Error::Sealing)
    }

    pub(super) fn open_token(&self, owner: Owner, sealed: &[u8]) -> Result<Text, Error> {
        let token = self.key.open_for(owner, Purpose::Token, sealed).ok_or(Error::Sealing)?;
        std::str::from_utf8(&token).map(Text::from).map_err(|_| Error::Sealing)
    }
}

/// A kind as the database has it; one that a newer program knows cannot be opened by this one.
pub(super) fn kind(word: &str) -> Result<Kind, Error> {
    word.parse().map_err(|_| Error::Sealing)
}
