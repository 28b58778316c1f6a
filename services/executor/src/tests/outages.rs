//! The database stops in the midst of a call and comes back.

use proto::executor::v1::ExecutionStatus;
use tokio::time::sleep;

use super::{
    fakes::Fakes,
    house::{House, LEASE, Outage, PATIENCE, ended, posting, request, until},
    upstream::Held,
};

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
