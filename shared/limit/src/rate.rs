//! The words of a rate limit: what is limited, and what came of a check. Knows no clock and no store.

use std::time::Duration;

/// `Decision::retry_after` of a call that costs more than its bucket ever holds: no wait will admit it.
pub const NEVER: Duration = Duration::MAX;

/// How often something may happen: `limit` times a `period`, of which `burst` may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Calls a period; 0 admits none.
    pub limit: u32,
    /// The period; counted in whole microseconds.
    pub period: Duration,
    /// Most that may come at once after a pause: how much the bucket holds; 0 admits none.
    pub burst: u32,
}

/// One limit that a call counts against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name, unique in its scope; clients see it in the header fields.
    pub name: String,
    /// Its rate. A changed rate holds from the next check on.
    pub rate: Rate,
    /// What the call takes from it: 1, as a rule; 0 only looks.
    pub cost: u32,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether the call may go on; if not, it took nothing from any bucket.
    pub admitted: bool,
    /// Which of the buckets refuses; of several, the one that does so longest.
    pub denied_by: Option<usize>,
    /// How long until the same call may pass, if nothing else is taken meanwhile; zero when admitted, `NEVER` when it
    /// costs more than a bucket holds.
    pub retry_after: Duration,
    /// How the buckets stand after the call, in their order. A denial that was remembered has those that refuse only.
    pub standings: Vec<Standing>,
}

impl Decision {
    /// When to try again: `None` for a call that was admitted, and for one that never will be.
    pub fn retry(&self) -> Option<Duration> {
        (!self.admitted && self.retry_after != NEVER).then_some(self.retry_after)
    }
}

/// How a bucket stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The bucket's name.
    pub name: String,
    /// Calls a period.
    pub limit: u32,
    /// How many calls of cost 1 it would admit now.
    pub remaining: u32,
    /// How long until it is full, if nothing else is taken.
    pub reset: Duration,
    /// The period.
    pub period: Duration,
}
