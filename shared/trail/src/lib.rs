//! The trail as mathematics: leaves, tiles of hashes, proofs, signed checkpoints and the file of an export.
//!
//! A team's trail is a Merkle tree as in RFC 6962, 2.1, with SHA-256. The service builds it and the command line checks
//! it, both by this crate. Does no I/O but for reading a key file, and knows no database and no network: whatever is
//! proven here is proven offline.

mod canonical;
mod checkpoint;
mod compact;
pub mod export;
mod hash;
mod header;
pub mod note;
mod payload;
mod proof;
pub mod report;
pub mod statement;
mod tiles;

pub use checkpoint::Checkpoint;
pub use compact::{Compact, RangeProof, RangeVerifier};
pub use hash::{Hash, empty_root, leaf_hash, node_hash};
pub use header::{Header, LeafError};
pub use payload::{Payload, SALT_BYTES, commitment, is_committed};
pub use proof::{ProofError, verify_consistency, verify_inclusion};
pub use tiles::{
    Appended, MissingTile, TILE_WIDTH, TileId, Tiles, append, consistency, for_append, for_consistency,
    for_inclusion, for_range, for_root, inclusion, range, root,
};
