//! What a team's agents know of a tool, put together so that none of them can drown the others. Pure.
//!
//! An agent brings at most 20 executions; and beyond its first 10, no more than all others bring together. So a flood of
//! one agent is worth 10 executions, or half of all. Up to 10 it counts whoever else is there: otherwise the first
//! success of a newcomer would lower a tool that another has proven, and one more success must never lower a tool. (Where
//! others' successes let in more of an agent's failures, they bring as many successes themselves: the share of failures
//! cannot rise above the neutral half, which is what the pool is held against.)

use std::collections::HashMap;

use types::Category;

use super::{counts::Counts, trend::BUCKETS};

/// Executions of one level of knowledge that weigh as much as what the next one says.
pub(crate) const BACK_OFF: f64 = 4.0;
/// Most executions, and feedbacks, that one agent brings.
const MOST: f64 = 20.0;
/// Those that count whoever else is there.
const FREE: f64 = 10.0;

/// The calls of one agent, by category of task.
pub(crate) type ByCategory = HashMap<Category, Counts>;

/// One agent's calls for one category, and of its other calls what they are worth for it: as much as `BACK_OFF`
/// executions at most. Its feedback counts whatever the category. All as of one time.
fn for_category(calls: &ByCategory, category: Option<Category>) -> Counts {
    let (mut own, mut others) = (Counts::default(), Counts::default());
    for (of, counts) in calls {
        if Some(*of) == category { own.add(counts) } else { others.add(counts) }
    }
    let share = if others.weight > BACK_OFF { BACK_OFF / others.weight } else { 1.0 };
    // Without a category, every call is as near.
    let share = if category.is_none() { 1.0 } else { share };
    let quality = (others.quality_weight, others.quality);
    scale(&mut others, share, 1.0);
    (others.quality_weight, others.quality) = quality;
    own.add(&others);
    own
}

/// What all agents know of the tool for tasks of one category.
pub(crate) fn pool<'a>(agents: impl Iterator<Item = &'a ByCategory>, category: Option<Category>) -> Counts {
    let mut brought: Vec<Counts> = agents.map(|calls| for_category(calls, category)).collect();
    let executions = shares(&brought.iter().map(|counts| counts.weight).collect::<Vec<_>>(), MOST, FREE);
    let feedbacks =
        shares(&brought.iter().map(|counts| counts.quality_weight).collect::<Vec<_>>(), MOST, FREE);
    let mut all = Counts::default();
    for (counts, (execution, feedback)) in brought.iter_mut().zip(executions.into_iter().zip(feedbacks)) {
        scale(counts, execution, feedback);
        all.add(counts);
    }
    all
}

/// The agents' calls by duration, of each as many as it brings to the pool.
pub(crate) fn pool_durations(agents: &[[f64; BUCKETS]]) -> [f64; BUCKETS] {
    let weights: Vec<f64> = agents.iter().map(|calls| calls.iter().sum()).collect();
    let mut all = [0.0; BUCKETS];
    for (calls, share) in agents.iter().zip(shares(&weights, MOST, FREE)) {
        all.iter_mut().zip(calls).for_each(|(all, calls)| *all += share * calls);
    }
    all
}

/// Which share of what each brings is taken: of no one more than `most`; beyond `free`, no more than all others bring.
pub(crate) fn shares(weights: &[f64], most: f64, free: f64) -> Vec<f64> {
    let all: f64 = weights.iter().map(|weight| weight.min(most)).sum();
    let share = |weight: &f64| {
        let others = all - weight.min(most);
        let taken = weight.min(most).min(others.max(free));
        if *weight > 0.0 { taken / weight } else { 0.0 }
    };
    weights.iter().map(share).collect()
}

fn scale(counts: &mut Counts, executions: f64, feedbacks: f64) {
    counts.weight *= executions;
    counts.success_weight *= executions;
    counts.duration_ms *= executions;
    counts.cost_micro_usd *= executions;
    counts.quality_weight *= feedbacks;
    counts.quality *= feedbacks;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_no_one_more_than_twenty_and_beyond_ten_no_more_than_of_all_others() {
        let taken = |weights: &[f64]| -> Vec<f64> {
            shares(weights, MOST, FREE).iter().zip(weights).map(|(share, weight)| share * weight).collect()
        };
        assert_eq!(taken(&[5.0]), [5.0]);
        assert_eq!(taken(&[20.0]), [10.0], "alone, ten");
        assert_eq!(taken(&[20.0, 3.0]), [10.0, 3.0]);
        assert_eq!(taken(&[20.0, 15.0]), [15.0, 15.0], "half of all");
        assert_eq!(taken(&[50.0, 20.0, 20.0]), [20.0, 20.0, 20.0]);
        assert_eq!(taken(&[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn other_categories_are_worth_four_executions() {
        let counts =
            |weight: f64, success_weight: f64| Counts { weight, success_weight, ..Counts::default() };
        let calls =
            HashMap::from([(Category::FileIo, counts(10.0, 10.0)), (Category::Custom, counts(12.0, 0.0))]);
        let files = for_category(&calls, Some(Category::FileIo));
        assert!(
            (files.weight - 14.0).abs() < 1e-9 && (files.success_weight - 10.0).abs() < 1e-9,
            "{files:?}"
        );
        let unseen = for_category(&calls, Some(Category::WebSearch));
        assert!((unseen.weight - 4.0).abs() < 1e-9, "{unseen:?}");
        let any = for_category(&calls, None);
        assert!((any.weight - 22.0).abs() < 1e-9, "{any:?}");
    }

    #[test]
    fn of_calls_by_duration_too_no_one_brings_more_than_twenty() {
        let calls = |bucket: usize, count: f64| {
            let mut calls = [0.0; BUCKETS];
            calls[bucket] = count;
            calls
        };
        let all = pool_durations(&[calls(3, 5.0), calls(3, 7.0), calls(9, 900.0)]);
        assert!((all[3] - 12.0).abs() < 1e-9 && (all[9] - 12.0).abs() < 1e-9, "{all:?}");
    }
}
