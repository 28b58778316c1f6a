//! The file of an export: JSON Lines that prove themselves, line by line, without a connection.
//!
//! Every line is canonical JSON (RFC 8785) and ends in a newline:
//!
//! | line | what it is |
//! |---|---|
//! | `{"checkpoint","format","frontier","manifest","verifier_key"}` | the first: the signed checkpoint of the tree, the signed [`Manifest`] of the file, and the hashes at the right edge of the tree, from which its signed root is computed |
//! | `{"hashes","index","level"}` | a full tile of the tree: 256 hashes, whose root stands in the tile above it |
//! | `{"leaf","payload","salt"}` | a record: its header, whose hash stands in the tile of level 0; its payload and the salt of the commitment to it |
//! | `{"leaf","payload":"erased"}` | a record whose payload was erased with its data subject |
//! | `{"leaf"}` | a record in a file of headers alone |
//! | `{"ended","index"}` | a record whose retention has ended; `ended` is the id of the event that says so |
//! | `{"end":true,"records"}` | the last |
//!
//! A tile stands right before the first record that needs it, those above it first. So every hash is known to be the
//! tree's own before it is used, and every record is proven as it is read: what becomes of one line takes nothing from
//! the others. A file that proves only at its end that all of it is whole could not name a record that is not, since
//! whoever changes the record can change every sum over it, too. The tiles take 44 bytes a record.

mod ended;
mod erased;
mod fault;
mod lines;
mod manifest;
mod path;
mod plan;
mod report;
mod suspects;
mod verify;

pub use fault::{Fault, Kind};
pub(crate) use lines::decoded;
pub use lines::{PayloadLine, end_line, ended_line, first_line, record_line, tile_line};
pub use manifest::Manifest;
pub use plan::{Plan, Step};
pub use report::Report;
pub use verify::{KnownCheckpoint, Verifier};

pub use ended::{Ended, EndedDigest};

/// What the first line calls the format.
pub const FORMAT: &str = "toolcrib-trail/1";
