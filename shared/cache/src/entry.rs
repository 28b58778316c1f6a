//! What the cache takes and gives. Plain data, without a decision.

use std::{sync::Arc, time::Duration};

/// Longest an entry is kept, stale time included: 30 days.
const LONGEST_LIFE: Duration = Duration::from_hours(30 * 24);

/// An answer as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cached {
    /// The tool's result as JSON text.
    Success(Arc<str>),
    /// The tool's own error as JSON text: a negative entry.
    Refusal(Arc<str>),
}

impl Cached {
    /// A result.
    pub fn success(json: impl Into<Arc<str>>) -> Self {
        Self::Success(json.into())
    }

    /// A tool's error.
    pub fn refusal(json: impl Into<Arc<str>>) -> Self {
        Self::Refusal(json.into())
    }

    /// The JSON text, of either.
    pub fn json(&self) -> &Arc<str> {
        match self {
            Self::Success(json) | Self::Refusal(json) => json,
        }
    }
}

/// How long an entry lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How long it answers calls; with zero nothing is kept.
    pub ttl: Duration,
    /// How much longer it is kept for [`crate::Cache::get_stale`].
    pub stale_for: Duration,
}

impl Life {
    /// From being put to being gone, at most 30 days.
    pub(crate) fn total(&self) -> Duration {
        self.ttl.saturating_add(self.stale_for).min(LONGEST_LIFE)
    }
}

/// An entry that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The answer.
    pub value: Cached,
    /// Time since it was put.
    pub age: Duration,
    /// Whether it is still within its ttl.
    pub fresh: bool,
}

/// What a look into the cache gave.
#[derive(Clone, Debug)]
pub struct Looked {
    /// The fresh entry, if there is one.
    pub found: Option<Found>,
    /// To be given back with the answer when it is put.
    pub ticket: Ticket,
}

/// The state of a tool's invalidations when a call looked. An answer made under an older state than the
/// present one is not kept, so that a call that began before an invalidation cannot bring back what was
/// invalidated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(pub(crate) Option<Stamp>);

impl Ticket {
    /// The ticket of a cache that is off or cannot be reached: nothing is kept under it.
    pub const NONE: Self = Self(None);
}

/// The tool's generation, and how often single entries were invalidated in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stamp {
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
}
