//! What an API key looks like: `tc_<env>_<key id>_<secret>_<crc>`. The key id and the secret have no
//! underscore; the CRC-32 (8 hex digits, over all before its underscore) tells a typo from an unknown key
//! without a query. A key is kept as HMAC-SHA-256 under a pepper and never written anywhere else.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::distr::{Alphanumeric, SampleString};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

/// Characters of a key id: 95 bits.
const ID_LENGTH: usize = 16;
/// Bytes of a secret.
const SECRET_BYTES: usize = 32;

/// Makes and recognises the keys of one environment.
#[derive(Clone)]
pub struct Keys {
    mac: Hmac<Sha256>,
    environment: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("environment", &self.environment).finish_non_exhaustive()
    }
}

/// A key that was just made.
pub(crate) struct NewKey {
    pub key: SecretString,
    pub id: String,
    pub digest: String,
}

impl Keys {
    /// For the keys of this environment, such as `dev`, kept under this pepper.
    ///
    /// # Panics
    /// Never: HMAC takes keys of any length.
    pub fn new(pepper: &SecretString, environment: &str) -> Self {
        let mac = Hmac::new_from_slice(pepper.expose_secret().as_bytes()).expect("any length");
        Self { mac, environment: environment.to_owned() }
    }

    /// A new key.
    pub(crate) fn make(&self) -> NewKey {
        let id = Alphanumeric.sample_string(&mut rand::rng(), ID_LENGTH);
        let secret = hex::encode(rand::random::<[u8; SECRET_BYTES]>());
        let body = format!("tc_{}_{id}_{secret}", self.environment);
        let key = SecretString::from(format!("{body}_{:08x}", crc32fast::hash(body.as_bytes())));
        let digest = hex::encode(self.signed(&key).finalize().into_bytes());
        NewKey { key, id, digest }
    }

    /// The id of a key, if it has the shape of one of this environment's and no typo.
    pub(crate) fn id_of<'a>(&self, key: &'a SecretString) -> Option<&'a str> {
        let (body, crc) = key.expose_secret().rsplit_once('_')?;
        if crc.len() != 8 || u32::from_str_radix(crc, 16).ok()? != crc32fast::hash(body.as_bytes()) {
            return None;
        }
        let (head, secret) = body.rsplit_once('_')?;
        let (environment, id) = head.strip_prefix("tc_")?.rsplit_once('_')?;
        let shaped = environment == self.environment && id.len() == ID_LENGTH;
        (shaped && secret.len() == 2 * SECRET_BYTES).then_some(id)
    }

    /// Whether this key was kept with this digest; takes the same time for every wrong key.
    pub(crate) fn matches(&self, key: &SecretString, digest: &str) -> bool {
        hex::decode(digest).is_ok_and(|digest| self.signed(key).verify_slice(&digest).is_ok())
    }

    fn signed(&self, key: &SecretString) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        mac.update(key.expose_secret().as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(environment: &str) -> Keys {
        Keys::new(&SecretString::from("p".repeat(32)), environment)
    }

    #[test]
    fn a_key_is_recognised_in_its_environment_and_under_its_pepper_only() {
        let new = keys("dev").make();
        assert_eq!(keys("dev").id_of(&new.key), Some(new.id.as_str()));
        assert!(keys("dev").matches(&new.key, &new.digest));
        assert_eq!(keys("prod").id_of(&new.key), None);
        let other = Keys::new(&SecretString::from("q".repeat(32)), "dev");
        assert!(!other.matches(&new.key, &new.digest));
        assert!(!keys("dev").matches(&keys("dev").make().key, &new.digest));
        assert!(!keys("dev").matches(&new.key, ""));
    }

    #[test]
    fn every_single_typo_is_seen() {
        let key = keys("dev").make().key;
        let text = key.expose_secret();
        for at in 0..text.len() {
            let mut typo = text.as_bytes().to_vec();
            typo[at] = if typo[at] == b'z' { b'y' } else { b'z' };
            let typo = SecretString::from(String::from_utf8(typo).unwrap());
            assert_eq!(keys("dev").id_of(&typo), None, "at {at}");
        }
        for wrong in ["", "tc", "tc_dev", "tc_dev_x_y_00000000", "____", "é_é_é_é_é"] {
            assert_eq!(keys("dev").id_of(&SecretString::from(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_made_of_256_random_bits_and_never_shown() {
        let new = keys("dev").make();
        let parts: Vec<&str> = new.key.expose_secret().split('_').collect();
        let [prefix, environment, id, secret, crc] = parts[..] else { panic!("{} parts", parts.len()) };
        assert_eq!((prefix, environment, id.len(), secret.len(), crc.len()), ("tc", "dev", 16, 64, 8));
        assert_ne!(keys("dev").make().key.expose_secret(), new.key.expose_secret());
        let shown = format!("{:?} {:?}", keys("dev"), new.key);
        assert!(!shown.contains(secret) && !shown.contains("ppp"), "{shown}");
    }
}
