//! The key that signs checkpoints and certificates, and which key has signed what there is. Must never show the key.

use std::sync::Arc;

use trail::{
    Checkpoint, Hash,
    note::{self, NoteError, SigningKey, VerifierKey},
};

use crate::Config;

/// Signs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Signer {
    key: Arc<SigningKey>,
    /// The public half of the key, and of those that signed before it.
    known: Arc<[VerifierKey]>,
    origin: Arc<str>,
}

impl Signer {
    /// The key of `audit.signing_key_file`. The error names the setting and what is wrong with it.
    pub fn read(config: &Config) -> Result<Self, String> {
        let file = &config.signing_key_file;
        if file.as_os_str().is_empty() {
            return Err(
                "audit.signing_key_file is not set; `toolcrib audit keygen` prints a new key".to_owned()
            );
        }
        let key = SigningKey::from_file(file)
            .map_err(|wrong| format!("audit.signing_key_file {}: {wrong}", file.display()))?;
        let former = config.former_verifier_keys.iter().map(|text| VerifierKey::parse(text));
        let former = former
            .collect::<Result<Vec<_>, _>>()
            .map_err(|wrong| format!("audit.former_verifier_keys has a key that {wrong}"))?;
        Ok(Self::of(key, former, &config.origin))
    }

    /// With this key, after those.
    pub(crate) fn of(key: SigningKey, former: Vec<VerifierKey>, origin: &str) -> Self {
        let known = std::iter::once(key.verifier()).chain(former).collect();
        Self { key: Arc::new(key), known, origin: origin.into() }
    }

    /// The signed checkpoint of a team's tree.
    pub(crate) fn checkpoint(&self, team: &str, size: u64, root: Hash) -> String {
        Checkpoint { origin: self.origin(team), size, root }.sign(&self.key)
    }

    /// Reads a checkpoint that this suite has signed, now or under a former key.
    pub(crate) fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        Checkpoint::open(note, &self.known)
    }

    /// Signs a text, which must end in a newline, as a note.
    #[allow(dead_code, reason = "for certificates of erasures")]
    pub(crate) fn note(&self, text: &str) -> String {
        note::sign(text, &self.key)
    }

    /// What a team's tree is called.
    pub(crate) fn origin(&self, team: &str) -> String {
        format!("{}/{team}", self.origin)
    }

    /// The key that verifies what is signed from now on, as `name+hash+base64`.
    pub(crate) fn verifier_key(&self) -> String {
        self.key.verifier_key()
    }
}
