//! Which tools are out of the question, and why. Pure; permission is asked for after this, of the rest.

use std::collections::BTreeMap;

use proto::registry::v1::ToolStatus;
use types::{Category, Sensitivity};

use crate::{entry::Entry, history::TeamHistory, index::Index, select::Wanted};

/// Most misses that a refusal names.
const NAMED_MISSES: usize = 3;

/// Why a tool is left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Exclusion {
    /// Its status does not allow calls.
    Status(ToolStatus),
    /// It lacks these.
    Capability(Vec<String>),
    /// It is of another category.
    Category(Option<Category>),
    /// One call costs more: millionths of a US dollar.
    Cost(i64),
    /// It handles more sensitive data.
    Sensitivity(Sensitivity),
    /// It took longer on average: milliseconds.
    Latency(f64),
    /// More tools are left than permission can be asked for, and this one's words fit less.
    Limit,
    /// The caller may not call it: the permission reason.
    Permission(String),
}

impl Exclusion {
    /// The word it is counted under.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Status(_) => "status",
            Self::Capability(_) => "capability",
            Self::Category(_) => "category",
            Self::Cost(_) => "cost",
            Self::Sensitivity(_) => "sensitivity",
            Self::Latency(_) => "latency",
            Self::Limit => "limit",
            Self::Permission(reason) => reason,
        }
    }

    fn explain(&self, wanted: &Wanted) -> String {
        match self {
            Self::Status(status) => {
                let name = status.as_str_name().trim_start_matches("TOOL_STATUS_").to_lowercase();
                format!("its status is {name}")
            }
            Self::Capability(missing) => format!("lacks {}", missing.join(", ")),
            Self::Category(category) => {
                format!("is of category {}", category.map_or("custom", Category::as_str))
            }
            Self::Cost(cost) => {
                format!("costs {cost} micro-USD, limit {}", wanted.max_cost_micro_usd.unwrap_or_default())
            }
            Self::Sensitivity(own) => format!("handles {own} data"),
            Self::Latency(average) => {
                format!("takes {average:.0} ms on average, limit {}", wanted.max_latency_ms)
            }
            Self::Limit => "too many tools fit; say more of the task".to_owned(),
            Self::Permission(reason) => format!("not permitted: {reason}"),
        }
    }
}

/// A tool that is left out.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    pub slot: usize,
    pub exclusion: Exclusion,
}

/// Parts a team's tools into slots that may be offered and those that may not.
pub(crate) fn screen(index: &Index, wanted: &Wanted, history: &TeamHistory) -> (Vec<usize>, Vec<Miss>) {
    let (mut kept, mut misses) = (Vec::new(), Vec::new());
    for (slot, entry) in index.entries() {
        let average_ms = history.get(&entry.name).map(|tool| tool.team.average_ms());
        match exclusion(entry, wanted, average_ms) {
            None => kept.push(slot),
            Some(exclusion) => misses.push(Miss { slot, exclusion }),
        }
    }
    (kept, misses)
}

/// The first thing that speaks against a tool.
fn exclusion(entry: &Entry, wanted: &Wanted, average_ms: Option<f64>) -> Option<Exclusion> {
    if !matches!(entry.status, ToolStatus::Active | ToolStatus::Deprecated) {
        return Some(Exclusion::Status(entry.status));
    }
    let lacks = |capability: &&String| !entry.has(capability);
    let missing: Vec<String> = wanted.capabilities.iter().filter(lacks).cloned().collect();
    if !missing.is_empty() {
        return Some(Exclusion::Capability(missing));
    }
    if wanted.category.is_some_and(|asked| entry.category.unwrap_or(Category::Custom) != asked) {
        return Some(Exclusion::Category(entry.category));
    }
    if wanted.max_cost_micro_usd.is_some_and(|max| entry.cost_micro_usd > max) {
        return Some(Exclusion::Cost(entry.cost_micro_usd));
    }
    if wanted.max_sensitivity.is_some_and(|max| entry.sensitivity > max) {
        return Some(Exclusion::Sensitivity(entry.sensitivity));
    }
    #[allow(clippy::cast_precision_loss, reason = "a limit of 2^53 ms is none")]
    let too_slow = |average: &f64| wanted.max_latency_ms > 0 && *average > wanted.max_latency_ms as f64;
    average_ms.filter(too_slow).map(Exclusion::Latency)
}

/// How many were left out, by reason.
pub(crate) fn count(misses: &[Miss]) -> BTreeMap<String, i32> {
    let mut counts = BTreeMap::new();
    for miss in misses {
        *counts.entry(miss.exclusion.reason().to_owned()).or_default() += 1;
    }
    counts
}

/// Says that nothing is left, what came nearest by its words, and why it was left out.
pub(crate) fn explain_misses(index: &Index, scores: &[f32], misses: &[Miss], wanted: &Wanted) -> String {
    let mut near: Vec<(&Entry, &Miss)> =
        misses.iter().filter_map(|miss| Some((index.entry(miss.slot)?, miss))).collect();
    near.sort_by(|(left, left_miss), (right, right_miss)| {
        let by_words = scores[right_miss.slot].total_cmp(&scores[left_miss.slot]);
        by_words.then_with(|| left.name.cmp(&right.name))
    });
    if near.is_empty() {
        return "the team has no tools; register one, or an MCP server that has some".to_owned();
    }
    let named = near.iter().take(NAMED_MISSES);
    let named: Vec<_> =
        named.map(|(entry, miss)| format!("{} ({})", entry.name, miss.exclusion.explain(wanted))).collect();
    format!("none of {} tools may be offered; nearest: {}", near.len(), named.join(", "))
}
