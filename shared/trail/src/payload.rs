//! The payload of a record: the part that may hold personal data and can be erased. The header has a commitment of it
//! under a random salt that is kept and destroyed with it, so that even a short text cannot be guessed afterwards.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::{
    canonical::{self, is_empty},
    header::LeafError,
};

/// Length of a salt in bytes: as much as the HMAC's own key (RFC 2104, 3).
pub const SALT_BYTES: usize = 32;

/// What may be erased. Empty texts are left out of its bytes. The fields stand in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payload {
    /// SHA-256 in hex of the arguments as they were sent.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub arguments_digest: String,
    /// Arguments as JSON text, sanitised.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub arguments_json: String,
    /// For people; sanitised.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub message: String,
    /// SHA-256 in hex of the result as the tool gave it.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub result_digest: String,
    /// What the result was like as JSON text, sanitised and cut.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub result_summary_json: String,
    /// End user for whom the agent asked.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub user: String,
}

impl Payload {
    /// The canonical bytes, which are sealed and committed to.
    pub fn bytes(&self) -> Vec<u8> {
        canonical::bytes(self)
    }

    /// Reads them; they must be the canonical ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, LeafError> {
        let payload: Self =
            serde_json::from_slice(bytes).map_err(|error| LeafError::Malformed(error.to_string()))?;
        if payload.bytes() == bytes { Ok(payload) } else { Err(LeafError::NotCanonical) }
    }
}

/// HMAC-SHA-256 of a payload's bytes under its salt.
pub fn commitment(salt: &[u8; SALT_BYTES], payload: &[u8]) -> [u8; 32] {
    mac(salt, payload).finalize().into_bytes().into()
}

/// Whether a payload is the one that was committed to.
pub fn is_committed(salt: &[u8; SALT_BYTES], payload: &[u8], commitment: &[u8]) -> bool {
    mac(salt, payload).verify_slice(commitment).is_ok()
}

fn mac(salt: &[u8; SALT_BYTES], payload: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(salt).expect("HMAC takes keys of any length").chain_update(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_canonical_and_comes_back() {
        let payload = Payload {
            user: "ada".into(),
            message: "said \"no\"\n\u{1f}".into(),
            arguments_json: r#"{"a":1}"#.into(),
            ..Payload::default()
        };
        let bytes = payload.bytes();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(serde_json_canonicalizer::to_vec(&value).unwrap(), bytes);
        assert_eq!(Payload::parse(&bytes).unwrap(), payload);
        assert_eq!(Payload::default().bytes(), b"{}");
        assert_eq!(Payload::parse(b"{ }"), Err(LeafError::NotCanonical));
        assert!(Payload::parse(br#"{"name":"x"}"#).is_err());
    }

    /// RFC 4231, test case 2 has another key length; this one was computed by Python's `hmac`.
    #[test]
    fn the_commitment_is_an_hmac_and_binds_salt_and_payload() {
        let salt = [7; SALT_BYTES];
        let known = commitment(&salt, b"{}");
        assert_eq!(hex::encode(known), "7204813b88da3469d9b37525eab7411cea611dd13401dd13e609fb07d86ac348");
        assert!(is_committed(&salt, b"{}", &known));
        assert!(!is_committed(&[8; SALT_BYTES], b"{}", &known));
        assert!(!is_committed(&salt, b"{ }", &known));
        assert!(!is_committed(&salt, b"{}", &known[..31]));
    }
}
