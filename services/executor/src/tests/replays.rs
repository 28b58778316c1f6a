//! The same request twice runs once.

use std::time::Duration;

use ::rpc::ErrorReason;
use proto::executor::v1::{ExecuteRequest, ExecutionStatus};
use tonic::Code;

use super::{
    fakes::Fakes,
    house::{House, PATIENCE, agent, ended, posting, refused, request, until},
    upstream::{Held, Upstream},
};

fn named(id: &str, arguments: &str) -> ExecuteRequest {
    ExecuteRequest { request_id: id.into(), ..request("tool", arguments) }
}

#[tokio::test]
async fn the_first_answer_is_given_again_and_another_body_is_refused_and_recorded() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let first = house.execute(named("r", "{}")).await.unwrap();
    let again = house.execute(named("r", "{}")).await.unwrap();
    assert!(!first.replayed && again.replayed);
    let (first, again) = (first.execution.unwrap(), again.execution.unwrap());
    assert_eq!((&first.id, &first.result_json), (&again.id, &again.result_json));
    refused(
        house.execute(named("r", r#"{"a":1}"#)).await,
        Code::FailedPrecondition,
        ErrorReason::RequestIdReused,
    );
    until(async || house.fakes.trail().iter().any(|event| event.reason == "REQUEST_ID_REUSED")).await;
    until(async || house.fakes.settled().len() == 1).await;
    assert_eq!(upstream.hits(), 1);
    ended(house.execute(named("s", "{}")).await, ExecutionStatus::Succeeded);
    assert_eq!(upstream.hits(), 2);
}

#[tokio::test]
async fn another_agent_gets_no_answer_that_is_not_its_own() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    ended(house.execute(named("r", "{}")).await, ExecutionStatus::Succeeded);
    let other = house.execute_as(&agent("other"), PATIENCE, named("r", "{}")).await;
    refused(other, Code::FailedPrecondition, ErrorReason::RequestIdReused);
}

#[tokio::test]
async fn a_request_under_way_is_joined_in_this_process_and_another() {
    let (house, held) = (House::new().await, Held::new().await);
    let replica = House::on(&house.database, Fakes::default(), |_| {});
    for one in [&house, &replica] {
        one.add(posting("tool", &held.upstream.url));
    }
    let first = house.spawn(PATIENCE, named("r", "{}"));
    held.reached().await;
    let (here, there) = (house.spawn(PATIENCE, named("r", "{}")), replica.spawn(PATIENCE, named("r", "{}")));
    let late = house.spawn(Duration::from_millis(300), named("r", "{}")).await.unwrap();
    refused(late, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    held.go();
    let first = first.await.unwrap().unwrap();
    for joined in [here, there] {
        let joined = joined.await.unwrap().unwrap();
        assert!(joined.replayed);
        assert_eq!(joined.execution.unwrap().id, first.execution.as_ref().unwrap().id);
    }
    assert_eq!(held.upstream.hits(), 1);
}

#[tokio::test]
async fn of_two_at_the_same_moment_one_runs_and_the_place_of_the_other_is_given_back() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let calls: Vec<_> = (0..8).map(|_| house.spawn(PATIENCE, named("r", "{}"))).collect();
    let mut ids = Vec::new();
    for call in calls {
        ids.push(super::house::execution(call.await.unwrap()).id);
    }
    ids.dedup();
    assert_eq!((ids.len(), upstream.hits()), (1, 1));
    let reserved = || house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed);
    until(async || house.fakes.settled().len() == reserved()).await;
    assert_eq!(house.fakes.settled().iter().filter(|(_, committed)| *committed).count(), 1);
}
