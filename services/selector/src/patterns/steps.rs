//! Makes steps, one tool after another within one task, of outcomes as they come. Pure.

use std::collections::{BTreeMap, HashMap};

use chrono::TimeDelta;

use crate::store::{
    OutcomeRow,
    patterns::{StepRow, Task, TraceRow},
};

/// Longest time between two calls of which one follows the other.
const LONGEST_GAP: TimeDelta = TimeDelta::days(1);

/// The tasks of these outcomes, in order; an outcome of no task has none.
pub(crate) fn tasks(outcomes: &[&OutcomeRow]) -> Vec<Task> {
    let mut tasks: Vec<Task> = outcomes.iter().filter_map(|outcome| task(outcome)).collect();
    tasks.sort_unstable();
    tasks.dedup();
    tasks
}

/// The steps that these outcomes are, in order, and how often each was made; `traces` is then where each task stands.
/// An outcome that comes late, after one that ended later, is no step: what it stood between is known no more.
pub(crate) fn follow(traces: &mut HashMap<Task, TraceRow>, outcomes: &[&OutcomeRow]) -> Vec<StepRow> {
    let mut in_order: Vec<&&OutcomeRow> = outcomes.iter().collect();
    in_order.sort_by_key(|outcome| (outcome.event_time, outcome.event_id));
    let mut counts: BTreeMap<(String, String, String, String), i64> = BTreeMap::new();
    for outcome in in_order {
        let Some(task) = task(outcome) else { continue };
        let next = TraceRow {
            task: task.clone(),
            tool_name: outcome.tool_name.clone(),
            last_time: outcome.event_time,
        };
        let Some(last) = traces.get_mut(&task) else {
            traces.insert(task, next);
            continue;
        };
        if next.last_time < last.last_time {
            continue;
        }
        if next.last_time - last.last_time <= LONGEST_GAP {
            let step = (task.team_id, last.tool_name.clone(), next.tool_name.clone(), task.agent_id);
            *counts.entry(step).or_default() += 1;
        }
        *last = next;
    }
    let row = |((team_id, from_tool, to_tool, agent_id), count)| StepRow {
        team_id,
        from_tool,
        to_tool,
        agent_id,
        count,
    };
    counts.into_iter().map(row).collect()
}

fn task(outcome: &OutcomeRow) -> Option<Task> {
    (!outcome.task_id.is_empty()).then(|| Task {
        team_id: outcome.team_id.clone(),
        agent_id: outcome.agent_id.clone(),
        task_id: outcome.task_id.clone(),
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;

    fn outcome(minute: i64, agent: &str, task: &str, tool: &str) -> OutcomeRow {
        OutcomeRow {
            event_id: Uuid::from_u128(u128::try_from(minute).unwrap()),
            team_id: "team".into(),
            agent_id: agent.into(),
            tool_name: tool.into(),
            execution_id: None,
            selection_id: None,
            succeeded: true,
            duration_ms: 5.0,
            cost_micro_usd: 0,
            event_time: DateTime::UNIX_EPOCH + TimeDelta::minutes(minute),
            task_id: task.into(),
            failure_reason: String::new(),
            cached: false,
            arguments_hash: String::new(),
            timeout_ms: 0,
            fell_back: false,
            effect: String::new(),
        }
    }

    fn made(traces: &mut HashMap<Task, TraceRow>, outcomes: &[OutcomeRow]) -> Vec<(String, i64)> {
        let steps = follow(traces, &outcomes.iter().collect::<Vec<_>>());
        steps
            .into_iter()
            .map(|step| (format!("{}: {} {}", step.agent_id, step.from_tool, step.to_tool), step.count))
            .collect()
    }

    #[test]
    fn tools_follow_each_other_in_the_order_of_time_within_one_task_of_one_agent() {
        let mut traces = HashMap::new();
        let outcomes = [
            outcome(3, "one", "t", "c"),
            outcome(1, "one", "t", "a"),
            outcome(2, "one", "t", "a"),
            outcome(2, "two", "t", "b"),
            outcome(3, "one", "u", "b"),
            outcome(4, "one", "", "d"),
        ];
        let steps = made(&mut traces, &outcomes);
        assert_eq!(steps, [("one: a a".to_owned(), 1), ("one: a c".to_owned(), 1)]);
        // The next batch goes on where this one ended.
        let steps = made(&mut traces, &[outcome(9, "two", "t", "a"), outcome(10, "one", "t", "d")]);
        assert_eq!(steps, [("two: b a".to_owned(), 1), ("one: c d".to_owned(), 1)]);
    }

    #[test]
    fn what_comes_late_or_after_more_than_a_day_is_no_step() {
        let mut traces = HashMap::new();
        made(&mut traces, &[outcome(100, "one", "t", "a")]);
        assert!(made(&mut traces, &[outcome(50, "one", "t", "b")]).is_empty(), "it ended before");
        assert!(made(&mut traces, &[outcome(100 + 24 * 60 + 1, "one", "t", "c")]).is_empty(), "too late");
        let steps = made(&mut traces, &[outcome(100 + 48 * 60, "one", "t", "d")]);
        assert_eq!(steps, [("one: c d".to_owned(), 1)], "it begins anew");
    }
}
