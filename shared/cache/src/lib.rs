//! Answers of tools kept for a while, and calls in flight that share one answer.
//!
//! [`Cache`] keeps results by [`Key`], in memory or in Redis; [`Flights`] lets equal calls that run at the
//! same moment wait for one of them; [`Matcher`] finds the cached answer to nearly the same text, where a
//! tool asks for it. Nothing here may be the only copy of anything, fail a call, or hand an answer to another
//! team, credential scope or version of a tool than it was made for.

mod cache;
mod entry;
mod flights;
mod key;
mod memory;
mod redis;
mod seal;
mod semantic;
mod statistics;

pub use cache::{Cache, Limits};
pub use entry::{Cached, Found, Life, Looked, Ticket};
pub use flights::{Flight, Flights, Follow, Followed, Lead};
pub use key::{Key, cacheable};
pub use memory::Memory;
pub use redis::Redis;
pub use semantic::{Look, Matched, Matcher, Mode, Question, Semantic, SemanticError, Standing};
pub use statistics::{Statistics, Stats};
