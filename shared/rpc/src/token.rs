//! The caller token: how one process tells another who calls. Minted by the edge and by services,
//! verified by every service; a client's own header of this name never gets past the edge.

use std::{fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use types::Caller;

/// Metadata key that carries the token.
pub const CALLER_HEADER: &str = "x-toolcrib-caller";

/// How long a token is valid: long enough for clocks that differ, short enough to be useless when logged.
const LIFETIME: Duration = Duration::from_mins(1);

/// A key for one purpose, derived from a secret that every process of the suite shares: HMAC-SHA-256 of the purpose
/// under the secret, which is the expand step of HKDF for one block (RFC 5869, section 2.3).
pub fn derive_key(secret: &SecretString, purpose: &str) -> [u8; 32] {
    // HMAC takes keys of any length.
    let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()) else { return [0; 32] };
    mac.chain_update(purpose).chain_update([1]).finalize().into_bytes().into()
}

#[derive(Serialize, Deserialize)]
struct Claims {
    #[serde(flatten)]
    caller: Caller,
    /// Seconds since the epoch (RFC 7519, section 4.1.4).
    exp: u64,
}

/// The key that every process of one suite shares to sign and verify caller tokens (HS256, RFC 7518).
#[derive(Clone)]
pub struct TokenKey {
    keys: Arc<(EncodingKey, DecodingKey)>,
    validation: Arc<Validation>,
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    /// A key from a configured secret; `config check` demands at least 32 bytes.
    pub fn new(secret: &SecretString) -> Self {
        let bytes = secret.expose_secret().as_bytes();
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 5;
        Self {
            keys: Arc::new((EncodingKey::from_secret(bytes), DecodingKey::from_secret(bytes))),
            validation: Arc::new(validation),
        }
    }

    /// A token for this caller, valid for one minute.
    pub fn mint(&self, caller: &Caller) -> Result<String, jsonwebtoken::errors::Error> {
        let exp = jsonwebtoken::get_current_timestamp() + LIFETIME.as_secs();
        jsonwebtoken::encode(
            &Header::new(Algorithm::HS256),
            &Claims { caller: caller.clone(), exp },
            &self.keys.0,
        )
    }

    /// The caller of a token, if it was signed with this key and has not expired.
    pub fn verify(&self, token: &str) -> Option<Caller> {
        jsonwebtoken::decode::<Claims>(token, &self.keys.1, &self.validation)
            .ok()
            .map(|data| data.claims.caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_own_key_only() {
        let key = TokenKey::new(&SecretString::from("a".repeat(32)));
        let caller = Caller { team: "dev".into(), ..Caller::service("edge") };
        let token = key.mint(&caller).unwrap();
        assert_eq!(key.verify(&token), Some(caller));
        assert_eq!(TokenKey::new(&SecretString::from("b".repeat(32))).verify(&token), None);
        let (head, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(key.verify(&format!("{head}x.{signature}")), None);
    }

    #[test]
    fn an_expired_token_is_refused() {
        let key = TokenKey::new(&SecretString::from("a".repeat(32)));
        let claims =
            Claims { caller: Caller::service("edge"), exp: jsonwebtoken::get_current_timestamp() - 60 };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key.keys.0).unwrap();
        assert_eq!(key.verify(&token), None);
    }

    #[test]
    fn a_key_belongs_to_its_secret_and_purpose() {
        let (one, other) = (SecretString::from("a".repeat(32)), SecretString::from("b".repeat(32)));
        assert_eq!(derive_key(&one, "queue"), derive_key(&one, "queue"));
        assert_ne!(derive_key(&one, "queue"), derive_key(&one, "cache"));
        assert_ne!(derive_key(&one, "queue"), derive_key(&other, "queue"));
    }
}
