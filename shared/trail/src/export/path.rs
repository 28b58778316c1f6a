//! The tiles on the way from the signed root to the records being read, each believed only since the one above it says
//! so. At most one a level is kept.

use crate::{
    Compact, Hash, TILE_WIDTH, TileId,
    tiles::{TILE_HEIGHT, full_root, is_full},
};

/// Levels of a tree of 2^64 leaves.
const LEVELS: usize = 8;

/// What became of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// The tile above it says so.
    Known,
    /// The tile above it is not known.
    Unknown,
    /// It is another one, or none of the full ones of the tree.
    Wrong,
}

/// Tiles that are known to be the tree's own.
#[derive(Debug)]
pub(super) struct Path {
    size: u64,
    /// What is not full, from level 0 up.
    edge: Vec<Vec<Hash>>,
    /// The full one of each level that was read last.
    current: [Option<(u64, Vec<Hash>)>; LEVELS],
}

impl Path {
    /// Begins with the right edge of the tree of that size; `None` unless that leads to the root.
    pub fn new(size: u64, root: &Hash, edge: Vec<Vec<Hash>>) -> Option<Self> {
        let path = Self { size, edge, current: [const { None }; LEVELS] };
        let widths = (0..path.edge.len()).map(|level| width(size, level));
        let whole = path.edge.iter().map(Vec::len).eq(widths) && width_above(size, path.edge.len()) == 0;
        if !whole {
            return None;
        }
        let mut tree = Compact::default();
        for (level, hashes) in path.edge.iter().enumerate().rev() {
            for hash in hashes {
                tree.push_subtree(height(level), *hash);
            }
        }
        (tree.root() == *root).then_some(path)
    }

    /// Takes a full tile where the one above it says so.
    pub fn take(&mut self, id: TileId, hashes: Vec<Hash>) -> Taken {
        let level = usize::from(id.level);
        if level >= LEVELS || hashes.len() != TILE_WIDTH || !is_full(id, self.size) {
            return Taken::Wrong;
        }
        let Some(above) = self.tile(level + 1, id.index / TILE_WIDTH as u64) else { return Taken::Unknown };
        if above.get(offset(id.index)) != Some(&full_root(&hashes)) {
            return Taken::Wrong;
        }
        self.current[level] = Some((id.index, hashes));
        Taken::Known
    }

    /// Whether this full tile is the one of its level that was read last.
    pub fn has(&self, id: TileId) -> bool {
        let current = self.current.get(usize::from(id.level)).and_then(Option::as_ref);
        current.is_some_and(|(index, _)| *index == id.index)
    }

    /// Whether a leaf's tile is the one at the right edge, which is known from the beginning.
    pub fn is_at_edge(&self, index: u64) -> bool {
        index / TILE_WIDTH as u64 == self.size / TILE_WIDTH as u64
    }

    /// The hash of a leaf, where its tile is known.
    pub fn leaf(&self, index: u64) -> Option<&Hash> {
        self.tile(0, index / TILE_WIDTH as u64)?.get(offset(index))
    }

    /// The root of the tree when it had that many leaves, at least one, where the tiles to its last leaf are known.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        let last = size.checked_sub(1).filter(|last| *last < self.size)?;
        let mut tree = Compact::default();
        for level in (0..LEVELS).rev() {
            let node = last >> height(level);
            if node == 0 && level > 0 {
                continue;
            }
            let through = if level == 0 { offset(node) + 1 } else { offset(node) };
            let tile = self.tile(level, node / TILE_WIDTH as u64);
            let hashes = if through == 0 { &[][..] } else { tile?.get(..through)? };
            for hash in hashes {
                tree.push_subtree(height(level), *hash);
            }
        }
        Some(tree.root())
    }

    fn tile(&self, level: usize, index: u64) -> Option<&[Hash]> {
        let id = TileId { level: u8::try_from(level).ok()?, index };
        if is_full(id, self.size) {
            let (current, hashes) = self.current.get(level)?.as_ref()?;
            return (*current == index).then_some(hashes.as_slice());
        }
        (index == nodes(self.size, level) / TILE_WIDTH as u64)
            .then(|| self.edge.get(level).map(Vec::as_slice))?
    }
}

fn height(level: usize) -> u32 {
    TILE_HEIGHT * u32::try_from(level).unwrap_or(u32::MAX / TILE_HEIGHT)
}

fn nodes(size: u64, level: usize) -> u64 {
    size.checked_shr(height(level)).unwrap_or(0)
}

fn width(size: u64, level: usize) -> usize {
    offset(nodes(size, level))
}

/// How many nodes the levels from this one up have.
fn width_above(size: u64, level: usize) -> u64 {
    nodes(size, level)
}

fn offset(index: u64) -> usize {
    usize::try_from(index % TILE_WIDTH as u64).expect("is below 256")
}
