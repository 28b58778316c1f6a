//! What a task is read as: its words, its clauses, and their vectors where there is a model.

use std::{sync::Arc, time::Duration};

use embed::Vector;

use crate::{embedding::Embedding, fuse::Mode, index::Query, segments::clauses};

/// Longest wait for the vectors of a task: with more load than there are processors, words alone must do.
const PATIENCE: Duration = Duration::from_secs(1);
/// The part of the caller's time that may pass in waiting for them: a quarter.
const SHARE_OF_TIME: u32 = 4;

/// The vectors of a task.
#[derive(Debug, Clone)]
pub(crate) struct TaskVectors {
    pub whole: Arc<Vector>,
    /// Of its clauses; none when it has but one.
    pub clauses: Vec<Arc<Vector>>,
}

/// A task as it was read.
#[derive(Debug)]
pub(crate) struct Reading {
    pub query: Query,
    /// `None`: it is matched by words alone.
    pub vectors: Option<TaskVectors>,
    /// What it is matched with.
    pub mode: Mode,
    /// Why not with what was configured; empty when it is.
    pub mode_reason: String,
    /// Whether it says anything.
    pub is_empty: bool,
}

impl Reading {
    /// Reads a task. Its vectors are waited for only for a while.
    pub(crate) async fn of(task: &str, embedding: &Embedding, time_left: Duration) -> Self {
        let task = task.trim();
        let clauses = clauses(task);
        let (mut mode, mut mode_reason) = (embedding.mode(), embedding.reason().to_owned());
        let mut vectors = None;
        if mode != Mode::Lexical && !task.is_empty() {
            let texts: Vec<&str> = std::iter::once(task).chain(clauses.iter().copied()).collect();
            match embedding.vectors(&texts, PATIENCE.min(time_left / SHARE_OF_TIME)).await {
                Ok(made) => vectors = split(made),
                Err(why) => (mode, mode_reason) = (Mode::Lexical, why.to_owned()),
            }
        }
        Self { query: Query::new(task), vectors, mode, mode_reason, is_empty: task.is_empty() }
    }
}

fn split(made: Vec<Arc<Vector>>) -> Option<TaskVectors> {
    let mut made = made.into_iter();
    let whole = made.next()?;
    Some(TaskVectors { whole, clauses: made.collect() })
}
