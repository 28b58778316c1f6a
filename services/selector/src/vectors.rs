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
}

impl Team {
    fn of(&self, key: &Key) -> Option<ToolVectors> {
        let (full, short) = (self.made.get(&key.full)?, self.made.get(&key.short)?);
        Some(ToolVectors { full: Arc::clone(full), short: Arc::clone(short) })
    }

    fn table(&mut self, index: &Arc<Index>, dimension: usize) -> Arc<Table> {
        if let Some((of, table)) = &self.table
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(index))
        {
            return Arc::clone(table);
        }
        let mut table = Table::default();
        for (slot, entry) in index.entries() {
            table.slots.resize(slot + 1, None);
            table.slots[slot] = self.of(&entry.key);
            table.pending += usize::from(table.slots[slot].is_none());
        }
        table.full = Rows::new(dimension, table.slots.len());
        for vectors in &table.slots {
            table.full.push(vectors.as_ref().map(|vectors| vectors.full.as_ref()));
        }
        let table = Arc::new(table);
        self.table = Some((Arc::downgrade(index), Arc::clone(&table)));
        table
    }
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

/// Every team's vectors. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Vectors {
    pub(crate) embedding: Embedding,
    teams: Arc<Mutex<HashMap<String, Team>>>,
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
        let table = self.with(team, |team| team.table(index, embedder.dimension()));
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
        self.with(team, |team| {
            let table = team.table(index, embedder.dimension());
            let (pending, rows) = (table.pending, table.slots.len() * embedder.dimension());
            let made: usize = team.made.values().map(|vector| vector.dimension() + VECTOR_BYTES).sum();
            let bytes = made + rows;
            Figures { made: index.entries().count() - pending, pending, bytes }
        })
    }

    /// The texts of an index's tools that have no vector, each once.
    pub(crate) fn missing(&self, team: &str, index: &Index) -> BTreeMap<Digest, String> {
        let mut missing = BTreeMap::new();
        self.with(team, |team| {
            for (_, entry) in index.entries() {
                if team.of(&entry.key).is_some() {
                    continue;
                }
                let Some(definition) = &entry.tool.definition else { continue };
                let texts = Texts::of(definition);
                for (digest, text) in [(entry.key.full, texts.full), (entry.key.short, texts.short)] {
                    if !team.made.contains_key(&digest) {
                        missing.insert(digest, text);
                    }
                }
            }
        });
        missing
    }

    /// Takes vectors of a team.
    pub(crate) fn put(&self, team: &str, vectors: impl IntoIterator<Item = (Digest, Vector)>) {
        let vectors = vectors.into_iter().map(|(digest, vector)| (digest, Arc::new(vector)));
        self.with(team, |team| {
            team.made.extend(vectors);
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
        let mut teams = self.teams.lock().unwrap_or_else(PoisonError::into_inner);
        match teams.get_mut(team) {
            Some(team) => act(team),
            None => act(teams.entry(team.to_owned()).or_default()),
        }
    }
}
