//! What may be asked how often: rates over one process, or over many through Redis.
//!
//! `rate.rs` has the words, `gcra.rs` the arithmetic, `memory.rs` the buckets of one process, `distributed.rs` and
//! `gcra.lua` those in Redis, `fields.rs` the header fields. A limit must never fail a call: a Redis that is away
//! leaves each process its share of the rate. What must be exact through any failure is a quota, not a rate.

mod distributed;
mod fields;
mod gcra;
mod memory;
mod rate;

#[cfg(test)]
mod tests;

use store::Redis;

pub use distributed::Distributed;
pub use fields::fields;
pub use memory::Memory;
pub use rate::{Bucket, Decision, NEVER, Rate, Standing};

/// Counts calls against rates. Cheap to clone; clones share their buckets.
#[derive(Debug, Clone)]
pub enum Limiter {
    /// Buckets of this process alone.
    Memory(Memory),
    /// Buckets that all processes share.
    Redis(Distributed),
}

impl Limiter {
    /// Buckets of this process alone.
    pub fn memory() -> Self {
        Self::Memory(Memory::new())
    }

    /// Buckets in Redis. While it is away, each of `replicas` processes (at least 1) admits its share.
    pub fn redis(redis: Redis, replicas: u32) -> Self {
        Self::Redis(Distributed::new(redis, replicas))
    }

    /// Takes the cost of one call from every bucket, or from none. `scope` says whose buckets they are, and comes
    /// first in every key: a team's id, or a longer text that begins with it. The names of `buckets` must differ.
    pub async fn check(&self, scope: &str, buckets: &[Bucket]) -> Decision {
        match self {
            Self::Memory(memory) => memory.check(scope, buckets),
            Self::Redis(distributed) => distributed.check(scope, buckets).await,
        }
    }
}
