//! A call that was not made for no fault of its own: its request id may be used again. And a call that was made and
//! whose record is gone: that is told, and not taken for a fault of toolcrib.

use std::time::Duration;

use ::rpc::ErrorReason;
use proto::{
    executor::v1::{ExecuteRequest, ExecutionStatus},
    registry::v1::ToolSettings,
};
use tokio::time::sleep;
use tonic::Code;

use super::{
    cache::read_only,
    fakes::Fakes,
    house::{House, LEASE, Outage, PATIENCE, ended, posting, refused, request, retries, until},
    upstream::{Held, Upstream},
};

fn named() -> ExecuteRequest {
    ExecuteRequest { request_id: "once".into(), ..request("tool", "{}") }
}

#[tokio::test]
async fn a_call_whose_caller_gave_up_before_its_record_may_be_made_again() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let mut transaction = house.database.pool().unwrap().begin().await.unwrap();
    sqlx::query("LOCK TABLE executor.request IN EXCLUSIVE MODE").execute(&mut *transaction).await.unwrap();
    let late = house.spawn(Duration::from_millis(300), named()).await.unwrap();
    refused(late, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    transaction.commit().await.unwrap();
    until(async || house.statuses().await == ["timed_out"]).await;
    assert_eq!(upstream.hits(), 0);
    ended(house.execute(named()).await, ExecutionStatus::Succeeded);
    assert_eq!(upstream.hits(), 1);
    assert!(house.execute(named()).await.unwrap().replayed);
}

#[tokio::test]
async fn a_call_whose_process_was_cut_off_before_its_first_attempt_may_be_made_again() {
    let (mut outage, database) = Outage::new().await;
    let house = House::on(&database, Fakes::default(), |config| config.max_wait_ms = 30_000);
    let held = Held::new().await;
    let one_at_once = ToolSettings { max_concurrent: 1, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &held.upstream.url), one_at_once);
    let first = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let second = house.spawn(PATIENCE, named());
    until(async || house.statuses().await.len() == 2).await;
    outage.begin().await;
    sleep(LEASE * 2).await;
    outage.end(&database).await;
    let seen = "SELECT count(*) FROM executor.worker WHERE last_seen > now() - interval '300 ms'";
    until(async || house.number(seen).await == 1).await;
    held.go();
    ended(first.await.unwrap(), ExecutionStatus::Succeeded);
    let (code, _) = ended(second.await.unwrap(), ExecutionStatus::Failed);
    assert_eq!((code.as_str(), held.upstream.hits()), ("OWNER_DIED", 1));
    held.go();
    ended(house.execute(named()).await, ExecutionStatus::Succeeded);
    assert_eq!(held.upstream.hits(), 2);
}

#[tokio::test]
async fn a_crash_of_the_database_that_forgets_an_intent_is_no_fault_of_toolcrib() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(read_only(posting("tool", &held.upstream.url)));
    let call = house.spawn(PATIENCE, named());
    held.reached().await;
    // What a crash does to commits that did not wait for the disk.
    house.run("DELETE FROM executor.execution").await;
    house.run("DELETE FROM executor.request").await;
    held.go();
    let status = refused(call.await.unwrap(), Code::Unavailable, ErrorReason::OutcomeUnknown);
    assert!(status.message().contains("request_id"), "{status:?}");
    held.go();
    ended(house.execute(named()).await, ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn a_connection_that_the_database_ends_is_an_outage() {
    let database = testkit::database(&[crate::schema()]).await;
    let ended =
        sqlx::query("SELECT pg_terminate_backend(pg_backend_pid())").execute(database.pool().unwrap());
    let error = ::store::Error::from(ended.await.unwrap_err());
    assert!(matches!(error, ::store::Error::Unavailable(_)), "{error:?}");
    for broken in [sqlx::Error::Protocol("cut off".into()), sqlx::Error::BeginFailed] {
        assert!(matches!(::store::Error::from(broken), ::store::Error::Unavailable(_)));
    }
}
