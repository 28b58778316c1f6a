//! Proofs out of the tiles of a team's tree. Every proof is checked before it is given: what does not prove anything is a
//! fault to be told, not an answer.

use ::store::Database;
use chrono::{DateTime, Utc};
use trail::{Hash, TileId, Tiles, leaf_hash, verify_consistency, verify_inclusion};
use uuid::Uuid;

use crate::{
    Error, leaf,
    store::{self, Tree},
};

/// A checkpoint.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub checkpoint: String,
    pub size: u64,
    pub root: Hash,
    pub sign_time: DateTime<Utc>,
}

/// That an event stands in a tree.
#[derive(Debug, Clone)]
pub(crate) struct Inclusion {
    pub index: u64,
    pub size: u64,
    pub hashes: Vec<Hash>,
    pub leaf: Vec<u8>,
    pub leaf_hash: Hash,
    /// Empty: there is none of this size.
    pub checkpoint: String,
}

/// That a tree has grown from another.
#[derive(Debug, Clone)]
pub(crate) struct Consistency {
    pub first_size: u64,
    pub second_size: u64,
    pub hashes: Vec<Hash>,
    pub first_root: Hash,
    pub second_root: Hash,
    /// Empty: there is none of the second size.
    pub checkpoint: String,
}

/// The checkpoint of a size; 0: the newest.
pub(crate) async fn checkpoint(database: &Database, team: &str, size: i64) -> Result<Signed, Error> {
    let tree = newest(database, team).await?;
    let wanted = size_of(database, team, &tree, "size", size).await?;
    if wanted == number(tree.size) {
        let root = Hash::try_from(tree.root.as_slice())
            .map_err(|_| Error::Broken("the newest root is no hash".into()))?;
        return Ok(Signed { checkpoint: tree.checkpoint, size: wanted, root, sign_time: tree.sign_time });
    }
    let kept = store::checkpoint_get(database.pool()?, team, size).await?;
    let kept = kept.ok_or_else(|| Error::NotFound {
        what: "checkpoint of a tree of this size",
        hint: "of earlier ones one a minute at most is kept; GetConsistencyProof gives the root of any size",
    })?;
    let root = stand(database, team, wanted).await?;
    Ok(Signed { checkpoint: kept.checkpoint, size: wanted, root, sign_time: kept.sign_time })
}

/// Proves that an event stands in the tree of a size; 0: the newest.
pub(crate) async fn inclusion(
    database: &Database,
    team: &str,
    event: Uuid,
    size: i64,
) -> Result<Inclusion, Error> {
    let pool = database.pool()?;
    let Some(record) = store::record_by_id(pool, team, event).await? else {
        if store::event_is_old(pool, team, event).await? {
            return Err(Error::NotSignedYet("the event is not under a checkpoint yet".to_owned()));
        }
        let hint = "the trail never had it, or its retention has ended; an export proves the hash that is left of it";
        return Err(Error::NotFound { what: "event with this id", hint });
    };
    let not_yet = || Error::NotSignedYet("the event is not under a checkpoint yet".to_owned());
    let Some(tree) = store::tree_get(pool, team).await? else { return Err(not_yet()) };
    let (index, position) = (number(record.sequence - 1), record.sequence);
    if size == 0 && position > tree.size {
        return Err(not_yet());
    }
    let wanted = size_of(database, team, &tree, "size", size).await?;
    if index >= wanted {
        let description =
            format!("is {wanted}, and the event has index {index}: it is in trees from {position} on");
        return Err(Error::invalid("size", description));
    }
    let tiles = tiles(database, team, &with_root(trail::for_inclusion(index, wanted), wanted)).await?;
    let hashes = trail::inclusion(&tiles, index, wanted).map_err(Error::broken)?;
    let root = root_of(&tiles, wanted, &tree)?;
    let leaf = leaf::header(&record).leaf();
    let hash = leaf_hash(&leaf);
    verify_inclusion(&hash, index, wanted, &hashes, &root).map_err(|_| {
        Error::Broken(format!(
            "the record at position {position} is not the one that was signed: it was changed"
        ))
    })?;
    let checkpoint = checkpoint_of(database, team, &tree, wanted).await?;
    Ok(Inclusion { index, size: wanted, hashes, leaf, leaf_hash: hash, checkpoint })
}

/// Proves that the tree of the second size (0: the newest) has grown from that of the first.
pub(crate) async fn consistency(
    database: &Database,
    team: &str,
    first: i64,
    second: i64,
) -> Result<Consistency, Error> {
    if first < 1 {
        return Err(Error::invalid("first_size", "must be at least 1"));
    }
    let tree = newest(database, team).await?;
    let second = size_of(database, team, &tree, "second_size", second).await?;
    let first = size_of(database, team, &tree, "first_size", first).await?;
    if first > second {
        return Err(Error::invalid(
            "first_size",
            format!("is {first}, and the later tree has {second} leaves"),
        ));
    }
    let mut wanted = with_root(trail::for_consistency(first, second), second);
    wanted.extend(trail::for_root(first));
    let tiles = tiles(database, team, &wanted).await?;
    let hashes = trail::consistency(&tiles, first, second).map_err(Error::broken)?;
    let (first_root, second_root) = (root_of(&tiles, first, &tree)?, root_of(&tiles, second, &tree)?);
    verify_consistency(first, second, &first_root, &second_root, &hashes)
        .map_err(|wrong| Error::Broken(format!("the hashes of the tree do not go together: {wrong}")))?;
    let checkpoint = checkpoint_of(database, team, &tree, second).await?;
    Ok(Consistency { first_size: first, second_size: second, hashes, first_root, second_root, checkpoint })
}

/// The root of the tree as it was at a size; `None`: its tiles are not all there.
pub(crate) async fn root_at(database: &Database, team: &str, size: u64) -> Result<Option<Hash>, Error> {
    if size == 0 {
        return Ok(Some(trail::empty_root()));
    }
    let tiles = tiles(database, team, &trail::for_root(size)).await?;
    Ok(trail::root(&tiles, size).ok())
}

async fn stand(database: &Database, team: &str, size: u64) -> Result<Hash, Error> {
    let missing = || Error::Broken(format!("the tiles of the tree of {size} events are not all there"));
    root_at(database, team, size).await?.ok_or_else(missing)
}

/// The newest tree of a team.
pub(crate) async fn newest(database: &Database, team: &str) -> Result<Tree, Error> {
    if let Some(tree) = store::tree_get(database.pool()?, team).await? {
        return Ok(tree);
    }
    if store::head_get(database.pool()?, team).await? > 0 {
        return Err(Error::NotSignedYet("the first checkpoint of this team is not signed yet".to_owned()));
    }
    Err(Error::NotFound { what: "checkpoint", hint: "the team has no events yet" })
}

/// A size that was asked for, if the tree has it.
async fn size_of(
    database: &Database,
    team: &str,
    tree: &Tree,
    field: &'static str,
    asked: i64,
) -> Result<u64, Error> {
    if asked < 0 {
        return Err(Error::invalid(field, "must not be negative"));
    }
    if asked == 0 {
        return Ok(number(tree.size));
    }
    if asked <= tree.size {
        return Ok(number(asked));
    }
    let head = store::head_get(database.pool()?, team).await?;
    if asked <= head {
        return Err(Error::NotSignedYet(format!("the tree of {asked} events is not signed yet")));
    }
    Err(Error::invalid(field, format!("is {asked}, and the team has {head} events")))
}

fn with_root(mut tiles: Vec<TileId>, size: u64) -> Vec<TileId> {
    tiles.extend(trail::for_root(size));
    tiles
}

/// Those of these tiles that are there.
pub(crate) async fn tiles(database: &Database, team: &str, wanted: &[TileId]) -> Result<Tiles, Error> {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    wanted.dedup();
    let mut tiles = Tiles::new();
    for (id, hashes) in store::team_tiles(database.pool()?, team, &wanted).await? {
        tiles.insert(id, hashes);
    }
    Ok(tiles)
}

/// The root at a size; that of the newest tree must be the one that was signed.
fn root_of(tiles: &Tiles, size: u64, tree: &Tree) -> Result<Hash, Error> {
    let root = trail::root(tiles, size).map_err(Error::broken)?;
    if size == number(tree.size) && root.as_bytes().as_slice() != tree.root {
        return Err(Error::Broken(format!(
            "the hashes of the first {size} events do not lead to the root that was signed"
        )));
    }
    Ok(root)
}

async fn checkpoint_of(database: &Database, team: &str, tree: &Tree, size: u64) -> Result<String, Error> {
    if size == number(tree.size) {
        return Ok(tree.checkpoint.clone());
    }
    let size = i64::try_from(size).unwrap_or(i64::MAX);
    let kept = store::checkpoint_get(database.pool()?, team, size).await?;
    Ok(kept.map(|kept| kept.checkpoint).unwrap_or_default())
}

/// Sizes and indexes are never negative.
pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
