//! A checkpoint (C2SP tlog-checkpoint): which tree it is, its size and its root, as the text of a signed note.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};

use crate::{
    Hash,
    note::{self, NoteError, SigningKey, VerifierKey},
};

/// What was signed of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which tree: `{audit.origin}/{team}`.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root.
    pub root: Hash,
}

impl Checkpoint {
    /// The text of the note.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root.0))
    }

    /// The signed note.
    pub fn sign(&self, key: &SigningKey) -> String {
        note::sign(&self.text(), key)
    }

    /// Reads the text of a note; lines after the third are extensions, which are passed over.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let read = || {
            let mut lines = text.strip_suffix('\n')?.split('\n');
            let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
            let number: u64 = size.parse().ok()?;
            let root = Hash::try_from(BASE64.decode(root).ok()?.as_slice()).ok()?;
            // `+7` and `007` would be other bytes for the same tree.
            (number.to_string() == size && !origin.is_empty()).then(|| Self {
                origin: origin.into(),
                size: number,
                root,
            })
        };
        read().ok_or(NoteError::Malformed("it holds no checkpoint: three lines with origin, size and root"))
    }

    /// Reads a signed note and checks its signature by one of these keys.
    pub fn open(note: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        Self::parse(note::open(note, keys)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_and_none_is_written_in_two_ways() {
        let checkpoint = Checkpoint { origin: "toolcrib/dev".into(), size: 20_852_163, root: Hash([9; 32]) };
        let text = checkpoint.text();
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::parse(&format!("{text}an extension\n")), Ok(checkpoint.clone()));
        let key = SigningKey::generate("toolcrib").unwrap();
        assert_eq!(Checkpoint::open(&checkpoint.sign(&key), &[key.verifier()]), Ok(checkpoint));
        for fault in [
            text.replace("\n20", "\n020"),
            text.replace("\n20", "\n+20"),
            text.replace("\n20", "\n-20"),
            text.replace("toolcrib/dev", ""),
            text.replace("CQk=", "CQ=="),
            text.trim_end().to_owned(),
            "toolcrib/dev\n".to_owned(),
        ] {
            assert!(Checkpoint::parse(&fault).is_err(), "{fault:?}");
        }
    }
}
