//! What a dead process left is closed as unknown and told; what a living one runs is let alone.

use chrono::Utc;
use proto::audit::v1::{Action, Result as AuditResult};
use uuid::Uuid;

use super::{
    fakes::{Fakes, Mood},
    house::{House, LEASE, posting, until},
    ledger::intent,
};
use crate::store;

async fn worker(house: &House, owner: Uuid, last_seen: &'static str) {
    let insert = format!("INSERT INTO executor.worker VALUES ($1, {last_seen})");
    sqlx::query(sqlx::AssertSqlSafe(insert))
        .bind(owner)
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
}

async fn leave(house: &House, owner: Uuid) -> store::Execution {
    let intent = intent(owner, "");
    let mut transaction = store::begin(house.database.pool().unwrap(), true).await.unwrap();
    store::intents_insert(&mut transaction, &[&intent]).await.unwrap();
    transaction.commit().await.unwrap();
    intent.execution
}

#[tokio::test]
async fn executions_of_the_dead_are_closed_and_those_of_the_living_are_not() {
    let house = House::new().await;
    house.add(posting("tool", "http://127.0.0.1:1/"));
    let (dead, unknown, living) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    worker(&house, dead, "now() - interval '1 hour'").await;
    worker(&house, living, "now() + interval '1 hour'").await;
    let (of_dead, of_unknown) = (leave(&house, dead).await, leave(&house, unknown).await);
    leave(&house, living).await;
    until(async || house.fakes.trail().len() == 2 && house.fakes.outcomes.lock().unwrap().len() == 2).await;
    tokio::time::sleep(LEASE * 2).await;
    let rows = house
        .texts("SELECT status || ' ' || lease_epoch || ' ' || (end_time IS NOT NULL) FROM executor.execution ORDER BY id")
        .await;
    assert_eq!(rows, ["unknown_outcome 2 true", "unknown_outcome 2 true", "running 1 false"]);
    for event in house.fakes.trail() {
        assert_eq!((event.action(), event.result()), (Action::ToolInvoked, AuditResult::Unknown));
        assert_eq!((event.reason.as_str(), event.agent_id.as_str()), ("OWNER_DIED", "agent"));
    }
    // Whether it took effect is not known, so it counts as made.
    let decision = |execution: &store::Execution| (execution.decision_id.unwrap().to_string(), true);
    until(async || house.fakes.settled().len() == 2).await;
    let mut settled = house.fakes.settled();
    let mut expected = vec![decision(&of_dead), decision(&of_unknown)];
    settled.sort();
    expected.sort();
    assert_eq!(settled, expected);
    // And costs what it would have.
    assert_eq!(*house.fakes.charged.lock().unwrap(), [7, 7]);
    assert_eq!(house.number("SELECT sum(cost_micro_usd)::bigint FROM executor.execution").await, 14);
}

#[tokio::test]
async fn an_intent_of_this_process_that_it_does_not_run_is_closed_after_a_lease() {
    let house = House::new().await;
    until(async || house.number("SELECT count(*) FROM executor.worker").await == 1).await;
    let owner: Uuid = sqlx::query_scalar("SELECT owner FROM executor.worker")
        .fetch_one(house.database.pool().unwrap())
        .await
        .unwrap();
    // As after a commit whose answer was lost.
    let left = leave(&house, owner).await;
    house.until_all("unknown_outcome").await;
    assert!(Utc::now() - left.create_time >= chrono::Duration::from_std(LEASE).unwrap());
}

#[tokio::test]
async fn slow_permissions_do_not_stop_the_heart() {
    let house = House::new().await;
    Fakes::set(&house.fakes.permissions, Mood::Down);
    for _ in 0..5 {
        leave(&house, Uuid::new_v4()).await;
    }
    house.until_all("unknown_outcome").await;
    let age = "SELECT (extract(epoch FROM now() - last_seen) * 1000)::bigint FROM executor.worker";
    let mut oldest = 0;
    for _ in 0..20 {
        oldest = oldest.max(house.number(age).await);
        tokio::time::sleep(LEASE / 10).await;
    }
    assert!(oldest < i64::try_from(LEASE.as_millis()).unwrap(), "silent for {oldest} ms");
    Fakes::set(&house.fakes.permissions, Mood::Well);
    until(async || !house.fakes.settled().is_empty()).await;
}
