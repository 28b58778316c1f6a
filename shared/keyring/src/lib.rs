//! Envelope encryption: wrapping keys from a file that the operator keeps (`keys.rs`), and keys that seal, wrap and
//! digest (`key.rs`). Services say what sealed bytes are bound to. Must never tell a key, in an error or anywhere
//! else, and never fail by panicking.

mod key;
mod keys;

pub use key::{Key, bound};
pub use keys::{KeyProvider, Keys, KeysError, read};
