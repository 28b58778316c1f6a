//! What follows what, and hours: from rows of which the answer is known.

use super::*;
use crate::{patterns::Sequences, store::patterns::TransitionRow};

fn seen(steps: &[(&str, &str, &str, i64)]) -> Vec<Transition> {
    let sequences = Sequences::default();
    let row = |&(agent, from, to, count): &(&str, &str, &str, i64)| {
        TransitionRow::new("team", (from, to), agent, count, DateTime::UNIX_EPOCH)
    };
    sequences.put(steps.iter().map(row).collect());
    transitions(&sequences.team("team"), DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH)
}

fn of<'a>(found: &'a [Transition], from: &str, to: &str) -> &'a Transition {
    found.iter().find(|step| step.from_tool == from && step.to_tool == to).unwrap()
}

#[test]
fn the_lift_is_how_many_times_likelier_than_by_chance() {
    let found = seen(&[("me", "a", "b", 8), ("me", "a", "c", 2), ("me", "d", "c", 10)]);
    let step = of(&found, "a", "b");
    assert!((step.probability - 0.8).abs() < 1e-9, "{step:?}");
    // b follows in 8 of 20 cases.
    assert!((step.lift - 2.0).abs() < 1e-9, "{step:?}");
    assert!(of(&found, "a", "c").lift < 1.0);
    let names: Vec<_> = found.iter().map(|step| step.to_tool.as_str()).collect();
    assert_eq!(names, ["b", "c", "c"], "the strongest first, and what is rarer than by chance last");
    assert_eq!(found[2].from_tool, "a");
}

#[test]
fn one_agents_loop_is_at_most_half_of_what_is_told_and_its_count_is_told_whole() {
    let found = seen(&[("loud", "x", "x", 1_000), ("one", "a", "b", 5), ("two", "c", "d", 5)]);
    let looped = of(&found, "x", "x");
    assert_eq!(looped.count, 1_000);
    // It weighs 10 of 20, so that chance alone gives one half.
    assert!((looped.lift - 2.0).abs() < 1e-9, "{looped:?}");
    let alone = seen(&[("loud", "x", "x", 1_000)]);
    assert!((of(&alone, "x", "x").lift - 1.0).abs() < 1e-9);
}

#[test]
fn steps_that_were_not_seen_in_the_period_are_not_told() {
    let sequences = Sequences::default();
    let (old, new) = (DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH + TimeDelta::days(10));
    sequences.put(vec![
        TransitionRow::new("team", ("a", "old"), "me", 9, old),
        TransitionRow::new("team", ("a", "new"), "me", 3, new),
    ]);
    let found = transitions(&sequences.team("team"), new - TimeDelta::days(7), new);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].to_tool.as_str(), found[0].probability), ("new", 1.0));
}

fn hour(tool: &str, hour: i64, reason: &str, calls: i64) -> HourRow {
    let hour = DateTime::UNIX_EPOCH + TimeDelta::hours(hour);
    HourRow { tool_name: tool.into(), hour, failure_reason: reason.into(), calls, cached: 1 }
}

#[test]
fn hours_of_the_day_are_summed_over_the_days_and_the_busiest_tool_comes_first() {
    let rows = [
        hour("quiet", 3, "", 2),
        hour("busy", 1, "", 4),
        hour("busy", 25, "TIMEOUT", 3),
        hour("busy", 49, "", 1),
    ];
    let found = hourly(&rows);
    assert_eq!(found.iter().map(|it| it.tool_name.as_str()).collect::<Vec<_>>(), ["busy", "quiet"]);
    assert_eq!((found[0].calls[1], found[0].failures[1], found[0].calls.iter().sum::<i64>()), (8, 3, 8));
}

#[test]
fn what_a_cache_answered_and_what_a_caller_gave_up_says_nothing_of_a_tool() {
    let rows = [hour("x", 0, "", 11), hour("x", 1, "TIMEOUT", 6), hour("x", 2, "RATE_LIMITED", 50)];
    let uses = tool_uses(&rows);
    assert_eq!((uses["x"].calls, uses["x"].successes), (15, 10));
}
