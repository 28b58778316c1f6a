//! Makes proofs (RFC 6962, 2.1.1 and 2.1.2) from tiles. A hash of a proof is that of a range of leaves, and a range is
//! made up of full subtrees.

use std::ops::Range;

use super::{MissingTile, TileId, Tiles, full_subtrees};
use crate::{Hash, RangeProof, compact::fold};

/// The tiles for [`root`].
pub fn for_root(size: u64) -> Vec<TileId> {
    tiles_of(std::slice::from_ref(&(0..size)))
}

/// The root of the tree of that size.
pub fn root(tiles: &Tiles, size: u64) -> Result<Hash, MissingTile> {
    hash(tiles, &(0..size))
}

/// The tiles for [`inclusion`].
pub fn for_inclusion(index: u64, size: u64) -> Vec<TileId> {
    tiles_of(&path(index, size))
}

/// Proves that a leaf stands in the tree of that size; of an index that it does not have, nothing.
pub fn inclusion(tiles: &Tiles, index: u64, size: u64) -> Result<Vec<Hash>, MissingTile> {
    path(index, size).iter().map(|range| hash(tiles, range)).collect()
}

/// The tiles for [`consistency`].
pub fn for_consistency(old: u64, new: u64) -> Vec<TileId> {
    tiles_of(&between(old, new))
}

/// Proves that the tree of the new size begins with that of the old; nothing where there is nothing to prove.
pub fn consistency(tiles: &Tiles, old: u64, new: u64) -> Result<Vec<Hash>, MissingTile> {
    between(old, new).iter().map(|range| hash(tiles, range)).collect()
}

/// The tiles for [`range`].
pub fn for_range(begin: u64, end: u64, size: u64) -> Vec<TileId> {
    tiles_of(&[0..begin, end..size])
}

/// What stands left and right of a range of leaves in the tree of that size.
pub fn range(tiles: &Tiles, begin: u64, end: u64, size: u64) -> Result<RangeProof, MissingTile> {
    let hashes = |begin, end| {
        full_subtrees(begin, end).into_iter().map(|node| node.hash(tiles)).collect::<Result<Vec<_>, _>>()
    };
    Ok(RangeProof { left: hashes(0, begin)?, right: hashes(end, size)? })
}

fn tiles_of(ranges: &[Range<u64>]) -> Vec<TileId> {
    let nodes = ranges.iter().flat_map(|range| full_subtrees(range.start, range.end));
    let mut tiles: Vec<_> = nodes.map(super::Node::tile).collect();
    tiles.sort_unstable();
    tiles.dedup();
    tiles
}

/// The hash of a range that begins at a multiple of its size rounded up to a power of two.
fn hash(tiles: &Tiles, range: &Range<u64>) -> Result<Hash, MissingTile> {
    let nodes = full_subtrees(range.start, range.end).into_iter();
    let hashes = nodes.map(|node| node.hash(tiles)).collect::<Result<Vec<_>, _>>()?;
    Ok(fold(&hashes))
}

/// `PATH(m, D[n])`: the siblings on the way from the leaf to the root.
fn path(index: u64, size: u64) -> Vec<Range<u64>> {
    let (mut siblings, mut begin, mut end) = (Vec::new(), 0, size);
    while index < end && end - begin > 1 {
        let middle = middle(begin, end);
        if index < middle {
            siblings.push(middle..end);
            end = middle;
        } else {
            siblings.push(begin..middle);
            begin = middle;
        }
    }
    siblings.reverse();
    siblings
}

/// `SUBPROOF(m, D[n], true)`: the ranges that make up both trees.
fn between(old: u64, new: u64) -> Vec<Range<u64>> {
    if old == 0 || old >= new {
        return Vec::new();
    }
    let (mut ranges, mut begin, mut end) = (Vec::new(), 0, new);
    while end != old {
        let middle = middle(begin, end);
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(begin..middle);
            begin = middle;
        }
    }
    // The old tree's own root is known to whoever asks.
    if begin != 0 {
        ranges.push(begin..end);
    }
    ranges.reverse();
    ranges
}

/// Where RFC 6962 splits: after the largest power of two that is smaller than the number of leaves.
fn middle(begin: u64, end: u64) -> u64 {
    begin + (1 << (end - begin - 1).ilog2())
}
