//! What happens to an execution while it runs: progress and log lines of its tool, and attempts that failed.
//! Numbered, sanitised and kept, so that a watcher may come late or come back. Never holds up a run.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::Utc;
use redact::{Added, Rules};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ledger::Ledger,
    outcome::Attempt,
    store::{Execution, ProgressEvent},
};

/// Most events kept of one run; a tool that says more is not heard any further.
const MAX_EVENTS: i64 = 2_000;
/// Sequence numbers that one taking-up of an execution has, so that the next one's are higher.
pub(crate) const EPOCH: i64 = 1_000_000;
/// Longest text kept, in characters.
const MAX_TEXT: usize = 2_000;
/// How long an outcome waits for the events before it; without a database there are none to wait for.
const FLUSH: Duration = Duration::from_secs(2);

/// How far a tool is; a total of 0 is not known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub done: f64,
    pub total: f64,
    pub message: String,
}

/// What a tool has to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    pub level: String,
    pub logger: String,
    pub text: String,
}

/// Takes the events of one run.
#[derive(Debug)]
pub(crate) struct Sink {
    to: Option<(Ledger, String, Uuid)>,
    first: i64,
    /// Under which the run is stored; of its fallbacks, too, once they were asked.
    rules: Mutex<Arc<Rules>>,
    /// Events so far. Held while one is handed over, so that they arrive in the order of their numbers.
    count: Mutex<i64>,
}

impl Sink {
    /// For the run of an execution under its present lease.
    pub(crate) fn new(ledger: &Ledger, execution: &Execution, rules: Arc<Rules>) -> Self {
        let first = i64::from(execution.lease_epoch) * EPOCH;
        let to = Some((ledger.clone(), execution.team_id.clone(), execution.id));
        Self { to, first, rules: Mutex::new(rules), count: Mutex::new(0) }
    }

    /// Takes everything and keeps nothing.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { to: None, first: 0, rules: Mutex::default(), count: Mutex::new(0) }
    }

    /// The rules under which the run is stored.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on what another tool adds to the rules holds as well.
    pub(crate) fn keep_to(&self, added: &Added) {
        if !added.is_empty() {
            let mut rules = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
            *rules = Arc::new(rules.with(added));
        }
    }

    /// How far the tool is; a total of 0 is not known.
    pub(crate) fn progress(&self, done: f64, total: f64, message: &str) {
        let known = |number: f64| if number.is_finite() { number } else { 0.0 };
        let (done, total) = (known(done), known(total));
        self.send("progress", || json(&Progress { done, total, message: self.clean(message) }));
    }

    /// What the tool has to say.
    pub(crate) fn log(&self, level: &str, logger: &str, text: &str) {
        self.send("log", || {
            json(&Line { level: self.clean(level), logger: self.clean(logger), text: self.clean(text) })
        });
    }

    /// An attempt that failed and is followed by another.
    pub(crate) fn attempt(&self, attempt: &Attempt) {
        self.send("attempt", || json(attempt));
    }

    /// Waits until everything so far is written or given up. Whoever sees the outcome must see what came before
    /// it, and the two go different ways. Costs nothing where nothing was said.
    pub(crate) async fn flush(&self) {
        let Some((ledger, ..)) = &self.to else { return };
        let is_silent = *self.count.lock().unwrap_or_else(PoisonError::into_inner) == 0;
        if !is_silent {
            // Entries are written in their order: when this empty one has been, the events before it have too.
            let _ = tokio::time::timeout(FLUSH, ledger.events(Vec::new())).await;
        }
    }

    /// A text of the tool as it may be kept: cut, sanitised, and without the NUL that `PostgreSQL` does not take.
    fn clean(&self, text: &str) -> String {
        self.rules().excerpt(&text.replace('\0', ""), MAX_TEXT)
    }

    fn send(&self, kind: &'static str, body: impl FnOnce() -> String) {
        let Some((ledger, team_id, execution_id)) = &self.to else { return };
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        if *count >= MAX_EVENTS {
            return;
        }
        *count += 1;
        ledger.progress(ProgressEvent {
            team_id: team_id.clone(),
            execution_id: *execution_id,
            sequence: self.first + *count,
            kind: kind.to_owned(),
            body_json: body(),
            create_time: Utc::now(),
        });
    }
}

/// A struct of texts and finite numbers has a JSON form.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
