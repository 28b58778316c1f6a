//! Entries as bytes that only holders of the key can read or make. Must never give back what was sealed for
//! another cache key.

use std::time::Duration;

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};

use crate::{Cached, Key, Life};

/// Bytes of the nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), long enough to be drawn at random.
const NONCE_BYTES: usize = 24;
/// Opens the authenticated data; another layout of the plain bytes takes another label.
const LABEL: &[u8] = b"toolcrib cache entry 1\0";
/// Kind, ttl and stale time in ms before the text.
const HEADER_BYTES: usize = 1 + 8 + 8;

const SUCCESS: u8 = 0;
const REFUSAL: u8 = 1;

/// Seals and opens entries.
#[derive(Clone)]
pub(crate) struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl Sealer {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&(*key).into()) }
    }

    /// Nonce and ciphertext; `None` where the cipher refuses the length, beyond 256 GiB.
    pub(crate) fn seal(&self, key: &Key, value: &Cached, life: Life) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = authenticated(key);
        let plain = plain(value, life);
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), Payload { msg: &plain, aad: &aad }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed for this key; `None` where it was not, or not by us.
    pub(crate) fn open(&self, key: &Key, sealed: &[u8]) -> Option<(Cached, Life)> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = authenticated(key);
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).ok()?;
        read(&plain)
    }
}

fn authenticated(key: &Key) -> Vec<u8> {
    [LABEL, &key.bytes()].concat()
}

fn plain(value: &Cached, life: Life) -> Vec<u8> {
    let (kind, json) = match value {
        Cached::Success(json) => (SUCCESS, json),
        Cached::Refusal(json) => (REFUSAL, json),
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len());
    bytes.push(kind);
    bytes.extend_from_slice(&millis(life.ttl).to_be_bytes());
    bytes.extend_from_slice(&millis(life.stale_for).to_be_bytes());
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn read(plain: &[u8]) -> Option<(Cached, Life)> {
    let (kind, rest) = plain.split_first()?;
    let (ttl, rest) = rest.split_first_chunk::<8>()?;
    let (stale_for, json) = rest.split_first_chunk::<8>()?;
    let json = std::str::from_utf8(json).ok()?;
    let value = match *kind {
        SUCCESS => Cached::success(json),
        REFUSAL => Cached::refusal(json),
        _ => return None,
    };
    let duration = |bytes: &[u8; 8]| Duration::from_millis(u64::from_be_bytes(*bytes));
    Some((value, Life { ttl: duration(ttl), stale_for: duration(stale_for) }))
}

/// Whole milliseconds, the unit of Redis.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LIFE: Life = Life { ttl: Duration::from_mins(1), stale_for: Duration::from_millis(5) };

    fn key(tool: &str) -> Key {
        Key::of("team", tool, "digest", "scope", &json!({})).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_keys_only() {
        let sealer = Sealer::new(&[7; 32]);
        for value in [Cached::success("{\"a\":1}"), Cached::refusal("{}")] {
            let sealed = sealer.seal(&key("a"), &value, LIFE).unwrap();
            assert_eq!(sealer.open(&key("a"), &sealed), Some((value, LIFE)));
            assert_eq!(sealer.open(&key("b"), &sealed), None, "another cache key");
            assert_eq!(Sealer::new(&[8; 32]).open(&key("a"), &sealed), None, "another encryption key");
        }
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let sealer = Sealer::new(&[7; 32]);
        let sealed = sealer.seal(&key("a"), &Cached::success("secret"), LIFE).unwrap();
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert_eq!(sealer.open(&key("a"), &changed), None, "byte {place}");
            assert_eq!(sealer.open(&key("a"), &sealed[..place]), None, "first {place} bytes");
        }
    }

    #[test]
    fn the_same_entry_never_looks_the_same() {
        let sealer = Sealer::new(&[7; 32]);
        let seal = || sealer.seal(&key("a"), &Cached::success("secret"), LIFE).unwrap();
        assert_ne!(seal(), seal());
    }
}
