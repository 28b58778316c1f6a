//! Signed notes (C2SP signed-note) with Ed25519: a text that ends its last line, an empty line, and signatures. Keys are
//! written as Go's `sumdb/note` writes them. Never shows a private key.

mod keys;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

pub use keys::{KeyError, SigningKey, VerifierKey};

/// What a line of a signature begins with: an em dash and a space.
const MARK: &str = "\u{2014} ";
/// Longest note that is read, in bytes.
const LONGEST: usize = 1 << 20;
/// Most signatures that are looked at.
const MOST_SIGNATURES: usize = 100;

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not of the form.
    #[error("it is not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature is by a key that was asked for; these were found, as `name+hash`.
    #[error("it is not signed by the key expected, but by {}", if .0.is_empty() { "none".into() } else { .0.join(", ") })]
    OtherKey(Vec<String>),
    /// A signature says that it is by a key asked for, and is not.
    #[error("its signature by {0} is not valid")]
    Signature(String),
}

/// Signs a text, which must end in a newline and hold no control characters but newlines.
pub fn sign(text: &str, key: &SigningKey) -> String {
    debug_assert!(is_text(text));
    let mut signed = key.hash().to_vec();
    signed.extend_from_slice(&key.sign(text.as_bytes()));
    format!("{text}\n{MARK}{} {}\n", key.name(), BASE64.encode(signed))
}

/// The text of a note that at least one of these keys has signed. A signature that claims to be by one of them and is
/// not makes the whole note bad; others are passed over.
pub fn open<'a>(note: &'a str, keys: &[VerifierKey]) -> Result<&'a str, NoteError> {
    let (text, signatures) = split(note)?;
    let (mut good, mut others) = (false, Vec::new());
    for signature in signatures {
        let known = keys.iter().find(|key| key.name() == signature.name && key.hash() == signature.hash);
        match known {
            None => others.push(format!("{}+{}", signature.name, hex::encode(signature.hash))),
            Some(key) if key.verifies(text.as_bytes(), &signature.bytes) => good = true,
            Some(key) => return Err(NoteError::Signature(key.id())),
        }
    }
    if good { Ok(text) } else { Err(NoteError::OtherKey(others)) }
}

/// The text of a note, whoever signed it.
pub(crate) fn text(note: &str) -> Option<&str> {
    split(note).ok().map(|(text, _)| text)
}

struct Signature<'a> {
    name: &'a str,
    hash: [u8; 4],
    bytes: Vec<u8>,
}

fn split(note: &str) -> Result<(&str, Vec<Signature<'_>>), NoteError> {
    if note.len() > LONGEST {
        return Err(NoteError::Malformed("it is longer than a megabyte"));
    }
    // The signatures follow the last empty line: the text may have some of its own.
    let at = note.rfind("\n\n").ok_or(NoteError::Malformed("no empty line divides text and signatures"))?;
    let (text, signatures) = (&note[..=at], &note[at + 2..]);
    if !is_text(text) || !signatures.ends_with('\n') {
        return Err(NoteError::Malformed("text and signatures must be lines without control characters"));
    }
    let lines: Vec<_> = signatures.lines().collect();
    if lines.len() > MOST_SIGNATURES {
        return Err(NoteError::Malformed("it has more than 100 signatures"));
    }
    let read = lines.into_iter().map(signature).collect::<Option<Vec<_>>>();
    Ok((text, read.ok_or(NoteError::Malformed("a line of a signature cannot be read"))?))
}

fn signature(line: &str) -> Option<Signature<'_>> {
    let (name, encoded) = line.strip_prefix(MARK)?.split_once(' ')?;
    let bytes = BASE64.decode(encoded).ok()?;
    let (hash, bytes) = bytes.split_first_chunk::<4>()?;
    keys::is_name(name).then(|| Signature { name, hash: *hash, bytes: bytes.to_vec() })
}

fn is_text(text: &str) -> bool {
    text.ends_with('\n') && !text.chars().any(|each| each.is_control() && each != '\n')
}

#[cfg(test)]
mod tests;
