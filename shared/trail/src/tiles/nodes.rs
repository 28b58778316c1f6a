//! Which nodes make up a range of leaves, and where in the tiles they are found.

use super::{MissingTile, TILE_HEIGHT, TILE_WIDTH, TileId, Tiles};
use crate::{Hash, node_hash};

/// The root of a full subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    /// Of leaves it has 2 to the power of this.
    pub height: u32,
    /// Among the nodes of its height, from the left.
    pub index: u64,
}

impl Node {
    /// The tile that it is computed from, and which of its hashes.
    fn place(self) -> (TileId, usize, usize) {
        let level = self.height / TILE_HEIGHT;
        let count = 1_usize << (self.height % TILE_HEIGHT);
        let first = self.index * count as u64;
        let id = TileId {
            level: u8::try_from(level).expect("a tree of 2^64 leaves has 8 levels"),
            index: first / TILE_WIDTH as u64,
        };
        let offset = usize::try_from(first % TILE_WIDTH as u64).expect("is below 256");
        (id, offset, count)
    }

    /// The tile that it is computed from.
    pub(crate) fn tile(self) -> TileId {
        self.place().0
    }

    /// Its hash.
    pub(crate) fn hash(self, tiles: &Tiles) -> Result<Hash, MissingTile> {
        let (id, offset, count) = self.place();
        Ok(full_root(&tiles.first(id, offset + count)?[offset..]))
    }
}

/// The root of a full subtree over these; their number must be a power of two.
pub(crate) fn full_root(hashes: &[Hash]) -> Hash {
    if let [one] = hashes {
        return *one;
    }
    let (left, right) = hashes.split_at(hashes.len() / 2);
    node_hash(&full_root(left), &full_root(right))
}

/// The maximal full subtrees that make up the leaves from `begin` to before `end`, from left to right.
pub(crate) fn full_subtrees(begin: u64, end: u64) -> Vec<Node> {
    let (mut at, mut nodes) = (begin, Vec::new());
    while at < end {
        let height = at.trailing_zeros().min((end - at).ilog2());
        nodes.push(Node { height, index: at >> height });
        at += 1 << height;
    }
    nodes
}
