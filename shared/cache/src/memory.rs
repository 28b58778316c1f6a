//! Entries of this process. Must never hold more than its bound for long, or find what was invalidated.
//!
//! An invalidation costs the same however many entries there are: a tool has a generation, and each set of
//! its arguments a mark; an entry counts only while its generation is the tool's and its mark is unbroken.
//! What no longer counts is freed when it is next looked up, expires, or has to make room.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant as RealInstant},
};

use moka::{Expiry, future::Cache};
use tokio::time::Instant;

use crate::{Cached, Found, Key, Life, Limits, Statistics, Ticket, cache::found, entry::Stamp, key::tool_id};

/// Tools whose generations are known. Beyond them all are forgotten, and with them every entry.
const MAX_TOOLS: usize = 10_000;

/// Marks that a tool has before the first sweep for those without an entry.
const FIRST_SWEEP: usize = 64;

/// A bounded cache in this process. Clones share it.
#[derive(Clone)]
pub struct Memory {
    inner: Arc<Inner>,
}

struct Inner {
    entries: Cache<Key, Arc<Entry>>,
    tools: Mutex<HashMap<String, Tool>>,
    next_generation: AtomicU64,
    max_entry_bytes: usize,
    statistics: Statistics,
}

struct Tool {
    stamp: Stamp,
    /// By digest of the arguments, as long as an entry holds the mark.
    marks: HashMap<String, Weak<Mark>>,
    sweep_at: usize,
    usage: Arc<Usage>,
}

#[derive(Default)]
struct Mark {
    broken: AtomicBool,
}

/// What the entries of one generation take.
#[derive(Default)]
struct Usage {
    entries: AtomicU64,
    bytes: AtomicU64,
}

struct Entry {
    value: Cached,
    life: Life,
    stored: Instant,
    generation: u64,
    mark: Arc<Mark>,
    usage: Arc<Usage>,
    bytes: u32,
}

/// Frees entries whose life is over. Whether one still answers is decided at each look, by the clock of
/// tokio.
struct ByLife;

impl Expiry<Key, Arc<Entry>> for ByLife {
    fn expire_after_create(&self, _: &Key, entry: &Arc<Entry>, _: RealInstant) -> Option<Duration> {
        Some(entry.life.total())
    }

    fn expire_after_update(
        &self,
        _: &Key,
        entry: &Arc<Entry>,
        _: RealInstant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(entry.life.total())
    }
}

impl Memory {
    /// An empty cache.
    pub fn new(limits: Limits) -> Self {
        let entries = Cache::builder()
            .max_capacity(limits.max_bytes)
            .weigher(|_: &Key, entry: &Arc<Entry>| entry.bytes)
            .expire_after(ByLife)
            .eviction_listener(|_, entry: Arc<Entry>, _| entry.usage.subtract(entry.bytes))
            .build();
        let inner = Inner {
            entries,
            tools: Mutex::default(),
            next_generation: AtomicU64::new(0),
            max_entry_bytes: limits.max_entry_bytes,
            statistics: Statistics::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn statistics(&self) -> &Statistics {
        &self.inner.statistics
    }

    pub(crate) async fn read(&self, key: &Key) -> (Option<Found>, Ticket) {
        let stamp = self.inner.stamp(&key.tool_id());
        let ticket = Ticket(Some(stamp));
        let Some(entry) = self.inner.entries.get(key).await else { return (None, ticket) };
        if !entry.counts(stamp) {
            self.inner.entries.invalidate(key).await;
            return (None, ticket);
        }
        (found(entry.value.clone(), entry.stored.elapsed(), entry.life), ticket)
    }

    pub(crate) async fn put(&self, key: &Key, value: Cached, life: Life, ticket: Ticket) -> bool {
        let length = value.json().len();
        let Ok(bytes) = u32::try_from(length + key.size() + size_of::<Entry>()) else { return false };
        if length > self.inner.max_entry_bytes {
            return false;
        }
        let Some((stamp, mark, usage)) = self.inner.admit(key, ticket) else { return false };
        // An invalidation from here on breaks the mark or ends the generation that the entry carries.
        usage.add(bytes);
        let generation = stamp.generation;
        let entry = Entry { value, life, stored: Instant::now(), generation, mark, usage, bytes };
        self.inner.entries.insert(key.clone(), Arc::new(entry)).await;
        true
    }

    pub(crate) fn invalidate(&self, team: &str, tool: &str, arguments_digest: Option<&str>) {
        let generation = self.inner.new_generation();
        let mut tools = self.inner.lock();
        let Some(tool) = tools.get_mut(&tool_id(team, tool)) else { return };
        let Some(digest) = arguments_digest else {
            *tool = Tool::new(generation);
            return;
        };
        tool.stamp.epoch += 1;
        if let Some(mark) = tool.marks.remove(digest).and_then(|mark| mark.upgrade()) {
            mark.broken.store(true, Ordering::Release);
        }
    }

    /// Frees what the entries of a team hold. A tool that is not known gets a generation that no entry has, so that
    /// what is being put is dropped.
    pub(crate) async fn remove_team(&self, team: &str) -> u64 {
        let own = tool_id(team, "");
        self.inner.lock().retain(|tool, _| !tool.starts_with(&own));
        let keys: Vec<_> =
            self.inner.entries.iter().map(|(key, _)| key).filter(|key| key.team == team).collect();
        for key in &keys {
            self.inner.entries.invalidate(&**key).await;
        }
        // Entries leave at moka's leisure: until then their texts are in memory.
        self.inner.entries.run_pending_tasks().await;
        keys.len() as u64
    }

    /// A tool that is not known gets a generation that no entry has.
    pub(crate) fn clear(&self) {
        self.inner.lock().clear();
        self.inner.entries.invalidate_all();
    }

    /// Does now what moka would do at its leisure: evicts what is over the bound, and counts it.
    pub(crate) async fn settle(&self) {
        self.inner.entries.run_pending_tasks().await;
    }

    /// Entries of a tool and their bytes.
    pub(crate) fn usage(&self, team: &str, tool: &str) -> (u64, u64) {
        let usage = self.inner.lock().get(&tool_id(team, tool)).map(|tool| tool.usage.clone());
        usage.map_or((0, 0), |usage| {
            (usage.entries.load(Ordering::Relaxed), usage.bytes.load(Ordering::Relaxed))
        })
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Tool>> {
        self.tools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A generation that no entry has yet, whatever was forgotten in between.
    fn new_generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    fn stamp(&self, tool_id: &str) -> Stamp {
        let mut tools = self.lock();
        if let Some(tool) = tools.get(tool_id) {
            return tool.stamp;
        }
        if tools.len() >= MAX_TOOLS {
            tools.clear();
        }
        let tool = Tool::new(self.new_generation());
        let stamp = tool.stamp;
        tools.insert(tool_id.to_owned(), tool);
        stamp
    }

    /// What an entry made under this ticket carries; `None` when something was invalidated since.
    fn admit(&self, key: &Key, ticket: Ticket) -> Option<(Stamp, Arc<Mark>, Arc<Usage>)> {
        let mut tools = self.lock();
        let tool = tools.get_mut(&key.tool_id())?;
        if ticket.0 != Some(tool.stamp) {
            return None;
        }
        let mark = tool.mark(&key.arguments_digest);
        Some((tool.stamp, mark, tool.usage.clone()))
    }
}

impl Tool {
    fn new(generation: u64) -> Self {
        let stamp = Stamp { generation, epoch: 0 };
        Self { stamp, marks: HashMap::new(), sweep_at: FIRST_SWEEP, usage: Arc::default() }
    }

    fn mark(&mut self, arguments_digest: &str) -> Arc<Mark> {
        if let Some(mark) = self.marks.get(arguments_digest).and_then(Weak::upgrade) {
            return mark;
        }
        if self.marks.len() >= self.sweep_at {
            self.marks.retain(|_, mark| mark.strong_count() > 0);
            self.sweep_at = FIRST_SWEEP.max(2 * self.marks.len());
        }
        let mark = Arc::new(Mark::default());
        self.marks.insert(arguments_digest.to_owned(), Arc::downgrade(&mark));
        mark
    }
}

impl Usage {
    fn add(&self, bytes: u32) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes.into(), Ordering::Relaxed);
    }

    fn subtract(&self, bytes: u32) {
        self.entries.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes.into(), Ordering::Relaxed);
    }
}

impl Entry {
    fn counts(&self, stamp: Stamp) -> bool {
        self.generation == stamp.generation && !self.mark.broken.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Memory").field("entries", &self.inner.entries.entry_count()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_without_an_entry_are_swept() {
        let mut tool = Tool::new(0);
        let held: Vec<_> = (0..100).map(|number| tool.mark(&format!("held {number}"))).collect();
        for number in 0..100_000 {
            tool.mark(&number.to_string());
        }
        assert!(tool.marks.len() <= 2 * held.len(), "{}", tool.marks.len());
        assert!(Arc::ptr_eq(&held[7], &tool.mark("held 7")), "a mark that is held stays");
    }
}
