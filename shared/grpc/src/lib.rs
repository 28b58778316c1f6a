//! A client of gRPC servers that are known by their descriptors alone: asks a server by reflection what it offers,
//! and calls unary methods with JSON both ways.
//!
//! It wraps `tonic` and `prost-reflect` and adds what reaching servers of other people needs: addresses are checked
//! before a connection is made, everything a server sends is bounded, and errors say how far a call came. It must
//! never put metadata or a key into an error, a log line or a `Debug` text.

mod any;
mod call;
mod connection;
mod error;
mod method;
mod reflection;
mod tls;

pub use call::Call;
pub use connection::{Connection, Security, address, is_metadata_name};
pub use error::{Error, Refusal, Unreached};
pub use method::{MAX_DESCRIPTOR_BYTES, Method};
pub use reflection::{Reflected, Service, reflect};
