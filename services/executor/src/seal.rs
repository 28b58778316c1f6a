//! What a queued call needs to run, as bytes that only holders of the key can read or make: its arguments may hold
//! secrets. Must never open for another execution what was sealed for one, and never fail by panicking.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload as Message},
};
use serde::{Deserialize, Serialize};
use types::Caller;
use uuid::Uuid;

use crate::invoke::Options;

/// Bytes of the nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), long enough to be drawn at random.
const NONCE_BYTES: usize = 24;
/// Opens the authenticated data; another layout of the plain bytes takes another label.
const LABEL: &[u8] = b"toolcrib queued call 1\0";

/// Seals queued calls; every process on one database must have the same.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "holds a key")]
pub struct SealKey(XChaCha20Poly1305);

/// A call that waits: what the record of it does not hold. No `Debug`, so that no log line ever has it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Payload {
    pub caller: Caller,
    /// Id of the version that was accepted.
    pub tool_id: String,
    /// As they were sent.
    pub arguments_json: String,
    pub options: Options,
    /// As it was asked for, in milliseconds; 0: the tool's own.
    pub timeout_ms: i64,
    /// The span that accepted it, in the form of W3C Trace Context.
    #[serde(default)]
    pub traceparent: String,
    /// Why the call is needed, in the caller's words.
    #[serde(default)]
    pub justification: String,
}

impl SealKey {
    /// From 256 bits that are as good as random.
    #[must_use]
    pub fn new(key: [u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    /// Nonce and ciphertext, for one execution of one team. `None` where the cipher refuses the length.
    pub(crate) fn seal(&self, team: &str, execution: Uuid, payload: &Payload) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let (msg, aad) = (serde_json::to_vec(payload).ok()?, authenticated(team, execution));
        let sealed = self.0.encrypt(&XNonce::from(nonce), Message { msg: &msg, aad: &aad }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed for this execution; `None` where it was not, or under another key.
    pub(crate) fn open(&self, team: &str, execution: Uuid, sealed: &[u8]) -> Option<Payload> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = authenticated(team, execution);
        let plain = self.0.decrypt(&XNonce::from(*nonce), Message { msg: sealed, aad: &aad }).ok()?;
        serde_json::from_slice(&plain).ok()
    }
}

/// Bytes in `PostgreSQL`'s hex form.
pub(crate) fn hex(bytes: &[u8]) -> String {
    // In place: `hex::encode` makes its text digit by digit, and is ten times slower.
    let mut text = vec![0; 2 + 2 * bytes.len()];
    text[..2].copy_from_slice(b"\\x");
    hex::encode_to_slice(bytes, &mut text[2..]).expect("two digits a byte");
    String::from_utf8(text).expect("digits are ASCII")
}

/// The id has a fixed length, so that no two pairs give the same bytes.
fn authenticated(team: &str, execution: Uuid) -> Vec<u8> {
    [LABEL, execution.as_bytes(), team.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        Payload {
            caller: Caller { team: "team".into(), agent: "agent".into(), ..Caller::service("x") },
            tool_id: "t".into(),
            arguments_json: r#"{"key":"hunter2"}"#.into(),
            options: Options { max_retries: Some(1), ..Options::default() },
            timeout_ms: 5,
            traceparent: String::new(),
            justification: String::new(),
        }
    }

    #[test]
    fn it_opens_for_its_execution_and_team_with_its_key_only() {
        let (key, id) = (SealKey::new([7; 32]), types::new_id());
        let sealed = key.seal("team", id, &payload()).unwrap();
        assert!(key.open("team", id, &sealed).unwrap() == payload());
        assert!(key.open("team", types::new_id(), &sealed).is_none(), "another execution");
        assert!(key.open("other", id, &sealed).is_none(), "another team");
        assert!(SealKey::new([8; 32]).open("team", id, &sealed).is_none(), "another key");
    }

    #[test]
    fn it_shows_nothing_is_never_the_same_and_every_changed_or_missing_byte_is_noticed() {
        let (key, id) = (SealKey::new([7; 32]), types::new_id());
        let sealed = key.seal("team", id, &payload()).unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_ne!(sealed, key.seal("team", id, &payload()).unwrap());
        for place in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(key.open("team", id, &changed).is_none(), "byte {place}");
            assert!(key.open("team", id, &sealed[..place]).is_none(), "first {place} bytes");
        }
    }

    #[test]
    fn the_hex_form_is_that_of_postgresql() {
        assert_eq!(hex(&[0, 10, 255]), "\\x000aff");
    }
}
