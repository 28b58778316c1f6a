//! How the selector is: in which mode it works and why, what it holds in memory, what it lost. Reads memory alone.

use crate::{fuse::Mode, select::Selector};

/// How it is, for one team.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Health {
    pub mode: Mode,
    pub configured: Mode,
    /// Empty when the two are the same.
    pub mode_reason: String,
    pub model_id: String,
    pub tools: usize,
    /// Whether the tools are still to be read from the registry.
    pub tools_loading: bool,
    pub vectors: usize,
    pub vectors_pending: usize,
    pub index_bytes: usize,
    pub selections_waiting: usize,
    pub selections_lost: u64,
    pub alarms: usize,
    pub model_state: &'static str,
}

/// How the selector is, for a team.
pub(crate) async fn health(selector: &Selector, team: &str) -> Health {
    let index = selector.indexes.team(team).await;
    let (embedding, vectors) = (selector.embedding(), selector.vectors.figures(team, &index));
    let learned = selector.learned.team(team);
    Health {
        mode: embedding.mode(),
        configured: embedding.configured(),
        mode_reason: embedding.reason().to_owned(),
        model_id: embedding.model_id().to_owned(),
        tools: index.entries().count(),
        tools_loading: !selector.indexes.catalog().is_loaded(),
        vectors: vectors.made,
        vectors_pending: vectors.pending,
        index_bytes: index.bytes() + vectors.bytes,
        selections_waiting: selector.selections.waiting(),
        selections_lost: selector.selections.lost(),
        alarms: learned.values().filter(|tool| tool.alarm.is_some()).count(),
        model_state: selector.help.state(team),
    }
}
