//! The words that every service shares. No I/O: nothing here may know tokio, tonic or sqlx.

mod caller;
mod delivery;
mod digest;
mod kind;
mod letters;
mod words;

pub use caller::{Caller, Role, Scope};
pub use delivery::DeliveryFailed;
pub use digest::{Digest, digest_bytes, digest_json};
pub use kind::Kind;
pub use letters::is_hidden;
pub use words::{Category, Effect, Sensitivity, UnknownWord};

/// A new UUIDv7 (RFC 9562): unique, and ordered by the time it was made.
pub fn new_id() -> uuid::Uuid {
    uuid::Uuid::now_v7()
}
