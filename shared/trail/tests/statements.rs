//! Proofs as files: each proves what it says and nothing else, and nothing that was changed in one is believed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use trail::{
    Checkpoint, Hash, Header, Tiles, leaf_hash,
    note::SigningKey,
    statement::{Proven, consistency_file, inclusion_file, is_statement, unchecked_checkpoint, verify},
};

struct Made {
    key: SigningKey,
    leaves: Vec<Vec<u8>>,
    tiles: Tiles,
}

fn made() -> Made {
    let header = |index: i64| Header {
        team_id: "dev".into(),
        index,
        id: format!("019a9e1c-8f3e-7cc0-8000-{index:012x}"),
        action: "tool_invoked".into(),
        result: "success".into(),
        payload_hmac: "00".repeat(32),
        ..Header::default()
    };
    let leaves: Vec<_> = (0..300).map(|index| header(index).leaf()).collect();
    let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut tiles = Tiles::new();
    trail::append(&mut tiles, 0, &hashes).unwrap();
    Made { key: SigningKey::generate("toolcrib").unwrap(), leaves, tiles }
}

impl Made {
    fn checkpoint(&self, size: u64) -> String {
        let root = trail::root(&self.tiles, size).unwrap();
        Checkpoint { origin: "toolcrib/dev".into(), size, root }.sign(&self.key)
    }

    fn inclusion(&self, index: u64, leaf: Result<&[u8], Hash>) -> Vec<u8> {
        let hashes = trail::inclusion(&self.tiles, index, 300).unwrap();
        inclusion_file(&self.checkpoint(300), &self.key.verifier_key(), index, leaf, &hashes).unwrap()
    }

    fn consistency(&self, first: u64) -> Vec<u8> {
        let hashes = trail::consistency(&self.tiles, first, 300).unwrap();
        let key = self.key.verifier_key();
        consistency_file(&self.checkpoint(300), &self.checkpoint(first), &key, &hashes)
    }
}

#[test]
fn a_record_is_proven_by_its_leaf_or_by_what_is_left_of_it() {
    let made = made();
    let leaf = &made.leaves[77];
    let statement = verify(&made.inclusion(77, Ok(leaf)), &[made.key.verifier()]).unwrap();
    let Proven::Record { index: 77, leaf_hash: hash, header: Some(header) } = statement.proven else {
        panic!()
    };
    assert_eq!((header.index, hash, statement.key_known), (77, leaf_hash(leaf), true));
    assert_eq!((statement.checkpoint.size, statement.signed_by), (300, made.key.verifier().id()));
    let ended = verify(&made.inclusion(77, Err(hash)), &[]).unwrap();
    assert!(matches!(ended.proven, Proven::Record { header: None, .. }) && !ended.key_known);
    assert!(verify(&made.inclusion(77, Ok(&made.leaves[78])), &[]).is_err(), "another leaf");
    assert!(verify(&made.inclusion(77, Err(Hash([1; 32]))), &[]).is_err(), "another hash");
    let other = SigningKey::generate("toolcrib").unwrap();
    assert!(verify(&made.inclusion(77, Ok(leaf)), &[other.verifier()]).is_err(), "another key");
}

#[test]
fn growth_is_proven_from_an_earlier_checkpoint() {
    let made = made();
    for first in [1, 255, 256, 299, 300] {
        let file = made.consistency(first);
        assert!(is_statement(&file));
        let statement = verify(&file, &[made.key.verifier()]).unwrap();
        let Proven::Growth { first: earlier } = statement.proven else { panic!() };
        assert_eq!(earlier.size, first);
        assert_eq!(unchecked_checkpoint(&made.checkpoint(first)), Some(earlier));
    }
    assert!(!is_statement(b"{\"format\":\"toolcrib-trail/1\"}") && !is_statement(b"x"));
}

#[test]
fn no_changed_byte_of_a_file_is_believed() {
    let made = made();
    for file in [made.inclusion(200, Ok(&made.leaves[200])), made.consistency(200)] {
        for at in (0..file.len()).step_by(5) {
            let mut changed = file.clone();
            changed[at] ^= 1 << (at % 7);
            if let Ok(statement) = verify(&changed, &[made.key.verifier()]) {
                panic!("byte {at}: {} gives {statement:?}", String::from_utf8_lossy(&changed));
            }
        }
    }
}
