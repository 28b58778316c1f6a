//! What a team's tree becomes with the records that wait. Pure: it reads and writes nothing.

use trail::{MissingTile, TileId, Tiles, for_append, for_root, leaf_hash};

use super::root_of;
use crate::{
    Signer, leaf,
    store::{NewTree, RecordRow, Waiting},
};

/// Why a tree cannot be gone on with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Broken {
    /// A tile is not what it was when the tree was signed.
    #[error(
        "the tree of {size} events cannot be gone on with: {missing}; restore the database from a backup"
    )]
    Tile { size: i64, missing: MissingTile },
    /// The tiles lead to another root than the one that was signed.
    #[error(
        "the hashes of the first {size} events do not lead to the root that was signed; restore the database from a backup"
    )]
    Root { size: i64 },
}

/// The tiles that `grow` needs.
pub(super) fn tiles_for(team: &Waiting) -> Vec<TileId> {
    let mut tiles = for_append(size(team));
    if team.size > 0 {
        tiles.extend(for_root(size(team)));
    }
    tiles.sort_unstable();
    tiles.dedup();
    tiles
}

/// The tree with those records that follow it without a gap, and these records; `None`: there are none.
pub(super) fn grow(
    team: &Waiting,
    mut tiles: Tiles,
    mut records: Vec<RecordRow>,
    signer: &Signer,
) -> Result<Option<(NewTree, Vec<RecordRow>)>, Broken> {
    let broken = |missing| Broken::Tile { size: team.size, missing };
    let follows = records.iter().zip(team.size + 1..).take_while(|(record, next)| record.sequence == *next);
    let count = follows.count();
    records.truncate(count);
    if records.is_empty() {
        return Ok(None);
    }
    if team.size > 0 && Some(trail::root(&tiles, size(team)).map_err(broken)?) != root_of(&team.root) {
        return Err(Broken::Root { size: team.size });
    }
    let leaves: Vec<_> = records.iter().map(|record| leaf_hash(&leaf::header(record).leaf())).collect();
    let grown = trail::append(&mut tiles, size(team), &leaves).map_err(broken)?;
    let changed = grown.changed.iter().map(|id| (*id, tiles.get(*id).unwrap_or_default().to_vec()));
    let tree = NewTree {
        team: team.team.clone(),
        old_size: team.size,
        size: i64::try_from(grown.size).unwrap_or(i64::MAX),
        root: grown.root,
        checkpoint: signer.checkpoint(&team.team, grown.size, grown.root),
        tiles: changed.collect(),
    };
    Ok(Some((tree, records)))
}

/// Sizes are never negative.
fn size(team: &Waiting) -> u64 {
    u64::try_from(team.size).unwrap_or_default()
}
