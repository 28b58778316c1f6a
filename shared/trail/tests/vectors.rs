//! Vectors of others: the proofs of the transparency-dev project's tests where they are at hand, and, always, the tree
//! of RFC 6962's reference implementation.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::Deserialize;
use trail::{Hash, Tiles, leaf_hash, verify_consistency, verify_inclusion};

/// Beside the checkout, as its README tells: 98 proofs of each kind, good and bad.
const PROOFS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/rfc6962/proofs.json");

#[derive(Deserialize)]
struct Proofs {
    inclusion: Vec<Inclusion>,
    consistency: Vec<Consistency>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
    case: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
    case: String,
}

/// Some roots and hashes of the bad cases are too short to be one: then nothing can be proven of them, or they are
/// equal, which is all that counts of these.
fn hash(text: &str) -> Hash {
    let mut bytes = BASE64.decode(text).unwrap();
    bytes.resize(32, 0);
    Hash(bytes.try_into().unwrap())
}

fn hashes(texts: Option<Vec<String>>) -> Vec<Hash> {
    texts.unwrap_or_default().iter().map(|text| hash(text)).collect()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "CI is set by whoever runs the tests")]
fn all_proofs_of_the_transparency_dev_project_are_judged_right() {
    if !Path::new(PROOFS).exists() {
        let advice = "the proofs of transparency-dev are not at hand; the project's own vectors are tried all the same";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{advice}");
        eprintln!("skipped: {advice}");
        return;
    }
    let proofs: Proofs = serde_json::from_slice(&std::fs::read(PROOFS).unwrap()).unwrap();
    assert_eq!((proofs.inclusion.len(), proofs.consistency.len()), (98, 98));
    for each in proofs.inclusion {
        let (proof, leaf, root) = (hashes(each.proof), hash(&each.leaf_hash), hash(&each.root));
        // What is too short to be a hash gets no further than this crate's types.
        let are_hashes =
            [&each.leaf_hash, &each.root].iter().all(|text| BASE64.decode(text).unwrap().len() == 32);
        let judged = verify_inclusion(&leaf, each.leaf_idx, each.tree_size, &proof, &root);
        assert_eq!(judged.is_err() || !are_hashes, each.want_err, "inclusion {}: {judged:?}", each.case);
    }
    for each in proofs.consistency {
        let (proof, first, second) = (hashes(each.proof), hash(&each.root1), hash(&each.root2));
        let judged = verify_consistency(each.size1, each.size2, &first, &second, &proof);
        assert_eq!(judged.is_err(), each.want_err, "consistency {}: {judged:?}", each.case);
    }
}

/// Leaves and roots of Certificate Transparency's reference implementation (`merkle_tree_test.cc`), in hex.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
const ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

#[test]
fn the_tree_of_the_reference_implementation_has_its_roots_and_proofs() {
    let leaves = LEAVES.map(|leaf| leaf_hash(&hex::decode(leaf).unwrap()));
    let mut tiles = Tiles::new();
    for (size, (leaf, root)) in leaves.iter().zip(ROOTS).enumerate() {
        let appended = trail::append(&mut tiles, size as u64, &[*leaf]).unwrap();
        assert_eq!(appended.root.to_string(), root);
    }
    let path = |index, size| trail::inclusion(&tiles, index, size).unwrap();
    let expected = [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ];
    assert_eq!(path(0, 8).iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    let expected = [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(path(5, 8).iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    let proof = trail::consistency(&tiles, 6, 8).unwrap();
    let expected = [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ];
    assert_eq!(proof.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
}
