//! Hashes of a tree in tiles of 256 (C2SP tlog-tiles): level 0 holds the hashes of leaves, level n + 1 the roots of the
//! full tiles of level n. Every question says first which tiles it needs, so that they can be fetched at once, and is
//! then answered from them. Must never fetch anything itself.

mod append;
mod nodes;
mod prove;

use std::collections::HashMap;

pub(crate) use append::frontier;
pub use append::{Appended, append, for_append};
pub(crate) use nodes::{Node, full_root, full_subtrees};
pub use prove::{consistency, for_consistency, for_inclusion, for_range, for_root, inclusion, range, root};

use crate::Hash;

/// Hashes of a full tile.
pub const TILE_WIDTH: usize = 256;
/// Levels of the tree in a tile.
pub(crate) const TILE_HEIGHT: u32 = 8;

/// Which tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    /// 0: hashes of leaves.
    pub level: u8,
    /// From the left.
    pub index: u64,
}

/// A tile that an answer needs is not among those given, or holds fewer hashes than it has in a tree of that size; or,
/// of a tile to append to, more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("tile {index} of level {level} has {found} hashes where {needed} are needed", level = .id.level, index = .id.index)]
pub struct MissingTile {
    /// Which.
    pub id: TileId,
    /// How many hashes it has; 0: it is not there.
    pub found: usize,
    /// How many are needed.
    pub needed: usize,
}

/// Whether a tile has all its hashes in a tree of that size.
pub(crate) fn is_full(id: TileId, size: u64) -> bool {
    let leaves = TILE_HEIGHT * (u32::from(id.level).min(7) + 1);
    id.level < 8 && u128::from(id.index) < u128::from(size) >> leaves
}

/// Some tiles of a tree.
#[derive(Debug, Clone, Default)]
pub struct Tiles {
    tiles: HashMap<TileId, Vec<Hash>>,
}

impl Tiles {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts one in; one of the same id goes.
    pub fn insert(&mut self, id: TileId, hashes: Vec<Hash>) {
        self.tiles.insert(id, hashes);
    }

    /// The hashes of one.
    pub fn get(&self, id: TileId) -> Option<&[Hash]> {
        self.tiles.get(&id).map(Vec::as_slice)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.tiles.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tiles.is_empty()
    }

    /// The first `needed` hashes of a tile.
    fn first(&self, id: TileId, needed: usize) -> Result<&[Hash], MissingTile> {
        let hashes = self.get(id).unwrap_or_default();
        hashes.get(..needed).ok_or(MissingTile { id, found: hashes.len(), needed })
    }
}
