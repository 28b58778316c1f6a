//! Counts by tool since the start of the process. Must never grow without bound: tools beyond a fixed number
//! are not counted.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{Cached, Found, Key, key::tool_id};

/// Tools that are counted, over all teams.
const MAX_TOOLS: usize = 10_000;

/// The counts of one tool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Id of the team.
    pub team: String,
    /// Name of the tool.
    pub tool: String,
    /// Fresh results served, negative ones not included.
    pub hits: u64,
    /// Entries served for degradation.
    pub stale_hits: u64,
    /// Results of nearly the same text served.
    pub semantic_hits: u64,
    /// Kept errors served.
    pub negative_hits: u64,
    /// Looks that found nothing fresh.
    pub misses: u64,
    /// Calls answered by another one in flight.
    pub coalesced: u64,
    /// Answers kept.
    pub puts: u64,
    /// Invalidations, of the whole tool or of single arguments.
    pub invalidations: u64,
    /// Entries now; only in memory.
    pub entries: Option<u64>,
    /// Their bytes, keys included; only in memory.
    pub bytes: Option<u64>,
}

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    Hit,
    StaleHit,
    SemanticHit,
    NegativeHit,
    Miss,
    Coalesced,
    Put,
    Invalidation,
}

const EVENTS: usize = Event::Invalidation as usize + 1;

impl Event {
    /// What a look for a fresh entry counts as.
    pub(crate) fn of(found: Option<&Found>) -> Self {
        match found.map(|found| &found.value) {
            None => Self::Miss,
            Some(Cached::Success(_)) => Self::Hit,
            Some(Cached::Refusal(_)) => Self::NegativeHit,
        }
    }
}

#[derive(Debug)]
struct Counters {
    team: String,
    tool: String,
    counts: [AtomicU64; EVENTS],
}

impl Counters {
    fn stats(&self) -> Stats {
        let count = |event: Event| self.counts[event as usize].load(Ordering::Relaxed);
        Stats {
            team: self.team.clone(),
            tool: self.tool.clone(),
            hits: count(Event::Hit),
            stale_hits: count(Event::StaleHit),
            semantic_hits: count(Event::SemanticHit),
            negative_hits: count(Event::NegativeHit),
            misses: count(Event::Miss),
            coalesced: count(Event::Coalesced),
            puts: count(Event::Put),
            invalidations: count(Event::Invalidation),
            entries: None,
            bytes: None,
        }
    }
}

/// The counts of all tools. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    tools: Arc<RwLock<HashMap<String, Arc<Counters>>>>,
}

impl Statistics {
    pub(crate) fn count(&self, key: &Key, event: Event) {
        self.count_tool(&key.team, &key.tool, event);
    }

    pub(crate) fn count_tool(&self, team: &str, tool: &str, event: Event) {
        if let Some(counters) = self.counters(team, tool) {
            counters.counts[event as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counters(&self, team: &str, tool: &str) -> Option<Arc<Counters>> {
        let id = tool_id(team, tool);
        if let Some(counters) = self.tools.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Some(counters.clone());
        }
        let mut tools = self.tools.write().unwrap_or_else(PoisonError::into_inner);
        if tools.len() >= MAX_TOOLS && !tools.contains_key(&id) {
            return None;
        }
        let new = || Counters { team: team.to_owned(), tool: tool.to_owned(), counts: Default::default() };
        Some(tools.entry(id).or_insert_with(|| Arc::new(new())).clone())
    }

    /// The counts of a team's tools, or of one of them, in order of their names.
    pub(crate) fn of(&self, team: &str, tool: Option<&str>) -> Vec<Stats> {
        let tools = self.tools.read().unwrap_or_else(PoisonError::into_inner);
        let wanted = |counters: &&Arc<Counters>| {
            counters.team == team && tool.is_none_or(|tool| counters.tool == tool)
        };
        let mut all: Vec<Stats> = tools.values().filter(wanted).map(|counters| counters.stats()).collect();
        all.sort_unstable_by(|one, other| one.tool.cmp(&other.tool));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tools_beyond_the_bound_are_not_counted() {
        let statistics = Statistics::default();
        for number in 0..=MAX_TOOLS {
            statistics.count_tool("team", &number.to_string(), Event::Miss);
        }
        statistics.count_tool("team", "0", Event::Hit);
        assert_eq!(statistics.of("team", None).len(), MAX_TOOLS);
        assert_eq!(statistics.of("team", Some("0"))[0].hits, 1);
        assert!(statistics.of("other", None).is_empty());
    }
}
