//! A client of MCP servers, over stdio and streamable HTTP, in both protocol eras: lists tools, calls them,
//! hands on what they say of their progress, and reports what a server does wrong.
//!
//! It wraps `rmcp` and adds what running servers of other people needs: a clean environment for a child
//! process, limits on everything a server sends, errors that say what happened, and processes that are gone
//! when their client is. It must never put an environment value, a header value or the query of an address
//! into an error, a log line or a `Debug` text, and never follow a redirect.

mod allow;
mod call;
mod changes;
mod client;
mod error;
mod events;
mod evidence;
mod filter;
mod handshake;
mod http;
mod lines;
mod ping;
mod stdio;
mod tool;
mod transport;

pub use allow::{Commands, NotAllowed, SETTING as COMMANDS_SETTING};
pub use call::{Call, MAX_CALLS};
pub use client::{Client, MAX_LIST_BYTES, MAX_TOOLS, ServerInfo};
pub use error::Error;
pub use events::CallEvent;
pub use evidence::MAX_MESSAGE_BYTES;
pub use http::retry_after;
pub use tool::{Annotations, Tool, ToolResult};
pub use transport::Transport;
