//! Where a watch stands, and the part of it before its snapshot's end. Decides what a snapshot adds to and what it
//! replaces; must never let an older state of a tool stand in for a newer one of the same history.

use std::{collections::HashMap, sync::Arc};

use proto::registry::v1::Tool;
use tokio::time::Instant;

use crate::TeamTools;

/// How far the copy is.
#[derive(Debug, Default)]
pub(crate) struct Position {
    /// Everything up to here is known.
    pub(crate) revision: i64,
    /// When everything is to be read again.
    pub(crate) reload_at: Option<Instant>,
}

impl Position {
    /// The revision to ask from: 0 when nothing is known, or what is known is old.
    pub(crate) fn from(&self, now: Instant) -> i64 {
        if self.reload_at.is_some_and(|at| at > now) { self.revision } else { 0 }
    }

    /// Waits until what is known is old.
    pub(crate) async fn is_old(&self) {
        match self.reload_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }
}

/// What a watch sent before its snapshot ended.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) tools: Vec<Tool>,
    /// The revision that was asked from.
    from: i64,
    /// What was known when it was asked.
    known: i64,
}

impl Snapshot {
    pub(crate) fn new(from: i64, known: i64) -> Self {
        Self { tools: Vec::new(), from, known }
    }

    /// Whether it holds everything there is at its end: that was asked for, or the registry is at an earlier
    /// revision than we are and so has another history.
    pub(crate) fn is_whole(&self, revision: i64) -> bool {
        self.from == 0 || revision < self.from
    }

    /// The tools of the snapshot, with those that were learned of in another way while it came.
    pub(crate) fn replace(
        self,
        before: HashMap<String, Arc<TeamTools>>,
        revision: i64,
    ) -> HashMap<String, Arc<TeamTools>> {
        let is_same_history = revision >= self.known;
        let mut teams: HashMap<String, TeamTools> = HashMap::new();
        for tool in self.tools {
            let Some(name) = tool.definition.as_ref().map(|definition| definition.name.clone()) else {
                continue;
            };
            teams.entry(tool.team_id.clone()).or_default().insert(name, Arc::new(tool));
        }
        for (team, tools) in before {
            let newer = tools.iter().filter(|(_, tool)| is_same_history && tool.revision > revision);
            for (name, tool) in newer {
                teams.entry(team.clone()).or_default().insert(name.clone(), Arc::clone(tool));
            }
        }
        teams.into_iter().map(|(team, tools)| (team, Arc::new(tools))).collect()
    }
}
