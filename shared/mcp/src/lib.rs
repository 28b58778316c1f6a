//! A client of MCP servers, over stdio and streamable HTTP, in both protocol eras: lists tools, calls them,
//! and reports what a server does wrong.
//!
//! It wraps `rmcp` and adds what running servers of other people needs: a clean environment for a child
//! process, limits on everything a server sends, errors that say what happened, and processes that are gone
//! when their client is. It must never put an environment value, a header value or the query of an address
//! into an error, a log line or a `Debug` text, and never follow a redirect.

mod changes;
mod client;
mod error;
mod evidence;
mod filter;
mod handshake;
mod http;
mod lines;
mod stdio;
mod tool;
mod transport;

pub use client::{Client, MAX_LIST_BYTES, MAX_TOOLS, ServerInfo};
pub use error::Error;
pub use evidence::MAX_MESSAGE_BYTES;
pub use tool::{Annotations, Tool, ToolResult};
pub use transport::Transport;
