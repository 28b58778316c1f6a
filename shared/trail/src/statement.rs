//! A proof as a file of its own: that one record stands in a tree, or that a tree has grown from an earlier one by
//! appending alone. One line of canonical JSON, with the signed checkpoints, so that it is checked offline.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Checkpoint, Hash, Header, canonical, leaf_hash,
    note::{self, VerifierKey},
    verify_consistency, verify_inclusion,
};

/// What a file that proves a record calls its format.
pub const INCLUSION: &str = "toolcrib-proof/1";
/// What a file that proves growth calls its format.
pub const CONSISTENCY: &str = "toolcrib-consistency/1";

/// What a file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it is about.
    pub proven: Proven,
    /// The tree.
    pub checkpoint: Checkpoint,
    /// The key that signed, as `name+hash`.
    pub signed_by: String,
    /// Whether that key was given by whoever asks, not by the file alone.
    pub key_known: bool,
}

/// What a proof is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// A record stands in the tree.
    Record {
        /// At this index.
        index: u64,
        /// Its hash.
        leaf_hash: Hash,
        /// Its header; `None`: its retention has ended, and only the hash is left.
        header: Option<Box<Header>>,
    },
    /// The tree begins with this one.
    Growth {
        /// The earlier tree.
        first: Checkpoint,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inclusion<'a> {
    checkpoint: String,
    format: String,
    hashes: String,
    index: u64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    leaf: Option<&'a RawValue>,
    /// In hex; of a record whose leaf is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leaf_hash: Option<String>,
    verifier_key: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Consistency {
    checkpoint: String,
    first_checkpoint: String,
    format: String,
    hashes: String,
    verifier_key: String,
}

/// The file that proves a record, by its leaf or, where that is gone, by the leaf's hash.
pub fn inclusion_file(
    checkpoint: &str,
    verifier_key: &str,
    index: u64,
    leaf: Result<&[u8], Hash>,
    hashes: &[Hash],
) -> Result<Vec<u8>, String> {
    let leaf_hash = leaf.err().map(|hash| hash.to_string());
    let leaf = leaf.ok().map(serde_json::from_slice::<&RawValue>).transpose();
    let file = Inclusion {
        checkpoint: checkpoint.into(),
        format: INCLUSION.into(),
        hashes: encoded(hashes),
        index,
        leaf: leaf.map_err(|error| format!("the leaf is no JSON: {error}"))?,
        leaf_hash,
        verifier_key: verifier_key.into(),
    };
    Ok(line(&file))
}

/// The file that proves that the tree of a checkpoint has grown from that of an earlier one.
pub fn consistency_file(checkpoint: &str, first: &str, verifier_key: &str, hashes: &[Hash]) -> Vec<u8> {
    line(&Consistency {
        checkpoint: checkpoint.into(),
        first_checkpoint: first.into(),
        format: CONSISTENCY.into(),
        hashes: encoded(hashes),
        verifier_key: verifier_key.into(),
    })
}

/// Whether a file says that it is such a proof.
pub fn is_statement(file: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Format {
        format: String,
    }
    serde_json::from_slice::<Format>(file)
        .is_ok_and(|file| file.format == INCLUSION || file.format == CONSISTENCY)
}

/// Checks a proof by these keys; without any, by the key that the file itself names. What is wrong otherwise.
pub fn verify(file: &[u8], keys: &[VerifierKey]) -> Result<Statement, String> {
    let unread = |error: serde_json::Error| format!("the file cannot be read: {error}");
    if let Ok(proof) = serde_json::from_slice::<Inclusion<'_>>(file)
        && proof.format == INCLUSION
    {
        return proof.verify(keys);
    }
    let proof: Consistency = serde_json::from_slice(file).map_err(unread)?;
    if proof.format != CONSISTENCY {
        return Err(format!(
            "its format is {:?}, and this program reads {INCLUSION} and {CONSISTENCY}",
            proof.format
        ));
    }
    proof.verify(keys)
}

impl Inclusion<'_> {
    fn verify(&self, keys: &[VerifierKey]) -> Result<Statement, String> {
        let signers = Signers::new(&self.verifier_key, keys)?;
        let checkpoint = signers.open(&self.checkpoint)?;
        let (leaf_hash, header) = match (self.leaf, &self.leaf_hash) {
            (Some(leaf), None) => {
                let header = Header::parse(leaf.get().as_bytes())
                    .map_err(|error| format!("the leaf is none: {error}"))?;
                (leaf_hash(leaf.get().as_bytes()), Some(Box::new(header)))
            }
            (None, Some(hash)) => (from_hex(hash).ok_or("the leaf's hash is none")?, None),
            _ => return Err("there must be either a leaf or its hash".into()),
        };
        if header.as_ref().is_some_and(|header| u64::try_from(header.index) != Ok(self.index)) {
            return Err("the leaf says another index than the proof".into());
        }
        let hashes = decoded(&self.hashes)?;
        verify_inclusion(&leaf_hash, self.index, checkpoint.size, &hashes, &checkpoint.root)
            .map_err(|error| format!("the record is not proven to stand in the tree: {error}"))?;
        Ok(signers.state(Proven::Record { index: self.index, leaf_hash, header }, checkpoint))
    }
}

impl Consistency {
    fn verify(&self, keys: &[VerifierKey]) -> Result<Statement, String> {
        let signers = Signers::new(&self.verifier_key, keys)?;
        let checkpoint = signers.open(&self.checkpoint)?;
        // Another key may have signed the earlier one, if whoever asks knows it.
        let first = signers.open_earlier(&self.first_checkpoint)?;
        if first.origin != checkpoint.origin {
            return Err(format!(
                "the checkpoints are of the trails {} and {}",
                first.origin, checkpoint.origin
            ));
        }
        let hashes = decoded(&self.hashes)?;
        verify_consistency(first.size, checkpoint.size, &first.root, &checkpoint.root, &hashes)
            .map_err(|error| format!("the tree is not proven to have grown from the earlier one: {error}"))?;
        Ok(signers.state(Proven::Growth { first }, checkpoint))
    }
}

/// Whose signatures are believed.
struct Signers {
    named: VerifierKey,
    known: Vec<VerifierKey>,
    key_known: bool,
}

impl Signers {
    fn new(named: &str, keys: &[VerifierKey]) -> Result<Self, String> {
        let named = VerifierKey::parse(named).map_err(|error| format!("its verifier_key {error}"))?;
        let known = if keys.is_empty() { vec![named.clone()] } else { keys.to_vec() };
        if !known.contains(&named) {
            return Err(format!("it is signed by {}, which is none of the keys given", named.id()));
        }
        Ok(Self { named, known, key_known: !keys.is_empty() })
    }

    fn open(&self, checkpoint: &str) -> Result<Checkpoint, String> {
        Checkpoint::open(checkpoint, std::slice::from_ref(&self.named))
            .map_err(|error| format!("the checkpoint: {error}"))
    }

    fn open_earlier(&self, checkpoint: &str) -> Result<Checkpoint, String> {
        Checkpoint::open(checkpoint, &self.known).map_err(|error| format!("the earlier checkpoint: {error}"))
    }

    fn state(self, proven: Proven, checkpoint: Checkpoint) -> Statement {
        Statement { proven, checkpoint, signed_by: self.named.id(), key_known: self.key_known }
    }
}

/// What a note says, whoever signed it: for whoever has to ask for what can be checked.
pub fn unchecked_checkpoint(note: &str) -> Option<Checkpoint> {
    Checkpoint::parse(note::text(note)?).ok()
}

fn line(file: &impl Serialize) -> Vec<u8> {
    let mut line = canonical::bytes(file);
    line.push(b'\n');
    line
}

fn encoded(hashes: &[Hash]) -> String {
    BASE64.encode(hashes.iter().flat_map(|hash| hash.0).collect::<Vec<_>>())
}

fn decoded(text: &str) -> Result<Vec<Hash>, String> {
    crate::export::decoded(text).ok_or_else(|| "its hashes are none".into())
}

fn from_hex(text: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| Hash(bytes))
}
