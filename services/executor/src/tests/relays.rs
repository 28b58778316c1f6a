//! Events on their way: they wait for audit, arrive in order and once, and stop new calls when they wait too long.

use std::{sync::Mutex, time::Duration};

use ::rpc::ErrorReason;
use prost::Message;
use proto::{audit::v1::Event, executor::v1::ExecutionStatus, types::v1::Effect};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    fakes::{Fakes, Mood},
    house::{House, ended, posting, refused, request, until},
    upstream::Upstream,
};
use crate::store::{self, OutboxEvent};

async fn house(change: impl FnOnce(&mut crate::Config)) -> (House, Upstream) {
    let (house, upstream) = (House::with(change).await, Upstream::well().await);
    let definition = posting("tool", &upstream.url);
    house.add(proto::registry::v1::ToolDefinition { effect: Effect::ReadOnly.into(), ..definition });
    (house, upstream)
}

async fn waiting(house: &House) -> i64 {
    house.number("SELECT count(*) FROM executor.outbox WHERE destination = 'audit'").await
}

#[tokio::test]
async fn calls_go_on_without_audit_until_its_events_have_waited_too_long() {
    let (house, upstream) = house(|config| config.audit_backlog_max_age_s = 2).await;
    Fakes::set(&house.fakes.audit, Mood::Down);
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(super::house::execution(house.execute(request("tool", "{}")).await).id);
    }
    assert_eq!(waiting(&house).await, 5);
    let refusal = || async { house.execute(request("tool", "{}")).await.err() };
    until(async || refusal().await.is_some()).await;
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::AuditBacklog);
    let hits = upstream.hits();
    assert!(house.fakes.trail().is_empty());
    Fakes::set(&house.fakes.audit, Mood::Well);
    until(async || waiting(&house).await == 0).await;
    let told: Vec<String> =
        house.fakes.events.lock().unwrap().iter().map(|e| e.execution_id.clone()).collect();
    assert_eq!((told.len(), &told[..5]), (hits, &ids[..]));
    until(async || house.execute(request("tool", "{}")).await.is_ok()).await;
}

#[tokio::test]
async fn an_answer_that_is_lost_delivers_again_under_the_same_id() {
    let (house, _upstream) = house(|_| {}).await;
    Fakes::set(&house.fakes.audit, Mood::Mute);
    for _ in 0..3 {
        ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    }
    until(async || house.fakes.requests.lock().unwrap().len() >= 2).await;
    Fakes::set(&house.fakes.audit, Mood::Well);
    until(async || waiting(&house).await == 0).await;
    assert!(house.fakes.events.lock().unwrap().len() > 3);
    assert_eq!(house.fakes.trail().len(), 3);
}

#[tokio::test]
async fn events_are_delivered_from_memory_and_those_of_a_dead_process_from_the_table() {
    let (house, _upstream) = house(|_| {}).await;
    ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    until(async || waiting(&house).await == 0).await;
    let young = "SELECT count(*) FROM executor.execution WHERE end_time > now() - interval '4 seconds'";
    assert_eq!((house.fakes.trail().len(), house.number(young).await), (1, 1), "it waited to grow old");
    let left: Vec<OutboxEvent> = (0..3).map(|_| large_event()).collect();
    insert(&house, &left).await;
    until(async || waiting(&house).await == 0).await;
    assert_eq!(house.fakes.trail().len(), 4);
}

async fn insert(house: &House, events: &[OutboxEvent]) {
    let mut connection = house.database.pool().unwrap().acquire().await.unwrap();
    store::events_insert(&mut connection, &events.iter().collect::<Vec<_>>()).await.unwrap();
}

fn large_event() -> OutboxEvent {
    let arguments_json = "x".repeat(64 * 1024);
    let event = Event { id: types::new_id().to_string(), arguments_json, ..Event::default() };
    OutboxEvent { destination: "audit", payload: event.encode_to_vec() }
}

#[tokio::test]
async fn more_events_than_one_message_may_hold_are_delivered_in_parts() {
    let (house, _upstream) = house(|_| {}).await;
    Fakes::set(&house.fakes.audit, Mood::Down);
    let events: Vec<OutboxEvent> = (0..100).map(|_| large_event()).collect();
    insert(&house, &events).await;
    let bytes = house
        .number("SELECT sum(octet_length(payload)) FROM executor.outbox WHERE destination = 'audit'")
        .await;
    assert!(bytes > 4 << 20, "{bytes}");
    Fakes::set(&house.fakes.audit, Mood::Well);
    until(async || waiting(&house).await == 0).await;
    assert_eq!(house.fakes.trail().len(), 100);
    let fits = |events: &usize| events * 64 * 1024 < 3 << 20;
    assert!(house.fakes.requests.lock().unwrap().iter().all(fits));
}

#[tokio::test]
async fn an_event_that_audit_refuses_does_not_hold_up_the_others() {
    let (house, upstream) = house(|_| {}).await;
    house.add(posting("poison", &upstream.url));
    Fakes::set(&house.fakes.audit, Mood::Down);
    for tool in ["tool", "tool", "poison", "tool"] {
        ended(house.execute(request(tool, "{}")).await, ExecutionStatus::Succeeded);
    }
    Fakes::set(&house.fakes.audit, Mood::Refuses("poison".into()));
    until(async || house.fakes.trail().len() == 3).await;
    ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    until(async || house.fakes.trail().len() == 4).await;
    // It is never dropped, and counts as waiting.
    until(async || waiting(&house).await == 1).await;
    Fakes::set(&house.fakes.audit, Mood::Well);
    until(async || house.fakes.trail().len() == 5).await;
}

#[tokio::test]
async fn an_event_whose_row_a_crash_has_undone_is_never_delivered() {
    let (house, _upstream) = house(|_| {}).await;
    Fakes::set(&house.fakes.audit, Mood::Down);
    insert(&house, &[OutboxEvent { destination: "audit", payload: b"kept".to_vec() }]).await;
    let kept = house.number("SELECT max(id) FROM executor.outbox").await;
    let outbox = ::store::Outbox::new(house.database.clone(), "executor", "audit", 16);
    // The second was written by a commit that the database forgot when it died.
    outbox.hand_over([(kept, b"kept".to_vec()), (kept + 1_000, b"undone".to_vec())]);
    let (taken, stop) = (Mutex::new(Vec::new()), CancellationToken::new());
    let deliver = |events: Vec<Vec<u8>>| {
        taken.lock().unwrap().extend(events);
        stop.cancel();
        async { Ok(()) }
    };
    tokio::time::timeout(Duration::from_secs(20), outbox.run(stop.clone(), deliver)).await.unwrap();
    assert_eq!(*taken.lock().unwrap(), [b"kept"]);
    assert_eq!(waiting(&house).await, 0);
}

#[tokio::test]
async fn events_that_another_process_holds_count_as_waiting() {
    let (house, _upstream) = house(|config| config.audit_backlog_max_age_s = 2).await;
    let mut other = house.database.pool().unwrap().begin().await.unwrap();
    sqlx::query("INSERT INTO executor.outbox (destination, payload, create_time) VALUES ('audit', '', now() - interval '1 hour')")
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    // Whoever is first: the relay of the house cannot take it while audit is down.
    Fakes::set(&house.fakes.audit, Mood::Down);
    let held = "SELECT id FROM executor.outbox FOR UPDATE";
    sqlx::query(held).fetch_all(&mut *other).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::AuditBacklog);
    other.rollback().await.unwrap();
}
