//! The secrets that sign what webhooks are sent: made here, kept sealed, and used here. Must never be shown but by the
//! call that makes one, and never open for another webhook than the one they were sealed for.

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::{SecretString, zeroize::Zeroizing};
use sha2::Sha256;

/// Bytes of a secret: Standard Webhooks asks for 24 to 64.
const SECRET_BYTES: usize = 32;
/// What stands before a secret as text (Standard Webhooks, "Signature scheme").
const PREFIX: &str = "whsec_";
/// Bytes of the nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), long enough to be drawn at random.
const NONCE_BYTES: usize = 24;
/// Opens the authenticated data; another layout of the plain bytes takes another label.
const LABEL: &[u8] = b"toolcrib webhook secret 1\0";

/// Seals secrets; every process on one database must have the same.
#[derive(Clone)]
pub(crate) struct Seal(XChaCha20Poly1305);

/// What signs.
pub(super) struct Secret(Zeroizing<Vec<u8>>);

impl Seal {
    /// From 256 bits that are as good as random.
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self(XChaCha20Poly1305::new(&key.into()))
    }

    /// Nonce and ciphertext, for one webhook of one team. `None` where the cipher refuses the length.
    pub(super) fn seal(&self, team: &str, webhook: &str, secret: &Secret) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = authenticated(team, webhook);
        let sealed = self.0.encrypt(&XNonce::from(nonce), Payload { msg: &secret.0, aad: &aad }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed for this webhook; `None` where it was not, or under another key.
    pub(super) fn open(&self, team: &str, webhook: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = authenticated(team, webhook);
        let plain = self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).ok()?;
        Some(Secret(plain.into()))
    }
}

impl Secret {
    pub(super) fn random() -> Self {
        Self(Zeroizing::new(rand::random::<[u8; SECRET_BYTES]>().to_vec()))
    }

    /// As its owner is shown it.
    pub(super) fn text(&self) -> SecretString {
        format!("{PREFIX}{}", STANDARD.encode(&*self.0)).into()
    }

    /// The value of `webhook-signature` for a message of this id, sent at this time (seconds since 1970).
    pub(super) fn sign(&self, id: &str, sent: i64, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{sent}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// Names hold no zero byte, so that no two pairs give the same bytes.
fn authenticated(team: &str, webhook: &str) -> Vec<u8> {
    [LABEL, team.as_bytes(), b"\0", webhook.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_message_is_signed_as_the_standard_has_it() {
        // The example of the specification's reference libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            Secret(key.into()).sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_opens_for_its_webhook_and_team_with_its_key_only() {
        let (seal, secret) = (Seal::new([7; 32]), Secret::random());
        let sealed = seal.seal("team", "ops", &secret).unwrap();
        assert_eq!(*seal.open("team", "ops", &sealed).unwrap().0, *secret.0);
        assert!(seal.open("team", "other", &sealed).is_none(), "another webhook");
        assert!(seal.open("other", "ops", &sealed).is_none(), "another team");
        assert!(Seal::new([8; 32]).open("team", "ops", &sealed).is_none(), "another key");
        assert!((0..sealed.len()).all(|end| seal.open("team", "ops", &sealed[..end]).is_none()));
        let (text, shown) = (secret.text(), String::from_utf8_lossy(&sealed).into_owned());
        assert!(text.expose_secret().starts_with("whsec_") && text.expose_secret().len() == 50);
        assert!(!shown.contains(&*String::from_utf8_lossy(&secret.0)));
    }
}
