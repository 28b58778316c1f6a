//! Cost budgets: exact over processes, charged once, and whole or not at all together with places.

use super::*;
use crate::{
    authorize::{Period, Quota},
    budget::{get_budget, set_budget},
    settle::{purge, sweep},
};

/// A database whose team has this budget.
async fn team_with(daily: i64) -> Database {
    let database = team().await;
    set_daily(&database, daily).await;
    database
}

async fn set_daily(database: &Database, daily: i64) {
    set_budget(database, &Teams::new(database), &caller("root", Role::Admin), daily, noon()).await.unwrap();
}

fn costing(cost_micro_usd: i64) -> Asked {
    Asked { cost_micro_usd, ..asked("scout") }
}

/// What is reserved and what is spent at noon.
async fn spend(database: &Database) -> (i64, i64) {
    store::spend_get(database.pool().unwrap(), "t", noon().date_naive()).await
}

fn midnight() -> DateTime<Utc> {
    "2026-11-23T00:00:00Z".parse().unwrap()
}

#[tokio::test]
async fn a_call_reserves_its_cost_and_is_charged_what_it_did_cost_once() {
    let database = team_with(1_000).await;
    grant(&database, to_agent("scout"), 0).await;
    let call = costing(300);
    let decision = authorize(&database, &call, noon()).await.unwrap();
    let expected = Quota { period: Period::Day, limit: 1_000, used: 300, reset_time: Some(midnight()) };
    assert_eq!((decision.reserved, decision.budget, decision.quota()), (true, Some(expected), None));
    assert_eq!(authorize(&database, &call, noon() + hour()).await.unwrap(), decision);
    assert_eq!(spend(&database).await, (300, 0));
    for cost in [250, 999] {
        settle_at(&database, "t", decision.id, true, cost).await.unwrap();
        assert_eq!(spend(&database).await, (0, 250));
    }
    let not_made = authorize(&database, &costing(100), noon()).await.unwrap();
    assert_eq!(not_made.budget.unwrap().used, 350);
    settle_at(&database, "t", not_made.id, false, 100).await.unwrap();
    assert_eq!(spend(&database).await, (0, 250));
    let told = get_budget(&database, "t", noon()).await.unwrap();
    assert_eq!((told.daily, told.spent, told.reserved), (1_000, 250, 0));
}

#[tokio::test]
async fn a_cost_that_does_not_fit_is_denied_and_says_why() {
    let database = team_with(1_000).await;
    let granted = grant(&database, to_agent("scout"), 9).await;
    authorize(&database, &costing(900), noon()).await.unwrap();
    let denied = authorize(&database, &costing(101), noon()).await.unwrap();
    assert_eq!((denied.reason, denied.reserved), (Some(ErrorReason::BudgetExhausted), false));
    assert_eq!(denied.policies, ["budget-exhausted"]);
    assert_eq!(
        denied.budget,
        Some(Quota { period: Period::Day, limit: 1_000, used: 900, reset_time: Some(midnight()) })
    );
    assert_eq!(
        denied.message,
        "cost budget of the team is used up: 0.0009 of 0.001 USD are spent or reserved and the call costs \
         0.000101 USD; the next day begins at 2026-11-23T00:00:00Z"
    );
    // All or nothing: its place was not taken.
    assert_eq!(used(&database, &granted, noon()).await, 1);
    assert_eq!(reason(&database, &costing(100), noon()).await, None);
    assert_eq!(reason(&database, &costing(1), noon()).await, Some(ErrorReason::BudgetExhausted));
    assert_eq!(reason(&database, &costing(0), noon()).await, None);
    assert_eq!(reason(&database, &costing(1_000), midnight()).await, None);
    set_daily(&database, 1_001).await;
    assert_eq!(reason(&database, &costing(1), noon()).await, None);
    set_daily(&database, 0).await;
    assert_eq!(reason(&database, &costing(5_000), noon()).await, None);
}

#[tokio::test]
async fn a_place_that_is_not_there_leaves_the_budget_alone() {
    let database = team_with(1_000).await;
    grant(&database, to_agent("scout"), 1).await;
    assert_eq!(reason(&database, &costing(10), noon()).await, None);
    assert_eq!(reason(&database, &costing(10), noon()).await, Some(ErrorReason::QuotaExhausted));
    assert_eq!(spend(&database).await, (10, 0));
    // Nor does a second grant pay twice.
    grant(&database, to_researchers(), 1).await;
    assert_eq!(reason(&database, &costing(10), noon()).await, None);
    assert_eq!(spend(&database).await, (20, 0));
}

#[tokio::test]
async fn eighty_at_once_over_two_processes_spend_no_more_than_there_is() {
    let url = testkit::database_url().await;
    let pools = [Database::new(&url, 8).unwrap(), Database::new(&url, 8).unwrap()];
    crate::schema().migrate(pools[0].pool().unwrap()).await.unwrap();
    people(&pools[0], "t").await;
    set_daily(&pools[0], 100).await;
    let own = grant(&pools[0], to_agent("scout"), 15).await;
    let shared = grant(&pools[0], to_researchers(), 15).await;
    let desks = [desk(&pools[0]), desk(&pools[1])];
    // Sixty of them would like a place; costs of 1 to 7 do not divide the budget.
    let calls = (0..80_usize).map(|n| {
        let (desk, cost) = (desks[n % 2].clone(), i64::try_from(n % 8).unwrap());
        tokio::spawn(async move {
            let call = costing(cost);
            (cost, desk.authorize(&call, noon()).await.unwrap())
        })
    });
    let (mut allowed, mut spent, mut denied) = (0, 0, Vec::new());
    for call in calls.collect::<Vec<_>>() {
        let (cost, decision) = call.await.unwrap();
        match decision.reason {
            None => (allowed, spent) = (allowed + 1, spent + cost),
            Some(reason) => denied.push((cost, reason)),
        }
    }
    let places = used(&pools[0], &own, noon()).await + used(&pools[0], &shared, noon()).await;
    assert_eq!((spend(&pools[0]).await, places), ((spent, 0), allowed));
    assert!(spent <= 100 && places <= 30, "{spent} {places}");
    // Nobody was turned away while there was enough for it.
    for (cost, reason) in denied {
        match reason {
            ErrorReason::BudgetExhausted => assert!(spent + cost > 100, "{cost} of {spent}"),
            ErrorReason::QuotaExhausted => assert_eq!(places, 30),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn what_expires_is_given_back_and_what_was_made_all_the_same_is_charged_once() {
    let database = team_with(1_000).await;
    grant(&database, to_agent("scout"), 0).await;
    let (lost, late) = (costing(100), costing(200));
    let decision_of_lost = authorize(&database, &lost, noon()).await.unwrap();
    let decision_of_late = authorize(&database, &late, noon()).await.unwrap();
    assert_eq!(sweep(&database, noon() + TTL).await.unwrap(), 2);
    assert_eq!(spend(&database).await, (0, 0));
    for _ in 0..2 {
        settle_at(&database, "t", decision_of_late.id, true, 180).await.unwrap();
        settle_at(&database, "t", decision_of_lost.id, false, 100).await.unwrap();
    }
    assert_eq!(spend(&database).await, (0, 180));
    // An execution whose reservation expired and that asks again is debited once in all.
    let again = authorize(&database, &lost, noon() + TTL).await.unwrap();
    assert_eq!((again.id == decision_of_lost.id, spend(&database).await), (false, (100, 180)));
    settle_at(&database, "t", decision_of_lost.id, true, 90).await.unwrap();
    settle_at(&database, "t", again.id, true, 90).await.unwrap();
    assert_eq!(spend(&database).await, (0, 270));
}

#[tokio::test]
async fn a_call_that_cost_more_than_it_reserved_is_charged_in_full() {
    let database = team_with(1_000).await;
    grant(&database, to_agent("scout"), 0).await;
    let decision = authorize(&database, &costing(10), noon()).await.unwrap();
    settle_at(&database, "t", decision.id, true, 5_000).await.unwrap();
    assert_eq!(spend(&database).await, (0, 5_000));
    assert_eq!(reason(&database, &costing(1), noon()).await, Some(ErrorReason::BudgetExhausted));
}

#[tokio::test]
async fn budgets_are_of_one_team_and_one_day() {
    let database = team_with(100).await;
    people(&database, "other").await;
    grant(&database, to_agent("scout"), 0).await;
    let old = authorize(&database, &costing(100), noon()).await.unwrap();
    let tomorrow = authorize(&database, &costing(40), midnight()).await.unwrap();
    assert_eq!(tomorrow.budget.unwrap().used, 40);
    // What ends tomorrow is charged to the day that it was reserved on.
    settle_at(&database, "t", old.id, true, 70).await.unwrap();
    assert_eq!(spend(&database).await, (0, 70));
    let other = get_budget(&database, "other", noon()).await.unwrap();
    assert_eq!((other.daily, other.spent), (0, 0));
    purge(&database, noon() + TimeDelta::hours(49)).await.unwrap();
    assert_eq!(spend(&database).await, (0, 70));
    purge(&database, noon() + TimeDelta::hours(72)).await.unwrap();
    assert_eq!(spend(&database).await, (0, 0));
}

#[tokio::test]
async fn amounts_that_make_no_sense_are_refused() {
    let database = team_with(100).await;
    for wrong in [-1, i64::MAX] {
        let refused =
            set_budget(&database, &Teams::new(&database), &caller("root", Role::Admin), wrong, noon()).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
        let refused = settle_at(&database, "t", random(), true, wrong).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
}
