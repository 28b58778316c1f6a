//! Digests over canonical JSON. One function for every digest, so that all of them agree.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// SHA-256, as 64 lower-case hex digits.
pub type Digest = String;

/// SHA-256 over the RFC 8785 (JSON Canonicalization Scheme) form of a value.
///
/// Integers beyond 2^53 share their canonical form with their neighbours (RFC 8785 section 3.2.2.3
/// serialises numbers as IEEE 754 doubles): never use this alone to tell two such values apart.
pub fn digest_json(value: &impl Serialize) -> Result<Digest, serde_json::Error> {
    Ok(digest_bytes(&serde_json_canonicalizer::to_vec(value)?))
}

/// SHA-256 over bytes.
pub fn digest_bytes(bytes: &[u8]) -> Digest {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn digest_ignores_key_order_and_number_spelling() {
        let one: serde_json::Value = serde_json::from_str(r#"{"b":1.0,"a":[1e2]}"#).unwrap();
        assert_eq!(digest_json(&one).unwrap(), digest_json(&json!({"a": [100], "b": 1})).unwrap());
        assert_ne!(digest_json(&one).unwrap(), digest_json(&json!({"a": [101], "b": 1})).unwrap());
    }

    #[test]
    fn digest_is_sha_256_in_hex() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest_bytes(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
