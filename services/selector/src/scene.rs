//! All that one selection looks at, taken once at its start: what changes meanwhile is for the next.

use std::sync::Arc;

use ::rpc::Call;
use chrono::{DateTime, Utc};
use types::Category;

use crate::{
    fuse::{Fused, FusionWeights, fuse},
    index::{Among, Index},
    learn::{TeamLearned, View},
    patterns::TeamSequences,
    pins::Pin,
    policy::Weights,
    rank::Basis,
    reading::Reading,
    select::Needs,
    signals::{Source, signals},
    vectors::Table,
    wanted::Wanted,
};

/// What a tool's fit is when the task says nothing.
const NEUTRAL: f64 = 0.5;

/// One selection's view of its team.
pub(crate) struct Scene<'a> {
    pub call: &'a Call,
    pub wanted: &'a Wanted,
    pub index: Arc<Index>,
    pub table: Arc<Table>,
    pub learned: Arc<TeamLearned>,
    pub sequences: Arc<TeamSequences>,
    pub pins: Arc<Vec<Pin>>,
    pub reading: Reading,
    pub needs: Needs,
    pub weights: Weights,
    pub policy_version: i32,
    /// What the vectors are made by; empty without a model.
    pub model_id: String,
    pub now: DateTime<Utc>,
}

impl Scene<'_> {
    pub(crate) fn agent(&self) -> &str {
        &self.call.caller.agent
    }

    pub(crate) fn basis<'a>(&'a self, among: &'a Among) -> Basis<'a> {
        Basis {
            index: &self.index,
            among,
            query: &self.reading.query,
            capabilities: &self.needs.capabilities,
            asked: self.needs.asked,
            weights: self.weights,
        }
    }

    /// For whom and for what kind of task history is asked.
    pub(crate) fn view(&self, category: Option<Category>) -> View<'_> {
        View { agent: self.agent(), category, now: self.now }
    }

    /// Where the signals of its tools are read.
    pub(crate) fn source(&self) -> Source<'_> {
        Source {
            index: &self.index,
            table: &self.table,
            learned: &self.learned,
            reading: &self.reading,
            agent: self.agent(),
            model_id: &self.model_id,
        }
    }

    /// How well the task fits these slots' tools, in their order; neutral when it says nothing. How rare a word is counts
    /// among `among`.
    pub(crate) fn fit(&self, slots: &[usize], among: &Among) -> Vec<Fused> {
        let signals = signals(&self.source(), slots, among);
        let mut fused = fuse(&signals, self.reading.mode, &FusionWeights::default());
        if self.reading.is_empty {
            for fused in &mut fused {
                fused.semantic = NEUTRAL;
            }
        }
        fused
    }
}
