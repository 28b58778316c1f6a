//! Tiles and proofs against RFC 6962, 2.1, written down as naively as the RFC does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rand::{Rng as _, RngExt as _, SeedableRng as _, rngs::StdRng};
use trail::{
    Compact, Hash, ProofError, RangeVerifier, TILE_WIDTH, TileId, Tiles, empty_root, leaf_hash, node_hash,
    verify_consistency, verify_inclusion,
};

/// `MTH(D[n])`.
fn mth(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&mth(left), &mth(right))
        }
    }
}

/// The largest power of two smaller than `n`.
fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

/// `PATH(m, D[n])`.
fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) =
        if m < k { (path(m, left), mth(right)) } else { (path(m - k, right), mth(left)) };
    path.push(sibling);
    path
}

/// `SUBPROOF(m, D[n], b)`.
fn subproof(m: usize, leaves: &[Hash], known: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if known { Vec::new() } else { vec![mth(leaves)] };
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut proof, sibling) = if m <= k {
        (subproof(m, left, known), mth(right))
    } else {
        (subproof(m - k, right, false), mth(left))
    };
    proof.push(sibling);
    proof
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|each| leaf_hash(&each.to_be_bytes())).collect()
}

/// A tree grown in steps of random sizes.
fn grown(leaves: &[Hash], random: &mut StdRng) -> Tiles {
    let (mut tiles, mut size) = (Tiles::new(), 0);
    while size < leaves.len() {
        let step = random.random_range(1..=700).min(leaves.len() - size);
        // What a process that has just begun knows of it.
        let mut known = Tiles::new();
        for id in trail::for_append(size as u64) {
            known.insert(id, tiles.get(id).unwrap().to_vec());
        }
        let appended = trail::append(&mut known, size as u64, &leaves[size..size + step]).unwrap();
        size += step;
        assert_eq!(appended.size, size as u64);
        assert_eq!(appended.root, mth(&leaves[..size]), "root of {size}");
        for id in appended.changed {
            tiles.insert(id, known.get(id).unwrap().to_vec());
        }
    }
    tiles
}

/// Only those tiles.
fn only(tiles: &Tiles, ids: Vec<TileId>) -> Tiles {
    let mut some = Tiles::new();
    for id in ids {
        some.insert(id, tiles.get(id).unwrap_or_else(|| panic!("there is no {id:?}")).to_vec());
    }
    some
}

#[test]
fn roots_and_inclusion_are_those_of_the_rfc_up_to_six_hundred() {
    let all = leaves(600);
    let tiles = grown(&all, &mut StdRng::seed_from_u64(1));
    for size in 0..=all.len() {
        let (count, known) = (size as u64, &all[..size]);
        let root = mth(known);
        assert_eq!(trail::root(&only(&tiles, trail::for_root(count)), count), Ok(root));
        for index in (0..size).step_by(1 + size / 2) {
            let some = only(&tiles, trail::for_inclusion(index as u64, count));
            let proof = trail::inclusion(&some, index as u64, count).unwrap();
            assert_eq!(proof, path(index, known), "{index} of {size}");
            verify_inclusion(&all[index], index as u64, count, &proof, &root).unwrap();
        }
    }
}

#[test]
fn every_consistency_proof_up_to_seventy_is_that_of_the_rfc() {
    let all = leaves(70);
    let tiles = grown(&all, &mut StdRng::seed_from_u64(2));
    for new in 1..=all.len() {
        let new_root = mth(&all[..new]);
        for old in 1..=new {
            let (first, second) = (old as u64, new as u64);
            let some = only(&tiles, trail::for_consistency(first, second));
            let proof = trail::consistency(&some, first, second).unwrap();
            assert_eq!(proof, subproof(old, &all[..new], true), "{old} to {new}");
            verify_consistency(first, second, &mth(&all[..old]), &new_root, &proof).unwrap();
        }
    }
}

#[test]
fn large_trees_are_the_same() {
    let mut random = StdRng::seed_from_u64(3);
    let count = 65_536 + random.random_range(0..3_000);
    let all = leaves(count);
    let tiles = grown_once(&all);
    for _ in 0..3 {
        let size = random.random_range(1..=count);
        let old = random.random_range(1..=size);
        let index = random.random_range(0..size);
        let (n, m, at) = (size as u64, old as u64, index as u64);
        let root = mth(&all[..size]);
        let proof = trail::inclusion(&only(&tiles, trail::for_inclusion(at, n)), at, n).unwrap();
        assert_eq!(proof, path(index, &all[..size]));
        verify_inclusion(&all[index], at, n, &proof, &root).unwrap();
        let proof = trail::consistency(&only(&tiles, trail::for_consistency(m, n)), m, n).unwrap();
        assert_eq!(proof, subproof(old, &all[..size], true));
        verify_consistency(m, n, &mth(&all[..old]), &root, &proof).unwrap();
    }
}

fn grown_once(leaves: &[Hash]) -> Tiles {
    let mut tiles = Tiles::new();
    let appended = trail::append(&mut tiles, 0, leaves).unwrap();
    assert_eq!(appended.root, mth(leaves));
    tiles
}

#[test]
fn a_range_is_proven_whole_and_no_leaf_of_it_can_be_changed_left_out_or_added() {
    let all = leaves(1_300);
    let tiles = grown_once(&all);
    let mut random = StdRng::seed_from_u64(4);
    for _ in 0..60 {
        let size = random.random_range(1..=all.len());
        let end = random.random_range(0..=size);
        let begin = random.random_range(0..=end);
        let (b, e, n) = (begin as u64, end as u64, size as u64);
        let proof = trail::range(&only(&tiles, trail::for_range(b, e, n)), b, e, n).unwrap();
        let root = mth(&all[..size]);
        let check = |range: &[Hash]| {
            let mut verifier = RangeVerifier::new(b, n, &proof)?;
            range.iter().try_for_each(|leaf| verifier.push(*leaf))?;
            verifier.finish(&root)
        };
        let range = &all[begin..end];
        check(range).unwrap();
        if range.is_empty() {
            continue;
        }
        let at = random.random_range(0..range.len());
        let mut changed = range.to_vec();
        changed[at].0[random.random_range(0..32)] ^= 1;
        check(&changed).unwrap_err();
        let mut cut = range.to_vec();
        cut.remove(at);
        check(&cut).unwrap_err();
        let mut twice = range.to_vec();
        twice.insert(at, range[at]);
        check(&twice).unwrap_err();
        if at > 0 {
            let mut swapped = range.to_vec();
            swapped.swap(at, at - 1);
            check(&swapped).unwrap_err();
        }
        assert_eq!(RangeVerifier::new(n + 1, n, &proof).unwrap_err(), ProofError::Range);
    }
}

#[test]
fn no_changed_proof_verifies() {
    let all = leaves(300);
    let tiles = grown_once(&all);
    let mut random = StdRng::seed_from_u64(5);
    for _ in 0..150 {
        let size = random.random_range(2..=all.len());
        let (old, index) = (random.random_range(1..size), random.random_range(0..size));
        let (n, m, at) = (size as u64, old as u64, index as u64);
        let (root, old_root) = (mth(&all[..size]), mth(&all[..old]));
        let included = |proof: &[Hash], at, n| verify_inclusion(&all[index], at, n, proof, &root);
        let consistent = |proof: &[Hash], m, n| verify_consistency(m, n, &old_root, &root, proof);
        let inclusion = trail::inclusion(&tiles, at, n).unwrap();
        let consistency = trail::consistency(&tiles, m, n).unwrap();
        for tampered in tamperings(&inclusion, &mut random) {
            included(&tampered, at, n).unwrap_err();
        }
        for tampered in tamperings(&consistency, &mut random) {
            consistent(&tampered, m, n).unwrap_err();
        }
        for other in [at + 1, at.wrapping_sub(1), n, u64::MAX] {
            included(&inclusion, other, n).unwrap_err();
        }
        included(&inclusion, at, 0).unwrap_err();
        for other in [0, m + 1, n + 1, u64::MAX] {
            consistent(&consistency, other, n).unwrap_err();
        }
        verify_consistency(m, n, &root, &old_root, &consistency).unwrap_err();
    }
}

/// Every hash changed, left out, doubled and swapped, and hashes added at both ends.
fn tamperings(proof: &[Hash], random: &mut StdRng) -> Vec<Vec<Hash>> {
    let mut stranger = Hash([0; 32]);
    random.fill_bytes(&mut stranger.0);
    let mut tampered = vec![[proof, &[stranger]].concat(), [&[stranger], proof].concat()];
    for at in 0..proof.len() {
        let mut changed = proof.to_vec();
        changed[at].0[random.random_range(0..32)] ^= 1 << random.random_range(0..8);
        let mut cut = proof.to_vec();
        cut.remove(at);
        let mut twice = proof.to_vec();
        twice.insert(at, proof[at]);
        tampered.extend([changed, cut, twice]);
        if at > 0 {
            let mut swapped = proof.to_vec();
            swapped.swap(at, at - 1);
            tampered.push(swapped);
        }
    }
    tampered
}

#[test]
fn a_tree_is_appended_to_at_its_end_only() {
    let all = leaves(700);
    let mut tiles = grown_once(&all);
    let before = tiles.clone();
    let short = trail::append(&mut tiles, 600, &all[600..]).unwrap_err();
    assert_eq!((short.id, short.found, short.needed), (TileId { level: 0, index: 2 }, 188, 88));
    let none = trail::append(&mut Tiles::new(), 700, &all[..1]).unwrap_err();
    assert_eq!((none.found, none.needed), (0, 188));
    for id in trail::for_root(700) {
        assert_eq!(tiles.get(id), before.get(id));
    }
    let nothing = trail::append(&mut tiles, 700, &[]).unwrap();
    assert_eq!((nothing.size, nothing.root, nothing.changed.len()), (700, mth(&all), 0));
    assert!(trail::root(&Tiles::new(), 1).is_err());
    assert_eq!(trail::root(&Tiles::new(), 0), Ok(empty_root()));
    assert_eq!(trail::for_append((1 << 40) + 5).len(), 2);
    assert_eq!(TILE_WIDTH, 256);
}

#[test]
fn reading_from_left_to_right_gives_every_root() {
    let all = leaves(520);
    let mut tree = Compact::default();
    for (size, leaf) in all.iter().enumerate() {
        assert_eq!(tree.root(), mth(&all[..size]));
        let again = Compact::from_roots(tree.size(), tree.roots()).unwrap();
        assert_eq!(again.root(), tree.root());
        tree.push(*leaf);
    }
    assert_eq!(Compact::from_roots(7, tree.roots()).map(|_| ()), Err(ProofError::Length));
}
