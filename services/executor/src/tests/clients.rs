//! Clients that go away: what has begun is recorded all the same.

use std::time::Duration;

use ::rpc::ErrorReason;
use proto::executor::v1::ExecutionStatus;
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    house::{House, LEASE, PATIENCE, posting, refused, request, until},
    upstream::Held,
};

#[tokio::test]
async fn a_deadline_ends_the_wait_and_not_the_call() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let answer = house.spawn(Duration::from_millis(700), request("tool", "{}")).await.unwrap();
    let status = refused(answer, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    let id = status.get_error_details().error_info().unwrap().metadata["execution_id"].clone();
    assert_eq!(house.texts("SELECT id::text FROM executor.execution WHERE status = 'running'").await, [id]);
    held.go();
    house.until_all("succeeded").await;
    until(async || house.fakes.trail().len() == 1).await;
    until(async || matches!(&house.fakes.settled()[..], [(_, true)])).await;
}

#[tokio::test]
async fn a_client_gone_while_the_tool_runs_does_not_undo_the_call() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    held.go();
    house.until_all("succeeded").await;
    until(async || house.fakes.trail().len() == 1).await;
}

/// Holds every intent back until it is told to let go.
async fn block(house: &House) -> sqlx::Transaction<'static, sqlx::Postgres> {
    let mut transaction = house.database.pool().unwrap().begin().await.unwrap();
    sqlx::query("LOCK TABLE executor.execution IN SHARE MODE").execute(&mut *transaction).await.unwrap();
    transaction
}

/// Waits until a statement that begins like this waits for a lock. `PostgreSQL` shows the first 1,024 bytes of it.
async fn until_blocked(house: &House, beginning: &str) {
    let insert = format!("{beginning}%");
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND wait_event_type = 'Lock' AND query LIKE $1";
    let pool = house.database.pool().unwrap();
    let count = async || sqlx::query_scalar::<_, i64>(waiting).bind(&insert).fetch_one(pool).await.unwrap();
    until(async || count().await == 1).await;
}

#[tokio::test]
async fn a_client_gone_while_the_intent_is_written_leaves_nothing_running() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let blocked = block(&house).await;
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    until_blocked(&house, "WITH intent AS").await;
    call.abort();
    let _ = call.await;
    blocked.rollback().await.unwrap();
    held.reached().await;
    held.go();
    house.until_all("succeeded").await;
    assert_eq!(house.statuses().await.len(), 1);
}

#[tokio::test]
async fn a_call_whose_client_gave_up_before_the_intent_is_recorded_and_not_made() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let blocked = block(&house).await;
    let call = house.spawn(Duration::from_millis(400), request("tool", "{}"));
    until_blocked(&house, "WITH intent AS").await;
    refused(call.await.unwrap(), Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    blocked.rollback().await.unwrap();
    until(async || house.statuses().await == ["timed_out"]).await;
    until(async || matches!(&house.fakes.settled()[..], [(_, false)])).await;
    let told = house.texts("SELECT error_json || cost_micro_usd FROM executor.execution").await.concat();
    assert!(told.contains("the tool was not called") && told.ends_with('0'), "{told}");
    assert_eq!(held.upstream.hits(), 0);
}

#[tokio::test]
async fn a_refusal_is_recorded_when_its_client_is_gone() {
    let house = House::new().await;
    let mut blocked = house.database.pool().unwrap().begin().await.unwrap();
    sqlx::query("LOCK TABLE executor.outbox IN SHARE MODE").execute(&mut *blocked).await.unwrap();
    let call = house.spawn(PATIENCE, request("nothing", "{}"));
    until_blocked(&house, "WITH event AS").await;
    call.abort();
    let _ = call.await;
    blocked.rollback().await.unwrap();
    until(async || house.fakes.trail().len() == 1).await;
    assert_eq!(house.fakes.trail()[0].reason, "TOOL_NOT_FOUND");
}

#[tokio::test]
async fn a_run_that_takes_longer_than_a_lease_is_not_reaped() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    tokio::time::sleep(LEASE * 3).await;
    assert_eq!(house.statuses().await, ["running"]);
    held.go();
    super::house::ended(call.await.unwrap(), ExecutionStatus::Succeeded);
}
