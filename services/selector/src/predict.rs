//! What is likely to be called next, from the sequences seen: the caller's own, backed off to those of the team's other
//! agents. Pure. Must name no tool that the caller may not call.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::patterns::TeamSequences;

/// Most tools that are told.
const MOST: usize = 3;
/// Most that are looked at.
const LIKELY: usize = 32;
/// Fewest cases to tell of a tool.
const FEWEST_CASES: i64 = 3;
/// Steps of the caller that weigh as much as all that it sees of the others, and most that this weighs.
const BACK_OFF: f64 = 4.0;
/// Most that one agent's steps weigh in what another sees.
const MOST_OF_ONE: f64 = 20.0;

/// A tool that often follows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NextTool {
    pub name: String,
    /// Share of the cases in which it followed, the caller's own and recent ones counting more.
    pub probability: f64,
    /// Cases seen.
    pub count: i64,
}

/// What has followed a tool often enough, the likeliest first: more than are told, since the caller may not call all.
pub(crate) fn likely(
    sequences: &TeamSequences,
    (tool, agent): (&str, &str),
    now: DateTime<Utc>,
) -> Vec<NextTool> {
    let Some(agents) = sequences.get(tool) else { return Vec::new() };
    let weights = agents.iter().map(|(name, steps)| {
        let weights = steps.iter().map(|(tool, made)| (tool.as_str(), made.weight_as_of(now)));
        (name.as_str(), weights.collect::<BTreeMap<_, _>>())
    });
    let (own, others): (Vec<_>, Vec<_>) = weights.partition(|(name, _)| *name == agent);
    let own = own.into_iter().next().map(|(_, weights)| weights).unwrap_or_default();
    let others = together(&others.into_iter().map(|(_, weights)| weights).collect::<Vec<_>>());
    let (own_sum, others_sum) = (own.values().sum::<f64>(), others.values().sum::<f64>());
    // What the others have not done either backs nothing off.
    let back_off = BACK_OFF.min(others_sum);
    let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
    for (tool, made) in agents.values().flatten() {
        *counts.entry(tool).or_default() += made.count;
    }
    let mut found: Vec<NextTool> = counts
        .into_iter()
        .filter(|(_, count)| *count >= FEWEST_CASES)
        .map(|(tool, count)| {
            let of = |weights: &BTreeMap<&str, f64>| weights.get(tool).copied().unwrap_or(0.0);
            let of_others = if others_sum > 0.0 { of(&others) / others_sum } else { 0.0 };
            let whole = own_sum + back_off;
            let probability = if whole > 0.0 { (of(&own) + back_off * of_others) / whole } else { 0.0 };
            NextTool { name: tool.to_owned(), probability, count }
        })
        .filter(|next| next.probability > 0.0)
        .collect();
    found.sort_by(|left, right| {
        right.probability.total_cmp(&left.probability).then_with(|| left.name.cmp(&right.name))
    });
    found.truncate(LIKELY);
    found
}

/// Those of them that the caller may call, as many as are told.
pub(crate) fn next(likely: Vec<NextTool>, may_call: impl Fn(&str) -> bool) -> Vec<NextTool> {
    likely.into_iter().filter(|next| may_call(&next.name)).take(MOST).collect()
}

/// The steps of several agents, of which none weighs more than [`MOST_OF_ONE`], nor more than all the others together.
fn together<'a>(agents: &[BTreeMap<&'a str, f64>]) -> BTreeMap<&'a str, f64> {
    let sums: Vec<f64> =
        agents.iter().map(|weights| weights.values().sum::<f64>().min(MOST_OF_ONE)).collect();
    let all: f64 = sums.iter().sum();
    let mut together = BTreeMap::new();
    for (weights, sum) in agents.iter().zip(&sums) {
        let whole: f64 = weights.values().sum();
        let rest = all - sum;
        let most = if agents.len() > 1 { sum.min(rest) } else { *sum };
        for (tool, weight) in weights {
            *together.entry(*tool).or_default() += if whole > 0.0 { weight / whole * most } else { 0.0 };
        }
    }
    together
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{patterns::Sequences, store::patterns::TransitionRow};

    fn sequences(steps: &[(&str, &str, &str, i64)]) -> std::sync::Arc<TeamSequences> {
        let sequences = Sequences::default();
        let row = |&(agent, from, to, count): &(&str, &str, &str, i64)| {
            TransitionRow::new("team", (from, to), agent, count, DateTime::UNIX_EPOCH)
        };
        sequences.put(steps.iter().map(row).collect());
        sequences.team("team")
    }

    fn after(sequences: &TeamSequences, tool: &str, agent: &str) -> Vec<NextTool> {
        next(likely(sequences, (tool, agent), DateTime::UNIX_EPOCH), |_| true)
    }

    fn names(found: &[NextTool]) -> Vec<&str> {
        found.iter().map(|next| next.name.as_str()).collect()
    }

    #[test]
    fn the_callers_own_sequences_come_before_the_others_and_a_newcomer_has_the_others() {
        let seen = sequences(&[("me", "a", "b", 6), ("one", "a", "c", 5), ("two", "a", "c", 5)]);
        let mine = after(&seen, "a", "me");
        assert_eq!(names(&mine), ["b", "c"]);
        assert!((mine[0].probability - 0.6).abs() < 1e-9 && mine[0].count == 6, "6 of 6 + 4: {mine:?}");
        let new = after(&seen, "a", "new");
        assert_eq!(names(&new), ["c", "b"]);
        assert!((new[0].probability - 10.0 / 16.0).abs() < 1e-9, "{new:?}");
        assert!(after(&seen, "b", "me").is_empty());
    }

    #[test]
    fn fewer_than_three_cases_and_what_may_not_be_called_are_not_told_and_three_are_enough() {
        let seen = sequences(&[
            ("me", "a", "rare", 2),
            ("me", "a", "b", 3),
            ("me", "a", "c", 4),
            ("me", "a", "d", 5),
            ("me", "a", "e", 6),
            ("me", "a", "secret", 90),
        ]);
        let found = next(likely(&seen, ("a", "me"), DateTime::UNIX_EPOCH), |tool| tool != "secret");
        assert_eq!(names(&found), ["e", "d", "c"]);
        let rare =
            next(likely(&seen, ("a", "me"), DateTime::UNIX_EPOCH), |tool| tool == "rare" || tool == "b");
        assert_eq!(names(&rare), ["b"]);
    }

    #[test]
    fn a_flood_of_one_agent_is_at_most_half_of_what_another_sees() {
        let honest = [("one", "a", "good", 8), ("two", "a", "good", 8)];
        let flood = ("bad", "a", "evil", 1_000_000);
        let found = after(&sequences(&[honest[0], honest[1], flood]), "a", "new");
        assert_eq!(names(&found), ["evil", "good"]);
        assert!(found[0].probability <= 0.5 + 1e-9, "{found:?}");
        let mine = after(&sequences(&[("me", "a", "good", 8), flood]), "a", "me");
        assert_eq!(names(&mine), ["good", "evil"], "own sequences first");
        assert!(mine[1].probability <= 1.0 / 3.0 + 1e-9, "4 of 8 + 4: {mine:?}");
    }

    #[test]
    fn what_was_long_ago_counts_less() {
        let seen = Sequences::default();
        let week = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(7);
        seen.put(vec![
            TransitionRow::new("team", ("a", "old"), "me", 8, DateTime::UNIX_EPOCH),
            TransitionRow::new("team", ("a", "new"), "me", 5, week),
        ]);
        let found = next(likely(&seen.team("team"), ("a", "me"), week), |_| true);
        assert_eq!(names(&found), ["new", "old"]);
        assert!((found[1].probability - 4.0 / 9.0).abs() < 1e-9, "{found:?}");
    }
}
