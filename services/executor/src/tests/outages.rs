//! The database stops in the midst of a call and comes back.

use ::rpc::ErrorReason;
use proto::executor::v1::{ExecuteRequest, ExecutionStatus};
use tokio::time::sleep;
use tonic::Code;

use super::{
    fakes::Fakes,
    house::{House, LEASE, Outage, PATIENCE, ended, posting, refused, request, until},
    upstream::{Held, Upstream},
};

#[tokio::test]
async fn a_process_that_is_not_heard_of_takes_no_call() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    until(async || house.number("SELECT count(*) FROM executor.worker").await == 1).await;
    let mut silence = house.database.pool().unwrap().begin().await.unwrap();
    sqlx::query("LOCK TABLE executor.worker IN EXCLUSIVE MODE").execute(&mut *silence).await.unwrap();
    sleep(LEASE * 2).await;
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::StoreUnavailable);
    assert_eq!((house.statuses().await.len(), upstream.hits()), (0, 0));
    silence.rollback().await.unwrap();
    until(async || house.execute(request("tool", "{}")).await.is_ok()).await;
    assert_eq!(house.statuses().await, ["succeeded"]);
}

#[tokio::test]
async fn a_call_that_is_on_record_without_its_process_knowing_was_not_made_and_may_be() {
    let (_outage, database) = Outage::new().await;
    // Heartbeats are not confirmed either.
    let house = House::on(&database, Fakes::default(), |config| config.lease_timeout_ms = 3_000);
    let upstream = Upstream::well().await;
    house.add(posting("tool", &upstream.url));
    let named = || ExecuteRequest { request_id: "once".into(), ..request("tool", "{}") };
    // Commits are on disk, and are confirmed when a standby has them, too: never.
    house.run("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    house.run("SELECT pg_reload_conf()").await;
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    until(async || house.number(waiting).await > 0).await;
    let call = house.spawn(PATIENCE, named());
    let cut_off = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                   WHERE wait_event = 'SyncRep' AND query NOT LIKE '%executor.worker%'";
    until(async || house.number(cut_off).await > 0).await;
    refused(call.await.unwrap(), Code::Unavailable, ErrorReason::StoreUnavailable);
    house.run("ALTER SYSTEM RESET synchronous_standby_names").await;
    house.run("SELECT pg_reload_conf()").await;
    until(async || house.statuses().await == ["failed"]).await;
    let told =
        "SELECT count(*) FROM executor.execution WHERE error_code = 'OWNER_DIED' AND cost_micro_usd = 0";
    assert_eq!((house.number(told).await, upstream.hits()), (1, 0));
    until(async || house.fakes.settled().len() == 2).await;
    assert!(house.fakes.settled().iter().all(|(_, committed)| !committed), "its place is given back");
    until(async || house.execute(named()).await.is_ok()).await;
    assert_eq!(upstream.hits(), 1);
    assert_eq!(house.statuses().await, ["failed", "succeeded"]);
}

#[tokio::test]
async fn an_outcome_waits_for_the_database_and_is_recorded_once() {
    let (mut outage, database) = Outage::new().await;
    let (house, held) = (House::on(&database, Fakes::default(), |_| {}), Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    outage.begin().await;
    held.go();
    until(async || !database.is_up()).await;
    outage.end(&database).await;
    ended(call.await.unwrap(), ExecutionStatus::Succeeded);
    assert_eq!(house.statuses().await, ["succeeded"]);
    until(async || house.fakes.trail().len() == 1 && house.fakes.outcomes.lock().unwrap().len() == 1).await;
    assert_eq!(held.upstream.hits(), 1);
}

#[tokio::test]
async fn after_an_outage_no_replica_takes_itself_or_another_for_dead() {
    let (mut outage, database) = Outage::new().await;
    let first = House::on(&database, Fakes::default(), |_| {});
    let second = House::on(&database, first.fakes.clone(), |config| config.heartbeat_interval_ms = 300);
    let (held, other) = (Held::new().await, Held::new().await);
    first.add(posting("tool", &held.upstream.url));
    second.add(posting("tool", &other.upstream.url));
    // Until it has a lease, an executor takes no call.
    until(async || first.number("SELECT count(*) FROM executor.worker").await == 2).await;
    let (call, other_call) =
        (first.spawn(PATIENCE, request("tool", "{}")), second.spawn(PATIENCE, request("tool", "{}")));
    held.reached().await;
    other.reached().await;
    outage.begin().await;
    // Longer than a lease: both seem dead to whoever asks first.
    sleep(LEASE * 2).await;
    outage.end(&database).await;
    let seen = "SELECT count(*) FROM executor.worker WHERE last_seen > now() - interval '300 ms'";
    until(async || first.number(seen).await == 2).await;
    sleep(LEASE * 2).await;
    assert_eq!(first.statuses().await, ["running", "running"]);
    held.go();
    other.go();
    ended(call.await.unwrap(), ExecutionStatus::Succeeded);
    ended(other_call.await.unwrap(), ExecutionStatus::Succeeded);
}
