//! The cache as the executor sees it: three variants with one behaviour, and the counting around them. Must
//! never fail a call: what cannot be read is a miss, what cannot be written is dropped.

use std::time::Duration;

use crate::{Cached, Found, Key, Life, Looked, Memory, Redis, Statistics, Stats, Ticket, statistics::Event};

/// How much may be kept.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of JSON of one entry; a longer one is not kept.
    pub max_entry_bytes: usize,
    /// Bytes of all entries in memory, keys included. Redis has its own `maxmemory`.
    pub max_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_entry_bytes: 1 << 20, max_bytes: 64 << 20 }
    }
}

/// Answers of tools. Cheap to clone; clones share their entries.
#[derive(Clone, Debug)]
pub enum Cache {
    /// Keeps nothing.
    Off,
    /// Entries of this process.
    Memory(Memory),
    /// Entries that all processes share.
    Redis(Redis),
}

impl Cache {
    /// A cache in this process.
    pub fn memory(limits: Limits) -> Self {
        Self::Memory(Memory::new(limits))
    }

    /// A cache in Redis, encrypted under `key`, which all processes must be given alike.
    pub fn redis(handle: store::Redis, key: &[u8; 32], limits: Limits) -> Self {
        Self::Redis(Redis::new(handle, key, limits))
    }

    /// The fresh entry under this key, and the ticket to put an answer with.
    pub async fn get(&self, key: &Key) -> Looked {
        self.get_if(key, |_| true).await
    }

    /// The same for a caller that cannot use just any: what it does not take counts as a miss.
    pub async fn get_if(&self, key: &Key, takes: impl FnOnce(&Found) -> bool) -> Looked {
        let (found, ticket) = self.read(key).await;
        let found = found.filter(|found| found.fresh).filter(takes);
        if let Some(statistics) = self.counted() {
            statistics.count(key, Event::of(found.as_ref()));
        }
        Looked { found, ticket }
    }

    /// Looks once more, for a caller that found nothing and is to ask the tool now: the answer of a call that ended in
    /// between is there. Counts only what it finds.
    pub async fn look_again(&self, key: &Key, takes: impl FnOnce(&Found) -> bool) -> Option<Found> {
        let found = self.read(key).await.0.filter(|found| found.fresh).filter(takes)?;
        if let Some(statistics) = self.counted() {
            statistics.count(key, Event::of(Some(&found)));
        }
        Some(found)
    }

    /// The entry under this key even where its ttl is over: for degradation, when the tool cannot answer.
    pub async fn get_stale(&self, key: &Key) -> Option<Found> {
        let (found, _) = self.read(key).await;
        if let (Some(statistics), Some(_)) = (self.counted(), &found) {
            statistics.count(key, Event::StaleHit);
        }
        found
    }

    /// The fresh entry, uncounted.
    pub(crate) async fn peek(&self, key: &Key) -> Option<Found> {
        self.read(key).await.0.filter(|found| found.fresh)
    }

    async fn read(&self, key: &Key) -> (Option<Found>, Ticket) {
        match self {
            Self::Off => (None, Ticket::NONE),
            Self::Memory(memory) => memory.read(key).await,
            Self::Redis(redis) => redis.read(key).await,
        }
    }

    /// Keeps an answer, unless something of its tool was invalidated since the ticket was given, it is too
    /// long, or Redis is away. Tells whether it was kept.
    pub async fn put(&self, key: &Key, value: Cached, life: Life, ticket: Ticket) -> bool {
        if life.ttl.is_zero() {
            return false;
        }
        let kept = match self {
            Self::Off => false,
            Self::Memory(memory) => memory.put(key, value, life, ticket).await,
            Self::Redis(redis) => redis.put(key, &value, life, ticket).await,
        };
        if let (Some(statistics), true) = (self.counted(), kept) {
            statistics.count(key, Event::Put);
        }
        kept
    }

    /// Makes entries unfindable at once: of a whole tool, or of one set of arguments in every scope. In Redis
    /// for every process; `false` when Redis could not be told, and then this process finds nothing of the
    /// tool until Redis has been told. In memory for this process only.
    pub async fn invalidate(&self, team: &str, tool: &str, arguments_digest: Option<&str>) -> bool {
        let done = match self {
            Self::Off => return true,
            Self::Memory(memory) => {
                memory.invalidate(team, tool, arguments_digest);
                true
            }
            Self::Redis(redis) => redis.invalidate(team, tool, arguments_digest).await,
        };
        if let Some(statistics) = self.counted() {
            statistics.count_tool(team, tool, Event::Invalidation);
        }
        done
    }

    /// Removes every entry of a team, and not only from sight: from the memory of this process, or from Redis; whatever
    /// is being put is dropped. Tells how many there were; `None` when Redis could not be told.
    pub async fn invalidate_team(&self, team: &str) -> Option<u64> {
        match self {
            Self::Off => Some(0),
            Self::Memory(memory) => Some(memory.remove_team(team).await),
            Self::Redis(redis) => redis.remove_team(team).await,
        }
    }

    /// Makes every entry of this process unfindable at once, and whatever is being put; in Redis, and where nothing
    /// is kept, nothing happens.
    pub fn clear(&self) {
        if let Self::Memory(memory) = self {
            memory.clear();
        }
    }

    /// Counts since the start of the process, by tool, in order of their names.
    pub async fn stats(&self, team: &str, tool: Option<&str>) -> Vec<Stats> {
        let mut all = self.counted().map(|statistics| statistics.of(team, tool)).unwrap_or_default();
        if let Self::Memory(memory) = self {
            memory.settle().await;
            for stats in &mut all {
                let (entries, bytes) = memory.usage(team, &stats.tool);
                (stats.entries, stats.bytes) = (Some(entries), Some(bytes));
            }
        }
        all
    }

    /// Where this cache counts, for [`crate::Flights`] and [`crate::Matcher`]; they count nowhere when it is
    /// off.
    pub fn statistics(&self) -> Statistics {
        self.counted().cloned().unwrap_or_default()
    }

    fn counted(&self) -> Option<&Statistics> {
        match self {
            Self::Off => None,
            Self::Memory(memory) => Some(memory.statistics()),
            Self::Redis(redis) => Some(redis.statistics()),
        }
    }
}

/// What is found `age` after it was put; `None` once its life is over.
pub(crate) fn found(value: Cached, age: Duration, life: Life) -> Option<Found> {
    (age < life.total()).then_some(Found { value, age, fresh: age < life.ttl })
}
