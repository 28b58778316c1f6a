//! Grows a tree: which tiles stand at its right edge, and what becomes of them with more leaves.

use super::{MissingTile, TILE_HEIGHT, TILE_WIDTH, TileId, Tiles, nodes::full_root, prove};
use crate::Hash;

/// A tree that has grown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Number of leaves now.
    pub size: u64,
    /// Root now.
    pub root: Hash,
    /// Tiles that are new or have more hashes than before, in order of their ids.
    pub changed: Vec<TileId>,
}

/// The tiles that are needed to append to a tree of that size: those at its right edge that are not full.
pub fn for_append(size: u64) -> Vec<TileId> {
    edge(size).map(|(id, _)| id).collect()
}

/// The tiles at the right edge that are neither full nor empty, and how many hashes each has.
fn edge(size: u64) -> impl Iterator<Item = (TileId, usize)> {
    let levels = (0_u8..8).map(move |level| {
        let nodes = size >> (u32::from(level) * TILE_HEIGHT);
        let width = usize::try_from(nodes % TILE_WIDTH as u64).expect("is below 256");
        (TileId { level, index: nodes / TILE_WIDTH as u64 }, width)
    });
    levels.filter(|(_, width)| *width > 0)
}

/// The hashes at the right edge of a tree, from level 0 up; a level whose last tile is full has none.
pub(crate) fn frontier(tiles: &Tiles, size: u64) -> Result<Vec<Vec<Hash>>, MissingTile> {
    let mut levels = Vec::new();
    while size.checked_shr(TILE_HEIGHT * u32::try_from(levels.len()).unwrap_or(8)).unwrap_or(0) > 0 {
        levels.push(Vec::new());
    }
    for (id, width) in edge(size) {
        levels[usize::from(id.level)] = tiles.first(id, width)?.to_vec();
    }
    Ok(levels)
}

/// Appends hashes of leaves to a tree of that size and leaves its tiles in `tiles`. Fails, with nothing changed, where
/// a tile of [`for_append`] is missing or does not end where the tree does: then this is not the newest tree.
pub fn append(tiles: &mut Tiles, size: u64, leaves: &[Hash]) -> Result<Appended, MissingTile> {
    for (id, needed) in edge(size) {
        let found = tiles.get(id).map_or(0, <[Hash]>::len);
        if found != needed {
            return Err(MissingTile { id, found, needed });
        }
    }
    let mut changed = Vec::new();
    let (mut first, mut added) = (size, leaves.to_vec());
    for level in 0..8 {
        if added.is_empty() {
            break;
        }
        let above = first / TILE_WIDTH as u64;
        added = push(tiles, level, first, &added, &mut changed);
        first = above;
    }
    let size = size + leaves.len() as u64;
    let root = prove::root(tiles, size)?;
    Ok(Appended { size, root, changed })
}

/// Puts hashes into the tiles of one level, from a position on; gives the roots of those that are full now.
fn push(tiles: &mut Tiles, level: u8, first: u64, added: &[Hash], changed: &mut Vec<TileId>) -> Vec<Hash> {
    let (mut position, mut rest, mut full) = (first, added, Vec::new());
    while !rest.is_empty() {
        let id = TileId { level, index: position / TILE_WIDTH as u64 };
        let offset = usize::try_from(position % TILE_WIDTH as u64).expect("is below 256");
        let (now, later) = rest.split_at(rest.len().min(TILE_WIDTH - offset));
        let tile = tiles.tiles.entry(id).or_default();
        tile.truncate(offset);
        tile.extend_from_slice(now);
        if tile.len() == TILE_WIDTH {
            full.push(full_root(tile));
        }
        changed.push(id);
        position += now.len() as u64;
        rest = later;
    }
    full
}
