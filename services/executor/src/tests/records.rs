//! No intent, no run; an outcome and its events together or not at all.

use ::rpc::ErrorReason;
use proto::{executor::v1::ExecutionStatus, types::v1::Effect};
use tonic::Code;

use super::{
    house::{House, Outage, ended, posting, refused, request, until},
    upstream::{Upstream, json},
};

#[tokio::test]
async fn a_refused_intent_stops_the_call_and_gives_its_place_back() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.run("ALTER TABLE executor.execution ADD CHECK (tool_name <> 'tool')").await;
    refused(house.execute(request("tool", "{}")).await, Code::Internal, ErrorReason::Internal);
    until(async || !house.fakes.settled().is_empty()).await;
    assert!(matches!(&house.fakes.settled()[..], [(_, false)]));
    assert_eq!((upstream.hits(), house.number("SELECT count(*) FROM executor.execution").await), (0, 0));
}

#[tokio::test]
async fn a_database_that_goes_away_behind_the_decision_stops_the_call() {
    let (mut outage, database) = Outage::new().await;
    let fakes = super::fakes::Fakes::hesitant();
    let (house, upstream) = (House::on(&database, fakes, |_| {}), Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let call = house.spawn(super::house::PATIENCE, request("tool", "{}"));
    // The call waits for its decision and the database goes away meanwhile.
    outage.begin().await;
    house.fakes.gate.close();
    refused(call.await.unwrap(), Code::Unavailable, ErrorReason::StoreUnavailable);
    if house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed) > 0 {
        until(async || !house.fakes.settled().is_empty()).await;
        assert!(matches!(&house.fakes.settled()[..], [(_, false)]));
    }
    until(async || !database.is_up()).await;
    let status =
        refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::StoreUnavailable);
    assert!(status.message().contains("try again"), "{status:?}");
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn the_intent_is_in_the_database_before_the_tool_is_reached() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap().clone();
    let upstream = Upstream::new(move |_| {
        let pool = pool.clone();
        async move {
            let found: Vec<String> =
                sqlx::query_scalar("SELECT status FROM executor.execution WHERE end_time IS NULL")
                    .fetch_all(&pool)
                    .await
                    .unwrap();
            json(200, &serde_json::json!({ "found": found }).to_string())
        }
    })
    .await;
    for (name, effect) in [("strict", Effect::SideEffect), ("relaxed", Effect::ReadOnly)] {
        house.add(proto::registry::v1::ToolDefinition {
            effect: effect.into(),
            ..posting(name, &upstream.url)
        });
        let execution = super::house::execution(house.execute(request(name, "{}")).await);
        assert_eq!(execution.result_json, r#"{"found":["running"]}"#);
        assert_eq!(execution.cost_micro_usd, 7);
    }
    assert_eq!(house.statuses().await, ["succeeded", "succeeded"]);
    until(async || house.fakes.settled().len() == 2).await;
    assert!(house.fakes.settled().iter().all(|(_, committed)| *committed));
}

#[tokio::test]
async fn an_outcome_without_its_events_is_not_written() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.run("ALTER TABLE executor.outbox ADD CHECK (destination <> 'selector')").await;
    refused(house.execute(request("tool", "{}")).await, Code::Internal, ErrorReason::Internal);
    let written = "SELECT count(*) FROM executor.execution WHERE status <> 'running' OR result_json <> ''";
    assert_eq!((upstream.hits(), house.number(written).await), (1, 0));
    assert_eq!(house.number("SELECT count(*) FROM executor.outbox").await, 0);
    assert!(house.fakes.trail().is_empty());
    // What could not be recorded is not forgotten: it is closed as unknown once that can be written.
    house.run("ALTER TABLE executor.outbox DROP CONSTRAINT outbox_destination_check").await;
    house.until_all("unknown_outcome").await;
}

#[tokio::test]
async fn a_write_under_an_old_lease_touches_nothing() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap().clone();
    let upstream = Upstream::new(move |_| {
        let pool = pool.clone();
        async move {
            // Another process takes the execution for itself.
            let taken = "UPDATE executor.execution SET lease_epoch = 2, status = 'unknown_outcome'";
            sqlx::query(taken).execute(&pool).await.unwrap();
            json(200, r#"{"late":true}"#)
        }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::OutcomeUnknown);
    let rows =
        house.texts("SELECT status || ':' || result_json || ':' || error_json FROM executor.execution").await;
    assert_eq!(rows, ["unknown_outcome::"]);
    assert_eq!(house.number("SELECT count(*) FROM executor.outbox").await, 0);
    assert!(house.fakes.trail().is_empty());
}

#[tokio::test]
async fn a_slow_settlement_does_not_hold_up_the_answer() {
    let (house, held) = (House::new().await, super::upstream::Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let call = house.spawn(std::time::Duration::from_millis(2_500), request("tool", "{}"));
    held.reached().await;
    super::fakes::Fakes::set(&house.fakes.permissions, super::fakes::Mood::Down);
    held.go();
    ended(call.await.unwrap(), ExecutionStatus::Succeeded);
    assert!(house.fakes.settled().is_empty());
    super::fakes::Fakes::set(&house.fakes.permissions, super::fakes::Mood::Well);
    until(async || matches!(&house.fakes.settled()[..], [(_, true)])).await;
}
