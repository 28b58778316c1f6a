//! The vectors of every team's tools, in memory: read at the start, and made in the background for what is new. One
//! changed tool costs one embedding. A selection takes what is there and must never wait for what is not.

mod make;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use embed::{Rows, Vector};
use tokio::sync::Notify;

pub(crate) use make::Maker;

use crate::{
    embedding::Embedding,
    entry::Entry,
    index::Index,
    texts::{Digest, Key, Texts},
};

/// Bytes that a vector takes in memory beside its numbers: its key, its scale and what holds them.
const VECTOR_BYTES: usize = 112;

/// The vectors of one tool.
#[derive(Debug, Clone)]
pub(crate) struct ToolVectors {
    /// Of all that is said of it.
    pub full: Arc<Vector>,
    /// Of its name and description.
    pub short: Arc<Vector>,
}

/// The vectors of a team's tools, by the slots of one index.
#[derive(Debug, Default)]
pub(crate) struct Table {
    slots: Vec<Option<ToolVectors>>,
    /// The vectors of all that is said of the tools, once more: side by side.
    pub full: Rows,
    /// Tools whose vectors are not made yet.
    pub pending: usize,
}

impl Table {
    /// Of these vectors, by slot; copies them.
    fn new(dimension: usize, slots: Vec<Option<ToolVectors>>, pending: usize) -> Self {
        let mut full = Rows::new(dimension, slots.len());
        for vectors in &slots {
            full.push(vectors.as_ref().map(|vectors| vectors.full.as_ref()));
        }
        Self { slots, full, pending }
    }

    pub(crate) fn of(&self, slot: usize) -> Option<&ToolVectors> {
        self.slots.get(slot)?.as_ref()
    }
}

/// What one team has.
#[derive(Debug, Default)]
struct Team {
    made: HashMap<Digest, Arc<Vector>>,
    /// The last table, and the index it belongs to; gone when a vector is added. Weak, so that the index is changed in
    /// place and not copied.
    table: Option<(Weak<Index>, Arc<Table>)>,
    /// How often vectors were added.
    additions: u64,
}

impl Team {
    fn of(&self, key: &Key) -> Option<ToolVectors> {
        let (full, short) = (self.made.get(&key.full)?, self.made.get(&key.short)?);
        Some(ToolVectors { full: Arc::clone(full), short: Arc::clone(short) })
    }

    /// The table of an index, or what it is to be made of.
    fn table(&self, index: &Arc<Index>) -> Result<Arc<Table>, Parts> {
        if let Some((of, table)) = &self.table
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(index))
        {
            return Ok(Arc::clone(table));
        }
        let mut parts = Parts { additions: self.additions, slots: Vec::new(), pending: 0 };
        for (slot, entry) in index.entries() {
            parts.slots.resize(slot + 1, None);
            parts.slots[slot] = self.of(&entry.key);
            parts.pending += usize::from(parts.slots[slot].is_none());
        }
        Err(parts)
    }

    /// Keeps a table, unless vectors were added since its parts were taken.
    fn keep_table(&mut self, index: &Arc<Index>, table: &Arc<Table>, additions: u64) {
        if self.additions == additions {
            self.table = Some((Arc::downgrade(index), Arc::clone(table)));
        }
    }
}

/// What a table is made of.
struct Parts {
    /// Of the team, when they were taken.
    additions: u64,
    slots: Vec<Option<ToolVectors>>,
    pending: usize,
}

/// What a team's vectors amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Tools whose vectors are made.
    pub made: usize,
    /// Those whose vectors are not.
    pub pending: usize,
    /// Bytes of them in memory.
    pub bytes: usize,
}

/// Every team's vectors. Cheap to clone. Each team has a lock of its own, and what takes long is done outside it.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    pub(crate) embedding: Embedding,
    teams: Arc<Mutex<HashMap<String, Arc<Mutex<Team>>>>>,
    /// Told when a selection found that some are missing.
    missed: Arc<Notify>,
    missing: Arc<Mutex<HashSet<String>>>,
}

impl Vectors {
    pub(crate) fn new(embedding: Embedding) -> Self {
        Self { embedding, teams: Arc::default(), missed: Arc::default(), missing: Arc::default() }
    }

    /// The vectors that are there for the tools of an index. Asks for those that are not.
    pub(crate) fn table(&self, team: &str, index: &Arc<Index>) -> Arc<Table> {
        let Some(embedder) = self.embedding.embedder() else { return Arc::default() };
        let table = self.table_of(team, index, embedder.dimension());
        if table.pending > 0 {
            let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
            if missing.insert(team.to_owned()) {
                self.missed.notify_one();
            }
        }
        table
    }

    /// What a team's vectors amount to, by this index.
    pub(crate) fn figures(&self, team: &str, index: &Arc<Index>) -> Figures {
        let Some(embedder) = self.embedding.embedder() else {
            return Figures { made: 0, pending: 0, bytes: 0 };
        };
        let table = self.table_of(team, index, embedder.dimension());
        let (pending, rows) = (table.pending, table.slots.len() * embedder.dimension());
        let made: usize =
            self.with(team, |team| team.made.values().map(|vector| vector.dimension() + VECTOR_BYTES).sum());
        Figures { made: index.entries().count() - pending, pending, bytes: made + rows }
    }

    /// Made outside the lock: two may make the same at once.
    fn table_of(&self, team: &str, index: &Arc<Index>, dimension: usize) -> Arc<Table> {
        let parts = match self.with(team, |team| team.table(index)) {
            Ok(table) => return table,
            Err(parts) => parts,
        };
        let table = Arc::new(Table::new(dimension, parts.slots, parts.pending));
        self.with(team, |team| team.keep_table(index, &table, parts.additions));
        table
    }

    /// The texts of an index's tools that have no vector, each once.
    pub(crate) fn missing(&self, team: &str, index: &Index) -> BTreeMap<Digest, String> {
        let lacking: Vec<&Entry> = self.with(team, |team| {
            let entries = index.entries().map(|(_, entry)| entry);
            entries.filter(|entry| team.of(&entry.key).is_none()).collect()
        });
        let mut missing = BTreeMap::new();
        for entry in lacking {
            let Some(definition) = &entry.tool.definition else { continue };
            let texts = Texts::of(definition);
            missing.extend([(entry.key.full, texts.full), (entry.key.short, texts.short)]);
        }
        self.with(team, |team| missing.retain(|digest, _| !team.made.contains_key(digest)));
        missing
    }

    /// Takes vectors of a team.
    pub(crate) fn put(&self, team: &str, vectors: impl IntoIterator<Item = (Digest, Vector)>) {
        let vectors = vectors.into_iter().map(|(digest, vector)| (digest, Arc::new(vector)));
        self.with(team, |team| {
            team.made.extend(vectors);
            team.additions += 1;
            team.table = None;
        });
    }

    /// Forgets the vectors of what is not in an index any more; gives the digests that stay.
    pub(crate) fn keep(&self, team: &str, index: &Index) -> Vec<Digest> {
        let used: HashSet<Digest> =
            index.entries().flat_map(|(_, entry)| [entry.key.full, entry.key.short]).collect();
        self.with(team, |team| team.made.retain(|digest, _| used.contains(digest)));
        used.into_iter().collect()
    }

    /// Waits until a selection found vectors missing, and gives the teams.
    pub(crate) async fn missed(&self) -> Vec<String> {
        self.missed.notified().await;
        self.missing.lock().unwrap_or_else(PoisonError::into_inner).drain().collect()
    }

    fn with<T>(&self, team: &str, act: impl FnOnce(&mut Team) -> T) -> T {
        let team = {
            let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
            match teams.get(team) {
                Some(team) => Arc::clone(team),
                None => Arc::clone(teams.entry(team.to_owned()).or_default()),
            }
        };
        act(&mut team.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuse::Mode;

    fn vectors() -> Vectors {
        Vectors::new(Embedding::open(None, Mode::Lexical, 1))
    }

    #[test]
    fn a_team_that_is_busy_holds_up_no_other() {
        let vectors = vectors();
        let index = Arc::new(Index::default());
        vectors.with("busy", |_| {
            assert!(vectors.teams.try_lock().is_ok(), "one lock is everybody's");
            assert_eq!(vectors.table_of("other", &index, 8).pending, 0);
        });
    }

    #[test]
    fn a_table_that_misses_what_was_added_while_it_was_made_is_not_kept() {
        let (vectors, index) = (vectors(), Arc::new(Index::default()));
        let taken = |team: &mut Team| team.table(&index).map_err(|parts| parts.additions);
        let additions = vectors.with("team", taken).unwrap_err();
        vectors.put("team", [(Digest::default(), Vector::of(&[1.0]))]);
        vectors.with("team", |team| team.keep_table(&index, &Arc::default(), additions));
        let additions = vectors.with("team", taken).expect_err("a late table is not kept");
        vectors.with("team", |team| team.keep_table(&index, &Arc::default(), additions));
        assert!(vectors.with("team", taken).is_ok());
    }
}
