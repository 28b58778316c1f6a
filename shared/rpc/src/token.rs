//! The caller token: how one process tells another who calls. Minted by the edge and by services,
//! verified by every service; a client's own header of this name never gets past the edge.

mod recent;

use std::{fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use types::Caller;

use self::recent::Recent;

/// Metadata key that carries the token.
pub const CALLER_HEADER: &str = "x-toolcrib-caller";

/// How long a token is valid: long enough for clocks that differ, short enough to be useless when logged.
const LIFETIME: Duration = Duration::from_mins(1);
/// How long after its end a token is still taken, in seconds: clocks differ.
const LEEWAY_S: u64 = 5;

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
pub struct TokenKey(Arc<Keys>);

struct Keys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    /// Tokens by their caller and end: minted again within the same second, a token is the same to the byte.
    minted: Recent<(Caller, u64), String>,
    /// Callers and ends by tokens that were verified: one agent's calls bring the same token for a second.
    verified: Recent<String, (Caller, u64)>,
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
        validation.leeway = LEEWAY_S;
        Self(Arc::new(Keys {
            encoding: EncodingKey::from_secret(bytes),
            decoding: DecodingKey::from_secret(bytes),
            validation,
            minted: Recent::new(),
            verified: Recent::new(),
        }))
    }

    /// A token for this caller, valid for one minute.
    pub fn mint(&self, caller: &Caller) -> Result<String, jsonwebtoken::errors::Error> {
        let (minted, exp) = (&self.0.minted, jsonwebtoken::get_current_timestamp() + LIFETIME.as_secs());
        // Every field, so that two callers seldom share a place.
        let Caller { team, agent, specialization, role, key_id, scopes, user, service } = caller;
        let hash = minted.hash((team, agent, specialization, role, key_id, scopes, user, service));
        if let Some(token) = minted.get(hash, |(known, end)| *end == exp && known == caller) {
            return Ok(token);
        }
        let claims = Claims { caller: caller.clone(), exp };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.0.encoding)?;
        minted.put(hash, (claims.caller, exp), token.clone());
        Ok(token)
    }

    /// The caller of a token, if it was signed with this key and has not expired.
    pub fn verify(&self, token: &str) -> Option<Caller> {
        if let Some((caller, exp)) = self.known(token) {
            return is_in_time(exp, jsonwebtoken::get_current_timestamp()).then_some(caller);
        }
        let Claims { caller, exp } =
            jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation).ok()?.claims;
        let verified = &self.0.verified;
        verified.put(verified.hash(token), token.to_owned(), (caller.clone(), exp));
        Some(caller)
    }

    /// The caller and the end of a token that was verified a moment ago.
    fn known(&self, token: &str) -> Option<(Caller, u64)> {
        let verified = &self.0.verified;
        verified.get(verified.hash(token), |known| known == token)
    }
}

/// Whether a token that ends then is taken now: as `jsonwebtoken` sees it (RFC 7519, section 4.1.4).
fn is_in_time(exp: u64, now: u64) -> bool {
    exp >= now - LEEWAY_S
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_by_its_own_key_only() {
        let key = TokenKey::new(&SecretString::from("a".repeat(32)));
        let caller = Caller { team: "dev".into(), ..Caller::service("edge") };
        let token = key.mint(&caller).unwrap();
        for _ in 0..3 {
            assert_eq!(key.verify(&token), Some(caller.clone()));
        }
        assert_eq!(TokenKey::new(&SecretString::from("b".repeat(32))).verify(&token), None);
        let (head, signature) = token.rsplit_once('.').unwrap();
        assert_eq!(key.verify(&format!("{head}x.{signature}")), None);
    }

    #[test]
    fn an_expired_token_is_refused() {
        let key = TokenKey::new(&SecretString::from("a".repeat(32)));
        let claims =
            Claims { caller: Caller::service("edge"), exp: jsonwebtoken::get_current_timestamp() - 60 };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key.0.encoding).unwrap();
        assert_eq!(key.verify(&token), None);
    }

    #[test]
    fn a_token_that_was_taken_before_is_taken_until_its_end_and_no_longer() {
        let key = TokenKey::new(&SecretString::from("a".repeat(32)));
        let token = key.mint(&Caller::service("edge")).unwrap();
        assert_eq!(key.known(&token), None);
        assert_eq!(key.verify(&token), Some(Caller::service("edge")));
        let (caller, exp) = key.known(&token).unwrap();
        assert_eq!(caller, Caller::service("edge"));
        let left = exp - jsonwebtoken::get_current_timestamp();
        assert!((LIFETIME.as_secs() - 3..=LIFETIME.as_secs()).contains(&left), "{left}");
        assert!(
            is_in_time(exp, exp) && is_in_time(exp, exp + LEEWAY_S) && !is_in_time(exp, exp + LEEWAY_S + 1)
        );
        // One that is remembered and has ended.
        let hash = key.0.verified.hash(token.as_str());
        key.0.verified.put(hash, token.clone(), (caller, exp - LIFETIME.as_secs() - 60));
        assert_eq!(key.verify(&token), None);
    }

    #[test]
    fn tokens_of_many_callers_are_never_mixed_up_and_are_those_of_a_key_without_memory() {
        let secret = SecretString::from("a".repeat(32));
        let (key, agents) = (TokenKey::new(&secret), 0..600);
        let caller = |agent: u32| Caller { agent: agent.to_string(), ..Caller::service("edge") };
        for _ in 0..2 {
            for agent in agents.clone() {
                let token = key.mint(&caller(agent)).unwrap();
                assert_eq!(key.verify(&token), Some(caller(agent)));
                let exp = key.known(&token).unwrap().1;
                let claims = Claims { caller: caller(agent), exp };
                let header = Header::new(Algorithm::HS256);
                assert_eq!(token, jsonwebtoken::encode(&header, &claims, &key.0.encoding).unwrap());
            }
        }
        let one = Caller { team: "a".into(), agent: "b".into(), ..Caller::service("edge") };
        let others = [
            Caller { team: "ab".into(), agent: String::new(), ..one.clone() },
            Caller { role: types::Role::Admin, ..one.clone() },
            Caller { key_id: "k".into(), ..one.clone() },
            Caller { service: None, ..one.clone() },
        ];
        for other in others {
            assert_ne!(key.mint(&one).unwrap(), key.mint(&other).unwrap(), "{other:?}");
        }
    }

    #[test]
    fn a_key_belongs_to_its_secret_and_purpose() {
        let (one, other) = (SecretString::from("a".repeat(32)), SecretString::from("b".repeat(32)));
        assert_eq!(derive_key(&one, "queue"), derive_key(&one, "queue"));
        assert_ne!(derive_key(&one, "queue"), derive_key(&one, "cache"));
        assert_ne!(derive_key(&one, "queue"), derive_key(&other, "queue"));
    }
}
