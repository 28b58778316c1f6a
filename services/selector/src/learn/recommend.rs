//! The tools that have done best, by category of task. Only such as the caller may call, and only on evidence.

use std::collections::{HashMap, HashSet};

use ::rpc::Call;
use chrono::Utc;
use types::Category;

use super::{
    Counts, Direction, Learned, TeamLearned, ToolLearned, Trend, View,
    standing::{Typical, stand},
    statistics::wilson,
};
use crate::{
    Error,
    entry::Entry,
    index::{Index, Indexes},
    permit::Permissions,
    policy::Weights,
    screen::unavailable,
};

/// Fewest executions in a category that a recommendation may rest on.
const FEWEST: i64 = 5;

/// One recommended tool.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recommendation {
    pub category: Category,
    /// From 1.
    pub rank: usize,
    pub tool: String,
    pub suitability: f64,
    pub executions: i64,
    pub reason: String,
    pub trend: Trend,
}

/// A tool that may be recommended for a category.
struct Candidate<'a> {
    entry: &'a Entry,
    category: Category,
    learned: &'a ToolLearned,
    /// The team's calls of it for that category.
    counts: Counts,
}

/// The best tools of one category, or of each that has history.
pub(crate) async fn recommend(
    (learned, indexes, permissions): (&Learned, &Indexes, &Permissions),
    call: &Call,
    weights: Weights,
    category: Option<Category>,
    per_category: usize,
) -> Result<Vec<Recommendation>, Error> {
    let team = learned.team(&call.caller.team);
    let index = indexes.of(call).await?;
    let mut candidates = candidates(&index, &team, category);
    keep_permitted(permissions, call, &mut candidates).await?;
    let mut by_category: HashMap<Category, Vec<Candidate>> = HashMap::new();
    for candidate in candidates {
        by_category.entry(candidate.category).or_default().push(candidate);
    }
    let mut all: Vec<Recommendation> = by_category
        .into_values()
        .flat_map(|candidates| {
            let mut of = tell(&call.caller.agent, weights, candidates);
            of.sort_by(|left, right| {
                right.suitability.total_cmp(&left.suitability).then_with(|| left.tool.cmp(&right.tool))
            });
            of.truncate(per_category);
            of.into_iter().zip(1..).map(|(told, rank)| Recommendation { rank, ..told })
        })
        .collect();
    all.sort_by_key(|told| (told.category, told.rank));
    Ok(all)
}

fn candidates<'a>(index: &'a Index, team: &'a TeamLearned, asked: Option<Category>) -> Vec<Candidate<'a>> {
    let offered = index.entries().map(|(_, entry)| entry).filter(|entry| unavailable(entry).is_none());
    let of = |entry: &'a Entry| {
        let learned = team.get(&entry.name).map(AsRef::as_ref);
        let categories = learned.map(ToolLearned::categories).unwrap_or_default();
        let some =
            categories.into_iter().filter(move |category| asked.is_none_or(|asked| asked == *category));
        some.filter_map(move |category| {
            let learned = learned?;
            let counts = learned.of_category(category, None);
            (counts.executions >= FEWEST).then_some(Candidate { entry, category, learned, counts })
        })
    };
    offered.flat_map(of).collect()
}

/// One question for all of them.
async fn keep_permitted(
    permissions: &Permissions,
    call: &Call,
    candidates: &mut Vec<Candidate<'_>>,
) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let entries: Vec<&Entry> =
        candidates.iter().map(|it| it.entry).filter(|entry| seen.insert(entry.name.as_str())).collect();
    if entries.is_empty() {
        return Ok(());
    }
    let refusals = permissions.permit(call, entries.iter().copied()).await?;
    let allowed: HashSet<&str> = entries
        .iter()
        .zip(refusals)
        .filter(|(_, refusal)| refusal.is_none())
        .map(|(entry, _)| entry.name.as_str())
        .collect();
    candidates.retain(|it| allowed.contains(it.entry.name.as_str()));
    Ok(())
}

/// How the candidates of one category stand, held against each other alone.
fn tell(agent: &str, weights: Weights, candidates: Vec<Candidate<'_>>) -> Vec<Recommendation> {
    let category = candidates.first().map(|candidate| candidate.category);
    let view = View { agent, category, now: Utc::now() };
    let typical = Typical::of(candidates.iter().map(|candidate| candidate.learned), category);
    let recommendation = |Candidate { entry, category, learned, counts }: Candidate| {
        let standing = stand(learned, view, typical);
        Recommendation {
            category,
            rank: 0,
            tool: entry.name.clone(),
            suitability: standing.suitability(&weights),
            executions: counts.executions,
            reason: reason(&counts, standing.trend),
            trend: standing.trend,
        }
    };
    candidates.into_iter().map(recommendation).collect()
}

fn reason(counts: &Counts, trend: Trend) -> String {
    let (low, high) = wilson(counts.success_weight, counts.weight);
    let percent = |share: f64| (100.0 * share).round();
    let mut parts = vec![format!(
        "{} executions, {:.0} % succeeded lately (with 95 % certainty {:.0} to {:.0} %)",
        counts.executions,
        percent(counts.success_rate()),
        percent(low),
        percent(high)
    )];
    parts.push(format!("{:.0} ms on average", counts.average_ms()));
    if counts.average_cost() >= 0.5 {
        parts.push(format!("{:.0} micro-USD a call", counts.average_cost()));
    }
    if let Some(quality) = counts.average_quality() {
        let feedbacks = if counts.feedbacks == 1 { "feedback" } else { "feedbacks" };
        parts.push(format!("quality {quality:.2} by {} {feedbacks}", counts.feedbacks));
    }
    if matches!(trend.direction, Direction::Improving | Direction::Degrading) {
        let (direction, of) = (trend.direction.as_str(), trend.of);
        parts.push(format!("{direction} in {of} (p = {:.2e})", trend.p_value));
    }
    parts.join("; ")
}
