//! Refusals of a batch are those that would be told one call at a time, and some call is always answered.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;

fn wanted(limit: i64, cost: i64, budget: i64) -> NewReservation {
    let now: DateTime<Utc> = "2026-11-22T12:00:00Z".parse().unwrap();
    NewReservation {
        team_id: "t".into(),
        decision_id: Uuid::nil(),
        execution_id: Uuid::nil(),
        grant_id: Uuid::nil(),
        agent_id: "a".into(),
        window_start: now,
        tool_name: "x".into(),
        tool_digest: String::new(),
        arguments_digest: String::new(),
        quota_limit: limit,
        day_start: now,
        day_limit: 0,
        total_limit: 0,
        approval_id: None,
        expire_time: now,
        day: (budget > 0).then(|| now.date_naive()),
        cost_micro_usd: cost,
        budget_limit: budget,
    }
}

fn row(granted: bool, counter_used: Option<i64>, budget_before: Option<i64>) -> TakeRow {
    let used = Used { hour: 1, ..Used::default() };
    let before = [counter_used, None, None, None];
    TakeRow { held: None, granted, before, used, budget_before, budget_used: 1 }
}

fn told(batch: &[NewReservation], rows: Vec<TakeRow>) -> Vec<&'static str> {
    let batch: Vec<&NewReservation> = batch.iter().collect();
    let word = |answer: Option<Taken>| match answer {
        None => "again",
        Some(Taken::Granted { .. }) => "granted",
        Some(Taken::Held(_)) => "held",
        Some(Taken::NoPlace(_)) => "no place",
        Some(Taken::NoBudget { .. }) => "no budget",
    };
    answers(&batch, rows).into_iter().map(word).collect()
}

#[test]
fn a_refusal_holds_after_all_that_was_granted() {
    // Two places, of which the batch took one: the last is free again when the budget refused its taker.
    let batch = [wanted(2, 1, 10), wanted(2, 10, 10), wanted(2, 1, 10)];
    let rows =
        |third| vec![row(true, Some(0), Some(0)), row(false, Some(0), Some(0)), row(third, Some(0), Some(0))];
    assert_eq!(told(&batch, rows(false)), ["granted", "no budget", "again"]);
    assert_eq!(told(&batch, rows(true)), ["granted", "no place", "granted"]);
    let full = [wanted(2, 0, 0), wanted(2, 0, 0)];
    assert_eq!(
        told(&full, vec![row(true, Some(1), None), row(false, Some(1), None)]),
        ["granted", "no place"]
    );
}

#[test]
fn what_has_no_counter_yet_is_asked_again_once_it_is_made() {
    let batch = [wanted(2, 0, 0), wanted(0, 5, 10), wanted(2, 5, 10), wanted(0, 0, 10)];
    let rows = vec![
        row(false, None, None),
        row(false, None, None),
        row(false, Some(0), None),
        row(true, None, Some(1)),
    ];
    let references: Vec<&NewReservation> = batch.iter().collect();
    assert_eq!(missing(&references, &rows).len(), 3);
    assert_eq!(told(&batch, rows), ["again", "again", "again", "granted"]);
}

#[test]
fn the_first_of_a_batch_that_granted_nothing_is_always_answered() {
    for (before, spent) in [(2, 0), (1, 10), (2, 10), (5, 50)] {
        let batch = [wanted(2, 5, 10), wanted(2, 1, 10)];
        let rows = vec![row(false, Some(before), Some(spent)), row(false, Some(before), Some(spent))];
        assert_ne!(told(&batch, rows)[0], "again", "{before} {spent}");
    }
}

#[test]
fn a_call_that_costs_nothing_is_never_refused_for_the_budget() {
    assert_eq!(told(&[wanted(0, 0, 10)], vec![row(false, None, Some(99))]), ["again"]);
}

#[test]
fn every_counter_that_is_full_is_told_and_none_that_is_not() {
    let limits = |approval: Option<Uuid>| NewReservation {
        day_limit: 5,
        total_limit: 9,
        approval_id: approval,
        ..wanted(2, 0, 0)
    };
    let told = |before: [i64; 4], approval: Option<Uuid>| {
        let wanted = limits(approval);
        let before = before.map(Some);
        let row = TakeRow { before, ..row(false, None, None) };
        match answers(&[&wanted], vec![row]).pop().flatten() {
            Some(Taken::NoPlace(full)) => Some(full),
            None => None,
            other => panic!("{other:?}"),
        }
    };
    let none = Full::default();
    assert_eq!(told([1, 4, 8, 0], Some(Uuid::nil())), None);
    assert_eq!(told([2, 4, 8, 0], None), Some(Full { hour: Some(2), ..none }));
    assert_eq!(told([1, 5, 8, 0], None), Some(Full { day: Some(5), ..none }));
    assert_eq!(told([1, 4, 9, 0], None), Some(Full { total: Some(9), ..none }));
    assert_eq!(told([1, 4, 8, 1], Some(Uuid::nil())), Some(Full { approval: true, ..none }));
    assert_eq!(told([1, 4, 8, 1], None), None);
    let all = Full { hour: Some(3), day: Some(6), total: Some(9), approval: true };
    assert_eq!(told([3, 6, 9, 1], Some(Uuid::nil())), Some(all));
    // A day's counter that is not there yet is made, and asked for again.
    let (wanted, before) = (limits(None), [Some(0), None, Some(0), None]);
    let row = TakeRow { before, ..row(false, None, None) };
    assert_eq!(missing(&[&wanted], std::slice::from_ref(&row)).len(), 1);
    assert!(answers(&[&wanted], vec![row]).pop().unwrap().is_none());
}
