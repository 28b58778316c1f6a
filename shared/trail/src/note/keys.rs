//! The keys of signed notes: `name+hash+base64` and `PRIVATE+KEY+name+hash+base64`.

use std::{fmt, path::Path};

use aws_lc_rs::{
    rand,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use sha2::{Digest as _, Sha256};

/// How signed notes name Ed25519 (C2SP signed-note).
const ED25519_TYPE: u8 = 1;
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key cannot be used. Never repeats it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Not of the form.
    #[error("{0}")]
    Malformed(&'static str),
    /// The file could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
}

/// A key that signs. Must be kept secret.
pub struct SigningKey {
    name: String,
    hash: [u8; 4],
    seed: [u8; 32],
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// A new one. Names have no spaces and no `+`; usual is a URL without its scheme.
    pub fn generate(name: &str) -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        rand::fill(&mut seed).map_err(|_| KeyError::Malformed("the system has no randomness"))?;
        Self::new(name, seed)
    }

    /// Reads a file with one line `PRIVATE+KEY+name+hash+base64`.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        Self::parse(std::fs::read_to_string(path)?.trim_end())
    }

    /// Reads `PRIVATE+KEY+name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let rest = text.strip_prefix(PRIVATE).ok_or(KeyError::Malformed(
            "is no signing key: expected is one line PRIVATE+KEY+name+hash+base64, as `toolcrib audit keygen` prints",
        ))?;
        let (name, hash, seed) = parts(rest)?;
        let key = Self::new(name, seed)?;
        if key.hash == hash { Ok(key) } else { Err(KeyError::Malformed("has a hash that is not its own")) }
    }

    fn new(name: &str, seed: [u8; 32]) -> Result<Self, KeyError> {
        if !is_name(name) {
            return Err(KeyError::Malformed("has a name that is empty or holds a space or a +"));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| KeyError::Malformed("is no key of Ed25519"))?;
        let public = public(&pair);
        Ok(Self { name: name.into(), hash: hash(name, &public), seed, pair })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first bytes of its public half's digest, which tell keys of one name apart.
    pub const fn hash(&self) -> [u8; 4] {
        self.hash
    }

    /// The key that verifies what this one signs.
    pub fn verifier(&self) -> VerifierKey {
        VerifierKey { name: self.name.clone(), hash: self.hash, public: public(&self.pair) }
    }

    /// The same as text: `name+hash+base64`.
    pub fn verifier_key(&self) -> String {
        self.verifier().to_string()
    }

    /// The line of a key file. Secret.
    pub fn private_key(&self) -> String {
        format!("{PRIVATE}{}", written(&self.name, self.hash, &self.seed))
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A key that verifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    hash: [u8; 4],
    public: [u8; 32],
}

impl VerifierKey {
    /// Reads `name+hash+base64`.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.starts_with(PRIVATE) {
            return Err(KeyError::Malformed("is a private key where a verifier key is expected"));
        }
        let (name, stated, public) = parts(text)?;
        if hash(name, &public) != stated {
            return Err(KeyError::Malformed("has a hash that is not its own"));
        }
        Ok(Self { name: name.into(), hash: stated, public })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first bytes of its digest.
    pub const fn hash(&self) -> [u8; 4] {
        self.hash
    }

    /// `name+hash`, for people.
    pub fn id(&self) -> String {
        format!("{}+{}", self.name, hex::encode(self.hash))
    }

    pub(super) fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.public).verify(text, signature).is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(&self.name, self.hash, &self.public))
    }
}

/// Whether a name may stand in a note.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|each| each.is_whitespace() || each.is_control() || each == '+')
}

fn public(pair: &Ed25519KeyPair) -> [u8; 32] {
    pair.public_key().as_ref().try_into().expect("a public key of Ed25519 has 32 bytes")
}

/// `SHA-256(name || "\n" || type || key)[:4]`.
fn hash(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let digest: [u8; 32] = Sha256::new()
        .chain_update(name)
        .chain_update([b'\n', ED25519_TYPE])
        .chain_update(public)
        .finalize()
        .into();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn written(name: &str, hash: [u8; 4], key: &[u8; 32]) -> String {
    let mut typed = vec![ED25519_TYPE];
    typed.extend_from_slice(key);
    format!("{name}+{}+{}", hex::encode(hash), BASE64.encode(typed))
}

fn parts(text: &str) -> Result<(&str, [u8; 4], [u8; 32]), KeyError> {
    let read = || {
        let (name, rest) = text.split_once('+')?;
        let (hash, key) = rest.split_once('+')?;
        let hash = (hash.len() == 8).then(|| hex::decode(hash).ok()).flatten()?;
        let key = BASE64.decode(key).ok()?;
        let (kind, key) = key.split_first()?;
        let key = (*kind == ED25519_TYPE).then(|| key.try_into().ok()).flatten()?;
        is_name(name).then_some((name, hash.try_into().ok()?, key))
    };
    read().ok_or(KeyError::Malformed("is no Ed25519 key of the form name+hash+base64"))
}
