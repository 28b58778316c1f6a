//! Which tools are out of the question, and why. Pure; permission is asked for after this, of the rest.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use proto::registry::v1::{ServerState, ToolStatus};
use types::{Category, Sensitivity};

use crate::{
    entry::Entry,
    index::Index,
    learn::{TeamLearned, ToolLearned, WINDOW_DAYS},
    wanted::Wanted,
};

/// What tools are counted under that fit less than the most that are candidates.
const LIMIT: &str = "limit";
/// Least calls, as they count for the ranking, that put a tool out for its durations.
const FEWEST: f64 = 5.0;

/// Why a tool is left out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Exclusion {
    /// Its status does not allow calls.
    Status(ToolStatus),
    /// Its server does not answer.
    Health,
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
    /// It often takes longer than there is time: 95th percentile in milliseconds.
    Time(f64),
    /// The caller may not call it: the permission reason.
    Permission(String),
    /// The task fits even the best less than it must: its semantic score, and the least; `None` where words speak alone
    /// and it has none of the task's.
    Fit(f64, Option<f64>),
}

impl Exclusion {
    /// The word it is counted under.
    pub(crate) fn reason(&self) -> &str {
        match self {
            Self::Status(_) => "status",
            Self::Health => "health",
            Self::Capability(_) => "capability",
            Self::Category(_) => "category",
            Self::Cost(_) => "cost",
            Self::Sensitivity(_) => "sensitivity",
            Self::Latency(_) => "latency",
            Self::Time(_) => "time",
            Self::Permission(reason) => reason,
            Self::Fit(..) => "fit",
        }
    }

    /// Why in words, and what would change it.
    pub(crate) fn explain(&self, wanted: &Wanted) -> String {
        match self {
            Self::Status(status) => {
                let name = status.as_str_name().trim_start_matches("TOOL_STATUS_").to_lowercase();
                format!("its status is {name}; an operator can make it active")
            }
            Self::Health => "its server does not answer; try again when it does".to_owned(),
            Self::Capability(missing) => {
                format!("lacks {}; ask for fewer capabilities", missing.join(", "))
            }
            Self::Category(category) => {
                let own = category.map_or("custom", Category::as_str);
                format!("is of category {own}; ask for that, or for none")
            }
            Self::Cost(cost) => {
                let limit = wanted.max_cost_micro_usd.unwrap_or_default();
                format!("costs {cost} micro-USD, limit {limit}; raise max_cost_micro_usd")
            }
            Self::Sensitivity(own) => format!("handles {own} data; raise max_sensitivity"),
            Self::Latency(average) => {
                let limit = wanted.max_latency_ms;
                format!("takes {average:.0} ms on average, limit {limit}; raise max_latency_ms")
            }
            Self::Time(p95) => {
                let limit = wanted.available_time_ms;
                format!("takes up to {p95:.0} ms (95 %), and there are {limit}; allow more available_time_ms")
            }
            Self::Permission(reason) => format!("not permitted: {reason}; ask for access to it"),
            Self::Fit(_, None) => "has no word of the task; say it in other words".to_owned(),
            Self::Fit(score, Some(least)) => {
                format!("fits by {score:.2}, at least {least:.2} is asked; say more of the task")
            }
        }
    }
}

/// A tool that is left out.
#[derive(Debug, Clone)]
pub(crate) struct Miss {
    pub slot: usize,
    pub exclusion: Exclusion,
}

impl Miss {
    /// Whether the caller may not call it.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self.exclusion, Exclusion::Permission(_))
    }
}

/// Parts a team's tools into slots that may be offered and those that may not.
pub(crate) fn screen(
    index: &Index,
    wanted: &Wanted,
    learned: &TeamLearned,
    now: DateTime<Utc>,
) -> (Vec<usize>, Vec<Miss>) {
    let (mut kept, mut misses) = (Vec::new(), Vec::new());
    for (slot, entry) in index.entries() {
        match exclusion(entry, wanted, learned, now) {
            None => kept.push(slot),
            Some(exclusion) => misses.push(Miss { slot, exclusion }),
        }
    }
    (kept, misses)
}

/// What speaks against a tool whatever the task is.
pub(crate) fn unavailable(entry: &Entry) -> Option<Exclusion> {
    if !matches!(entry.status, ToolStatus::Active | ToolStatus::Deprecated) {
        return Some(Exclusion::Status(entry.status));
    }
    (entry.server == ServerState::Unavailable).then_some(Exclusion::Health)
}

/// The first thing that speaks against a tool.
fn exclusion(entry: &Entry, wanted: &Wanted, learned: &TeamLearned, now: DateTime<Utc>) -> Option<Exclusion> {
    let lacks = |capability: &&String| !entry.has(capability);
    let missing = || -> Vec<String> { wanted.capabilities.iter().filter(lacks).cloned().collect() };
    unavailable(entry)
        .or_else(|| Some(missing()).filter(|missing| !missing.is_empty()).map(Exclusion::Capability))
        .or_else(|| {
            let own = entry.category.unwrap_or(Category::Custom);
            wanted.category.is_some_and(|asked| own != asked).then_some(Exclusion::Category(entry.category))
        })
        .or_else(|| {
            let cost = entry.cost_micro_usd;
            wanted.max_cost_micro_usd.is_some_and(|max| cost > max).then_some(Exclusion::Cost(cost))
        })
        .or_else(|| {
            let own = entry.sensitivity;
            wanted.max_sensitivity.is_some_and(|max| own > max).then_some(Exclusion::Sensitivity(own))
        })
        .or_else(|| {
            let is_limited = wanted.max_latency_ms > 0 || wanted.available_time_ms > 0;
            too_slow(wanted, learned.get(&entry.name).filter(|_| is_limited)?, now)
        })
}

/// A tool that was hardly called of late is not known to be slow, and no agent's calls say more of it than they do in
/// the ranking. So a tool that was put out comes back, and is tried again.
fn too_slow(wanted: &Wanted, learned: &ToolLearned, now: DateTime<Utc>) -> Option<Exclusion> {
    let exceeds = |limit: i64, value: f64| limit > 0 && value > limit as f64;
    let team = learned.pool(wanted.category).as_of(now);
    let is_recent = now - learned.team.decay_time <= TimeDelta::days(WINDOW_DAYS);
    let average = (is_recent && team.weight >= FEWEST).then(|| team.average_ms());
    if let Some(average) = average.filter(|average| exceeds(wanted.max_latency_ms, *average)) {
        return Some(Exclusion::Latency(average));
    }
    let lately = &learned.lately;
    let p95 = lately.p95_ms.filter(|_| lately.calls >= FEWEST).or(average)?;
    exceeds(wanted.available_time_ms, p95).then_some(Exclusion::Time(p95))
}

/// How many were left out, by reason; those beyond the most that are
/// candidates, which fit less, as `limit`.
pub(crate) fn count(misses: &[Miss], surplus: usize) -> BTreeMap<String, i32> {
    let mut counts = BTreeMap::new();
    for miss in misses {
        *counts.entry(miss.exclusion.reason().to_owned()).or_default() += 1;
    }
    if surplus > 0 {
        counts.insert(LIMIT.to_owned(), i32::try_from(surplus).unwrap_or(i32::MAX));
    }
    counts
}

/// Says why nothing is offered.
pub(crate) fn unsuitable(counts: &BTreeMap<String, i32>) -> String {
    let all: i32 = counts.values().sum();
    if all == 0 {
        return "the team has no tools; register one, or an MCP server that has some".to_owned();
    }
    let mut reasons: Vec<_> = counts.iter().collect();
    reasons.sort_by(|left, right| right.1.cmp(left.1).then(left.0.cmp(right.0)));
    let reasons: Vec<String> =
        reasons.into_iter().map(|(reason, count)| format!("{count} by {reason}")).collect();
    format!("none of {all} tools may be offered: {}", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learn::{Changes, Counts, Learned, RecordRow};

    fn called(agent: &str, weight: f64, average_ms: f64) -> RecordRow {
        let duration_ms = weight * average_ms;
        RecordRow {
            team_id: "t".into(),
            tool_name: "x".into(),
            agent_id: agent.into(),
            category: Category::Custom,
            counts: Counts { executions: 1, weight, duration_ms, ..Counts::default() },
            changed_in: 1,
        }
    }

    /// Whether a tool with these calls is out for its average duration some days later.
    fn is_out(records: Vec<RecordRow>, days: i64) -> bool {
        let learned = Learned::default();
        learned.put(Changes { records, ..Changes::default() });
        let wanted = Wanted { max_latency_ms: 1_000, ..Wanted::default() };
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(days);
        too_slow(&wanted, &learned.team("t")["x"], now).is_some()
    }

    #[test]
    fn a_tool_is_slow_by_enough_calls_of_late_and_by_no_one_agents_flood() {
        assert!(!is_out(vec![called("a", 4.9, 9_000.0)], 0), "too few calls");
        assert!(is_out(vec![called("a", 6.0, 9_000.0)], 0));
        assert!(!is_out(vec![called("a", 6.0, 9_000.0)], 7), "half of them by now");
        let many = || (0..9).map(|agent| called(&agent.to_string(), 20.0, 9_000.0)).collect();
        assert!(is_out(many(), 14));
        assert!(!is_out(many(), 15), "nobody has called it for long");
        let others = (0..20).map(|agent| called(&agent.to_string(), 5.0, 50.0));
        assert!(!is_out(others.chain([called("flood", 500.0, 5_000.0)]).collect(), 0));
    }
}
