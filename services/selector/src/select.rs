//! Selects the tool for a task: screen, fit, permit, rank, explain. Everything it reads is in memory,
//! but for the one question to the permissions service.

use std::collections::BTreeMap;

use ::rpc::Call;
use chrono::Utc;
use types::{Category, Sensitivity};
use uuid::Uuid;

use crate::{
    Error,
    entry::Entry,
    explain::explain,
    history::{History, TeamHistory},
    imply::imply,
    index::{Index, Indexes, Query},
    permit::{MAX_TOOLS, Permissions},
    rank::{Basis, Ranked, Scores, Weights, rank},
    screen::{Exclusion, Miss, count, explain_misses, screen},
    selections::Selections,
    store::SelectionRow,
};

/// Longest task, in bytes.
const MAX_TASK: usize = 32_768;
/// Longest task id, in bytes.
const MAX_TASK_ID: usize = 256;
/// Most capabilities one request may ask for.
const MAX_CAPABILITIES: usize = 32;
/// Most alternatives.
const MAX_ALTERNATIVES: usize = 20;

/// The task, and what the tool must satisfy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub task: String,
    /// In lower case.
    pub capabilities: Vec<String>,
    pub category: Option<Category>,
    /// 0: any.
    pub max_latency_ms: i64,
    pub max_cost_micro_usd: Option<i64>,
    pub max_sensitivity: Option<Sensitivity>,
    pub alternatives: usize,
    pub task_id: String,
}

impl Wanted {
    fn check(&self) -> Result<(), Error> {
        if self.task.trim().is_empty() && self.capabilities.is_empty() && self.category.is_none() {
            return Err(Error::invalid(
                "task",
                "is empty; say the task, a required capability or a category",
            ));
        }
        if self.task.len() > MAX_TASK {
            return Err(Error::invalid("task", format!("has {} bytes; at most {MAX_TASK}", self.task.len())));
        }
        if self.task_id.len() > MAX_TASK_ID || self.task_id.contains(char::is_control) {
            let description = format!("must be at most {MAX_TASK_ID} bytes without control characters");
            return Err(Error::invalid("task_id", description));
        }
        if self.capabilities.len() > MAX_CAPABILITIES || self.capabilities.iter().any(String::is_empty) {
            let description = format!("must be at most {MAX_CAPABILITIES} words, none empty");
            return Err(Error::invalid("required_capabilities", description));
        }
        if self.alternatives > MAX_ALTERNATIVES {
            return Err(Error::invalid("alternatives", format!("must be 0 (for 2) to {MAX_ALTERNATIVES}")));
        }
        let limits = [
            ("max_latency_ms", self.max_latency_ms),
            ("max_cost_micro_usd", self.max_cost_micro_usd.unwrap_or_default()),
        ];
        let negative = limits.into_iter().find(|(_, limit)| *limit < 0);
        negative.map_or(Ok(()), |(field, limit)| Err(Error::invalid(field, format!("is {limit}, below 0"))))
    }
}

/// One tool of the answer.
#[derive(Debug, Clone)]
pub(crate) struct Choice {
    pub name: String,
    pub tool_id: String,
    pub description: String,
    pub scores: Scores,
    pub reason: String,
    pub executions: i64,
}

/// The answer.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    pub id: Uuid,
    /// Best first; never empty.
    pub choices: Vec<Choice>,
    pub candidate_count: usize,
    pub excluded: BTreeMap<String, i32>,
}

/// Selects tools.
#[derive(Debug, Clone)]
pub(crate) struct Selector {
    pub indexes: Indexes,
    pub history: History,
    pub permissions: Permissions,
    pub selections: Selections,
    pub weights: Weights,
}

impl Selector {
    /// Ranks the tools that the caller may call for this task.
    pub(crate) async fn select(&self, call: &Call, wanted: Wanted) -> Result<Selection, Error> {
        wanted.check()?;
        let index = self.indexes.team(&call.caller.team).await;
        let history = self.history.team(&call.caller.team);
        let query = Query::new(&wanted.task);
        let lexical = index.score(&query);
        let (mut slots, mut misses) = screen(&index, &wanted, &history);
        limit(&mut slots, &mut misses, &lexical);
        self.keep_permitted(call, &index, &mut slots, &mut misses).await?;
        let excluded = count(&misses);
        if slots.is_empty() {
            let message = explain_misses(&index, &lexical, &misses, &wanted);
            return Err(Error::NoSuitableTool { message, excluded });
        }
        let choices = self.choose(call, &wanted, (&index, &query, &lexical, &history), &slots);
        let selection = Selection { id: types::new_id(), choices, candidate_count: slots.len(), excluded };
        self.selections.keep(SelectionRow::new(&call.caller, &wanted, &selection, Utc::now()));
        Ok(selection)
    }

    async fn keep_permitted(
        &self,
        call: &Call,
        index: &Index,
        slots: &mut Vec<usize>,
        misses: &mut Vec<Miss>,
    ) -> Result<(), Error> {
        if slots.is_empty() {
            return Ok(());
        }
        let tools = slots.iter().filter_map(|slot| index.entry(*slot));
        let mut refusals = self.permissions.permit(call, tools).await?.into_iter();
        slots.retain(|&slot| match refusals.next().flatten() {
            None => true,
            Some(reason) => {
                misses.push(Miss { slot, exclusion: Exclusion::Permission(reason) });
                false
            }
        });
        Ok(())
    }

    fn choose(
        &self,
        call: &Call,
        wanted: &Wanted,
        (index, query, lexical, history): (&Index, &Query, &[f32], &TeamHistory),
        slots: &[usize],
    ) -> Vec<Choice> {
        let asked = !wanted.capabilities.is_empty();
        let capabilities = if asked { wanted.capabilities.clone() } else { imply(&query.0) };
        let basis = Basis {
            index,
            query,
            lexical,
            capabilities: &capabilities,
            asked,
            history,
            agent: &call.caller.agent,
            weights: self.weights,
            now: Utc::now(),
        };
        // One more than asked for, so that a tool alone in the answer is still compared with the next.
        let ranked = rank(&basis, slots, wanted.alternatives + 2);
        let shown = ranked.len().min(wanted.alternatives + 1);
        (0..shown).map(|place| choice(&ranked[place], explain(&basis, &ranked, place))).collect()
    }
}

/// Leaves no more tools than permission can be asked for: those whose words fit best.
fn limit(slots: &mut Vec<usize>, misses: &mut Vec<Miss>, lexical: &[f32]) {
    if slots.len() > MAX_TOOLS {
        slots.sort_by(|left, right| lexical[*right].total_cmp(&lexical[*left]).then(left.cmp(right)));
        misses.extend(slots.drain(MAX_TOOLS..).map(|slot| Miss { slot, exclusion: Exclusion::Limit }));
    }
}

fn choice(ranked: &Ranked, reason: String) -> Choice {
    let entry: &Entry = ranked.entry;
    Choice {
        name: entry.name.clone(),
        tool_id: entry.tool.id.clone(),
        description: entry.description().to_owned(),
        scores: ranked.scores,
        reason,
        executions: ranked.history.as_ref().map_or(0, |counts| counts.executions),
    }
}
