//! Seals what may not be read in the database: XChaCha20-Poly1305 under a data key of each version's own, which is
//! itself sealed under a wrapping key. Must never open for another team, credential, version, kind or purpose what
//! was sealed for one, and never fail by panicking.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

use super::secret::Kind;

/// Bytes of the nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), long enough to be drawn at random.
const NONCE_BYTES: usize = 24;
/// Opens the authenticated data; another layout takes another label.
const LABEL: &[u8] = b"toolcrib credential 1";

/// A key of 256 bits, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) struct Key(Zeroizing<[u8; 32]>);

/// What sealed bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose<'a> {
    /// A data key, under the wrapping key of this id.
    DataKey(&'a str),
    /// The secret.
    Secret,
    /// A token fetched with it.
    Token,
}

/// The version that sealed bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner<'a> {
    pub team: &'a str,
    pub name: &'a str,
    pub version: i32,
    pub kind: Kind,
}

impl<'a> Owner<'a> {
    /// What belongs to a credential as a whole, of whatever kind it comes to be: no version is 0.
    pub(crate) fn whole(team: &'a str, name: &'a str) -> Self {
        Self { team, name, version: 0, kind: Kind::ApiKey }
    }
}

impl Key {
    /// From 256 bits that are as good as random.
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one, from the generator that the system seeds.
    pub(crate) fn random() -> Self {
        Self::new(rand::random())
    }

    /// Nonce and ciphertext. `None` where the cipher refuses the length.
    pub(crate) fn seal(&self, owner: Owner, purpose: Purpose, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = authenticated(owner, purpose);
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: &aad }).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed for this owner and purpose; `None` where it was not, or under another key.
    pub(crate) fn open(&self, owner: Owner, purpose: Purpose, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let aad = authenticated(owner, purpose);
        let plain = self.cipher().decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &aad }).ok()?;
        Some(Zeroizing::new(plain))
    }

    /// This key, sealed under a wrapping key.
    pub(crate) fn wrap(&self, owner: Owner, key_id: &str, wrapping: &Self) -> Option<Vec<u8>> {
        wrapping.seal(owner, Purpose::DataKey(key_id), &*self.0)
    }

    /// The data key that was sealed under this wrapping key.
    pub(crate) fn unwrap(&self, owner: Owner, key_id: &str, wrapped: &[u8]) -> Option<Self> {
        let plain = self.open(owner, Purpose::DataKey(key_id), wrapped)?;
        Some(Self::new(plain.as_slice().try_into().ok()?))
    }

    /// HMAC-SHA-256 (RFC 2104) of something secret: tells whether another one is the same, and nothing else.
    pub(crate) fn digest(&self, plain: &[u8]) -> Vec<u8> {
        // RFC 2104, section 2: a key shorter than a block is filled with zeros.
        let mut block = Zeroizing::new([0; 64]);
        block[..self.0.len()].copy_from_slice(&*self.0);
        let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new((&*block).into());
        mac.update(plain);
        mac.finalize().into_bytes().to_vec()
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

/// Every part with its length before it, so that no two lists of parts give the same bytes.
fn authenticated(owner: Owner, purpose: Purpose) -> Vec<u8> {
    let (word, key_id) = match purpose {
        Purpose::DataKey(id) => ("key", id),
        Purpose::Secret => ("secret", ""),
        Purpose::Token => ("token", ""),
    };
    let version = owner.version.to_be_bytes();
    let parts: [&[u8]; 7] = [
        LABEL,
        owner.team.as_bytes(),
        owner.name.as_bytes(),
        &version,
        owner.kind.as_str().as_bytes(),
        word.as_bytes(),
        key_id.as_bytes(),
    ];
    parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner<'static> = Owner { team: "team", name: "name", version: 3, kind: Kind::ApiKey };

    #[test]
    fn it_opens_for_its_owner_and_purpose_with_its_key_only() {
        let key = Key::new([7; 32]);
        let sealed = key.seal(OWNER, Purpose::Secret, b"hunter2").unwrap();
        assert_eq!(**key.open(OWNER, Purpose::Secret, &sealed).unwrap(), b"hunter2"[..]);
        for (what, owner) in [
            ("team", Owner { team: "team2", ..OWNER }),
            ("name", Owner { name: "nam", ..OWNER }),
            ("version", Owner { version: 4, ..OWNER }),
            ("kind", Owner { kind: Kind::Basic, ..OWNER }),
            ("border", Owner { team: "teamn", name: "ame", ..OWNER }),
        ] {
            assert!(key.open(owner, Purpose::Secret, &sealed).is_none(), "another {what}");
        }
        assert!(key.open(OWNER, Purpose::Token, &sealed).is_none(), "another purpose");
        assert!(Key::new([8; 32]).open(OWNER, Purpose::Secret, &sealed).is_none(), "another key");
    }

    #[test]
    fn it_shows_nothing_is_never_the_same_and_every_changed_or_missing_byte_is_noticed() {
        let key = Key::new([7; 32]);
        let sealed = key.seal(OWNER, Purpose::Secret, b"hunter2").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_ne!(sealed, key.seal(OWNER, Purpose::Secret, b"hunter2").unwrap());
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[place] ^= 1 << bit;
                assert!(key.open(OWNER, Purpose::Secret, &changed).is_none(), "byte {place}");
            }
            assert!(key.open(OWNER, Purpose::Secret, &sealed[..place]).is_none(), "first {place} bytes");
        }
    }

    /// RFC 4231, section 4.2 and its padding: the key of 20 bytes is the one of 32 that zeros fill.
    #[test]
    fn a_digest_is_that_of_the_standard() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        let expected = "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(hex::encode(Key::new(key).digest(b"Hi There")), expected);
    }

    #[test]
    fn a_data_key_is_unwrapped_by_the_key_and_id_that_wrapped_it() {
        let (data, wrapping) = (Key::random(), Key::random());
        let wrapped = data.wrap(OWNER, "k1", &wrapping).unwrap();
        assert!(wrapping.unwrap(OWNER, "k1", &wrapped).unwrap() == data);
        assert!(wrapping.unwrap(OWNER, "k2", &wrapped).is_none(), "another id");
        assert!(wrapping.unwrap(Owner { version: 4, ..OWNER }, "k1", &wrapped).is_none(), "another version");
        assert!(data.unwrap(OWNER, "k1", &wrapped).is_none(), "another key");
        let short = wrapping.seal(OWNER, Purpose::DataKey("k1"), &[1; 31]).unwrap();
        assert!(wrapping.unwrap(OWNER, "k1", &short).is_none(), "31 bytes are no key");
    }
}
