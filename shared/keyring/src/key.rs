//! Seals what may not be read in the database: XChaCha20-Poly1305, with a nonce drawn at random. Must never open
//! under another binding what was sealed under one, and never fail by panicking.

use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use secrecy::zeroize::Zeroizing;
use sha2::Sha256;

/// Bytes of the nonce of XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03), long enough to be drawn at random.
const NONCE_BYTES: usize = 24;

/// A key of 256 bits, wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
#[allow(missing_debug_implementations, reason = "is secret")]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// From 256 bits that are as good as random.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new one, from the generator that the system seeds.
    pub fn random() -> Self {
        Self::new(rand::random())
    }

    /// Nonce and ciphertext, to be opened with the same binding only. `None` where the cipher refuses the length.
    pub fn seal(&self, binding: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: plain, aad: binding };
        let sealed = self.cipher().encrypt(&XNonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed with this binding; `None` where it was not, or under another key.
    pub fn open(&self, binding: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: binding };
        self.cipher().decrypt(&XNonce::from(*nonce), payload).ok().map(Zeroizing::new)
    }

    /// This key, sealed under a wrapping key.
    pub fn wrap(&self, binding: &[u8], wrapping: &Self) -> Option<Vec<u8>> {
        wrapping.seal(binding, &*self.0)
    }

    /// The key that was sealed under this wrapping key.
    pub fn unwrap(&self, binding: &[u8], wrapped: &[u8]) -> Option<Self> {
        let plain = self.open(binding, wrapped)?;
        Some(Self::new(plain.as_slice().try_into().ok()?))
    }

    /// HMAC-SHA-256 (RFC 2104) of something secret: tells whether another one is the same, and nothing else.
    pub fn digest(&self, plain: &[u8]) -> Vec<u8> {
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

/// What sealed bytes are bound to: every part with its length before it, so that no two lists of parts give the
/// same bytes.
pub fn bound(parts: &[&[u8]]) -> Vec<u8> {
    parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_with_its_binding_and_key_only() {
        let key = Key::new([7; 32]);
        let binding = bound(&[b"team", b"name"]);
        let sealed = key.seal(&binding, b"hunter2").unwrap();
        assert_eq!(**key.open(&binding, &sealed).unwrap(), b"hunter2"[..]);
        assert!(key.open(&bound(&[b"teamn", b"ame"]), &sealed).is_none(), "another border");
        assert!(key.open(&bound(&[b"team"]), &sealed).is_none(), "another binding");
        assert!(Key::new([8; 32]).open(&binding, &sealed).is_none(), "another key");
    }

    #[test]
    fn it_shows_nothing_is_never_the_same_and_every_changed_or_missing_byte_is_noticed() {
        let key = Key::new([7; 32]);
        let sealed = key.seal(b"b", b"hunter2").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("hunter2"));
        assert_ne!(sealed, key.seal(b"b", b"hunter2").unwrap());
        for place in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[place] ^= 1 << bit;
                assert!(key.open(b"b", &changed).is_none(), "byte {place}");
            }
            assert!(key.open(b"b", &sealed[..place]).is_none(), "first {place} bytes");
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
    fn a_key_is_unwrapped_by_the_key_that_wrapped_it() {
        let (data, wrapping) = (Key::random(), Key::random());
        let wrapped = data.wrap(b"k1", &wrapping).unwrap();
        assert!(wrapping.unwrap(b"k1", &wrapped).unwrap() == data);
        assert!(wrapping.unwrap(b"k2", &wrapped).is_none(), "another binding");
        assert!(data.unwrap(b"k1", &wrapped).is_none(), "another key");
        let short = wrapping.seal(b"k1", &[1; 31]).unwrap();
        assert!(wrapping.unwrap(b"k1", &short).is_none(), "31 bytes are no key");
    }
}
