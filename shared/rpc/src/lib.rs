//! Everything gRPC that the services share: links, the stack around every service, Status, tokens, pages.
//!
//! No business rule belongs here, and nothing here may know one service from another, except the one
//! table of who may use which RPC.

mod access;
mod body_limit;
mod call;
mod deadline;
mod events;
mod link;
mod lost;
mod observe;
mod page;
mod retry;
mod secured;
mod server;
mod shares;
mod stack;
mod status;
mod tls;
mod token;
mod trace;

pub use access::{Access, Lack, access_of};
pub use body_limit::{ARRIVAL, MAX_MESSAGE_BYTES, PREFIX_BYTES, check_length, not_in_time};
pub use call::{Call, Outgoing};
pub use events::{EVENTS_AT_ONCE, append_events, delivery_failed, event};
pub use link::{Later, Link, channel, later, local, remote, remote_secured};
pub use observe::Observer;
pub use page::{Page, PageError, PageKey};
pub use server::{Bound, Readiness, ServeError, ServerOptions, bind, serve, serve_health};
pub use shares::{Full, Share, Shares, site};
pub use stack::{StackOptions, refused, stack, unknown_method};
pub use status::{
    Details, FieldViolation, ServiceError, error_response, kind_of, reason_of, status, status_with_reason,
};
pub use tls::{Tls, TlsFiles};
pub use token::{CALLER_HEADER, TokenKey, derive_key};
pub use trace::{current_trace_id, current_traceparent, inject_headers, link_span};

/// The generated enum of reasons, under a shorter path.
pub use proto::types::v1::ErrorReason;
