//! What must hold where retries, fallbacks, the cache, limits and cancelling meet: no effect twice, nothing charged
//! twice or never, and no answer for those who may not have it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::rpc::ErrorReason;
use proto::{
    executor::v1::{CancelExecutionRequest, ExecuteRequest, ExecutionStatus, Reached, Source},
    registry::v1::{
        CacheSettings, Fallback, FallbackCondition as On, IdempotencyKey, ToolDefinition, ToolSettings,
        idempotency_key::Place,
    },
    types::v1::Effect,
};
use tonic::Code;

use super::{
    fakes::Fakes,
    house::{House, PATIENCE, ended, execution, posting, refused, request, retries, until},
    upstream::{Held, Upstream, json},
};

fn read_only(definition: ToolDefinition) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..definition }
}

/// Tried once, and then `second`.
fn with_second() -> ToolSettings {
    let fallback =
        Fallback { tool: "second".into(), conditions: vec![On::Any.into()], ..Fallback::default() };
    ToolSettings { retry: Some(retries(0)), fallbacks: vec![fallback], ..ToolSettings::default() }
}

fn with_key(settings: ToolSettings) -> ToolSettings {
    let place = Some(Place::Header("Idempotency-Key".into()));
    ToolSettings { idempotency_key: Some(IdempotencyKey { place }), ..settings }
}

async fn answering(status: u16) -> Upstream {
    Upstream::new(move |_| async move { json(status, r#"{"ok":true}"#) }).await
}

fn charged(house: &House) -> i64 {
    house.fakes.charged.lock().unwrap().iter().sum()
}

#[tokio::test]
async fn what_a_fallback_costs_is_charged_once() {
    let (house, broken, well) = (House::new().await, answering(503).await, answering(200).await);
    house.add_with(read_only(posting("first", &broken.url)), with_second());
    house.add(read_only(posting("second", &well.url)));
    let made = execution(house.execute(request("first", "{}")).await);
    assert_eq!((made.source(), made.cost_micro_usd), (Source::Fallback, 14));
    until(async || house.fakes.settled().len() == 2).await;
    assert_eq!(charged(&house), 14);
    until(async || !house.fakes.outcomes.lock().unwrap().is_empty()).await;
    assert!(!house.fakes.outcomes.lock().unwrap()[0].succeeded, "the tool itself failed");
}

#[tokio::test]
async fn a_fallback_that_is_cancelled_is_settled_with_its_cost() {
    let (house, broken, held) = (House::new().await, answering(503).await, Held::new().await);
    house.add_with(read_only(posting("first", &broken.url)), with_second());
    house.add(read_only(posting("second", &held.upstream.url)));
    let call = house.spawn(PATIENCE, request("first", "{}"));
    held.reached().await;
    let id = house.texts("SELECT id::text FROM executor.execution").await.remove(0);
    let cancel = house.as_agent(CancelExecutionRequest { id });
    house.client.clone().cancel_execution(cancel).await.unwrap();
    let cancelled = execution(call.await.unwrap());
    assert_eq!((cancelled.status(), cancelled.attempts.len()), (ExecutionStatus::Cancelled, 2));
    assert_eq!(cancelled.cost_micro_usd, 14, "both were asked");
    until(async || house.fakes.settled().len() == 2).await;
    assert!(house.fakes.settled().iter().all(|(_, committed)| *committed));
    assert_eq!(charged(&house), 14);
}

#[tokio::test]
async fn one_that_is_cancelled_while_it_waits_for_a_place_was_not_made() {
    let (house, held) = (House::new().await, Held::new().await);
    let one_at_once = ToolSettings { max_concurrent: 1, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &held.upstream.url), one_at_once);
    let first = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let second = house.spawn(PATIENCE, request("tool", "{}"));
    let running = "SELECT id::text FROM executor.execution WHERE status = 'running' ORDER BY id";
    until(async || house.texts(running).await.len() == 2).await;
    let cancel = house.as_agent(CancelExecutionRequest { id: house.texts(running).await.remove(1) });
    house.client.clone().cancel_execution(cancel).await.unwrap();
    let cancelled = execution(second.await.unwrap());
    assert_eq!((cancelled.cost_micro_usd, cancelled.error.as_ref().unwrap().reached()), (0, Reached::No));
    until(async || house.fakes.settled() == [(cancelled.id.clone(), false)]).await;
    held.go();
    ended(first.await.unwrap(), ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn a_key_does_not_let_another_tool_do_what_may_be_done() {
    let (house, lost, well) = (House::new().await, answering(502).await, answering(200).await);
    house.add_with(posting("first", &lost.url), with_key(with_second()));
    house.add(posting("second", &well.url));
    ended(house.execute(request("first", "{}")).await, ExecutionStatus::UnknownOutcome);
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn nothing_with_side_effects_stands_in_for_a_tool_that_only_reads() {
    let (house, broken, well) = (House::new().await, answering(503).await, answering(200).await);
    house.add_with(read_only(posting("first", &broken.url)), with_second());
    house.add(posting("second", &well.url));
    let (_, message) = ended(house.execute(request("first", "{}")).await, ExecutionStatus::Failed);
    assert!(message.contains("second: FALLBACK_UNUSABLE it has side effects"), "{message}");
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn a_doubt_stays_whatever_stopped_the_last_attempt() {
    let house = House::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let upstream = Upstream::new(move |_| {
        let status = if asked.fetch_add(1, Ordering::SeqCst) == 0 { 502 } else { 429 };
        async move { json(status, "{}") }
    })
    .await;
    let settings = ToolSettings { retry: Some(retries(1)), ..ToolSettings::default() };
    house.add_with(posting("tool", &upstream.url), with_key(settings));
    let doubtful = execution(house.execute(request("tool", "{}")).await);
    assert_eq!((doubtful.status(), upstream.hits()), (ExecutionStatus::UnknownOutcome, 2), "{doubtful:?}");
    assert_eq!(doubtful.error.unwrap().reached(), Reached::Maybe);
}

#[tokio::test]
async fn what_a_fallback_answered_is_no_answer_for_those_who_waited() {
    let (house, well) = (House::new().await, answering(200).await);
    let (gate, arrived) = (Arc::new(tokio::sync::Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
    let (may, seen) = (gate.clone(), arrived.clone());
    let broken = Upstream::new(move |_| {
        let (may, seen) = (may.clone(), seen.clone());
        async move {
            seen.fetch_add(1, Ordering::SeqCst);
            let _ = may.acquire().await;
            json(503, "{}")
        }
    })
    .await;
    let cache = Some(CacheSettings { enabled: true, ..CacheSettings::default() });
    house.add_with(read_only(posting("first", &broken.url)), ToolSettings { cache, ..with_second() });
    house.add(read_only(posting("second", &well.url)));
    let leader = house.spawn(PATIENCE, request("first", "{}"));
    until(async || arrived.load(Ordering::SeqCst) == 1).await;
    let follower = house.spawn(PATIENCE, request("first", "{}"));
    until(async || house.statuses().await.len() == 2).await;
    gate.close();
    for call in [leader, follower] {
        assert_eq!(execution(call.await.unwrap()).source(), Source::Fallback);
    }
    assert_eq!(house.fakes.authorized.load(Ordering::Relaxed), 4, "each asked for its own fallback");
}

#[tokio::test]
async fn no_fallback_begins_when_the_time_of_the_call_is_over() {
    let (house, held, well) = (House::new().await, Held::new().await, answering(200).await);
    house.add_with(read_only(posting("first", &held.upstream.url)), with_second());
    house.add(read_only(posting("second", &well.url)));
    let asked = ExecuteRequest { timeout_ms: 2_000, ..request("first", "{}") };
    refused(
        house.spawn(Duration::from_secs(1), asked).await.unwrap(),
        Code::DeadlineExceeded,
        ErrorReason::DeadlineExceeded,
    );
    until(async || house.statuses().await == ["timed_out"]).await;
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn whoever_joined_a_call_that_was_held_back_is_told_the_same() {
    let (house, held) = (House::with(|config| config.max_wait_ms = 1_500).await, Held::new().await);
    let one_at_once = ToolSettings { max_concurrent: 1, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &held.upstream.url), one_at_once);
    let first = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let asked = ExecuteRequest { request_id: "once".into(), ..request("tool", "{}") };
    let one = house.spawn(PATIENCE, asked.clone());
    until(async || house.statuses().await.len() == 2).await;
    let other = house.spawn(PATIENCE, asked);
    for call in [one, other] {
        refused(call.await.unwrap(), Code::Unavailable, ErrorReason::ToolBusy);
    }
    held.go();
    ended(first.await.unwrap(), ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn a_place_that_no_one_waits_for_any_more_is_given_back() {
    let database = testkit::database(&[crate::schema()]).await;
    let (house, upstream) = (House::on(&database, Fakes::hesitant(), |_| {}), Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let call = house.spawn(Duration::from_millis(300), request("tool", "{}"));
    refused(call.await.unwrap(), Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
    house.fakes.gate.close();
    until(async || house.fakes.settled().len() == 1).await;
    assert!(!house.fakes.settled()[0].1);
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn the_beginning_of_a_large_result_is_told_and_not_stored() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let house = House::with(move |config| config.workspace_root = root).await;
    let large = format!(r#"{{"password":"hunter2","text":"{}"}}"#, "x".repeat(100_000));
    let upstream = Upstream::new(move |_| {
        let large = large.clone();
        async move { json(200, &large) }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    let answer = execution(house.execute(request("tool", "{}")).await);
    assert!(answer.result_json.contains("hunter2"), "its caller may see it");
    let stored = house.texts("SELECT result_json FROM executor.execution").await.remove(0);
    assert!(stored.contains(r#""artifact""#) && !stored.contains("hunter2"), "{stored}");
}
