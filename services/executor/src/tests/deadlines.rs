//! What waits must not begin after its caller's time, and what ended with one caller's time is not the end for those
//! who wait beside it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use ::rpc::{ErrorReason, reason_of};
use proto::{
    executor::v1::{ExecuteRequest, ExecutionStatus, Source},
    registry::v1::{
        CacheSettings, CircuitBreaker, Fallback, FallbackCondition as On, RetryPolicy, ToolSettings,
    },
};
use tokio::sync::Semaphore;
use tonic::Code;

use super::{
    cache::{house, keeping, read_only, stats},
    fakes::Fakes,
    house::{House, PATIENCE, ended, execution, posting, refused, request, retries, until},
    upstream::{Held, Upstream, json},
};

fn is_late(answer: Result<proto::executor::v1::ExecuteResponse, tonic::Status>) {
    refused(answer, Code::DeadlineExceeded, ErrorReason::DeadlineExceeded);
}

#[tokio::test]
async fn a_wait_for_a_place_ends_with_the_time_of_the_call() {
    let (house, held) = (House::with(|config| config.max_wait_ms = 60_000).await, Held::new().await);
    let one_at_once = ToolSettings { max_concurrent: 1, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &held.upstream.url), one_at_once);
    let first = house.spawn(PATIENCE * 2, request("tool", "{}"));
    held.reached().await;
    let asked = ExecuteRequest { request_id: "once".into(), ..request("tool", "{}") };
    is_late(house.spawn(Duration::from_secs(1), asked.clone()).await.unwrap());
    until(async || house.statuses().await == ["running", "timed_out"]).await;
    until(async || house.fakes.settled().len() == 1).await;
    assert!(!house.fakes.settled()[0].1, "it was not made");
    held.go();
    ended(first.await.unwrap(), ExecutionStatus::Succeeded);
    assert_eq!(held.upstream.hits(), 1);
    // Nothing ran, and for no fault of the call.
    held.go();
    let again = house.execute(asked).await.unwrap();
    assert!(!again.replayed);
}

#[tokio::test]
async fn no_fallback_begins_when_its_permission_came_too_late() {
    let database = testkit::database(&[crate::schema()]).await;
    let house = House::on(&database, Fakes::hesitant(), |_| {});
    let broken = Upstream::new(|_| async { json(503, "{}") }).await;
    let well = Upstream::well().await;
    let fallback =
        Fallback { tool: "second".into(), conditions: vec![On::Any.into()], ..Fallback::default() };
    let settings =
        ToolSettings { retry: Some(retries(0)), fallbacks: vec![fallback], ..ToolSettings::default() };
    house.add_with(read_only(posting("first", &broken.url)), settings);
    house.add(read_only(posting("second", &well.url)));
    house.fakes.gate.add_permits(1);
    is_late(house.spawn(Duration::from_millis(800), request("first", "{}")).await.unwrap());
    assert_eq!(broken.hits(), 1);
    house.fakes.gate.close();
    until(async || house.statuses().await == ["failed"]).await;
    until(async || house.fakes.settled().len() == 2).await;
    assert_eq!(well.hits(), 0);
    let committed = house.fakes.settled().iter().filter(|(_, committed)| *committed).count();
    assert_eq!(committed, 1, "the place of the fallback is given back");
}

/// A server that fails the first requests and then answers well; the gate holds all of them. Tells how many it had at
/// once.
async fn failing_behind(gate: &Arc<Semaphore>, times: usize) -> (Upstream, Arc<AtomicUsize>) {
    let (left, now) = (Arc::new(AtomicUsize::new(times)), Arc::new(AtomicUsize::new(0)));
    let (most, gate) = (Arc::new(AtomicUsize::new(0)), gate.clone());
    let peak = most.clone();
    let upstream = Upstream::new(move |_| {
        let (left, now, most, gate) = (left.clone(), now.clone(), most.clone(), gate.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _ = gate.acquire().await;
            now.fetch_sub(1, Ordering::SeqCst);
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
            if fails { json(503, "{}") } else { json(200, r#"{"ok":true}"#) }
        }
    });
    (upstream.await, peak)
}

#[tokio::test]
async fn the_failure_of_one_is_not_that_of_those_who_wait_for_it() {
    let (house, gate) = (house().await, Arc::new(Semaphore::new(0)));
    let (upstream, _) = failing_behind(&gate, 1).await;
    // Its time does not reach for the retry that would have helped.
    let (initial_backoff_ms, max_backoff_ms, jitter) = (60_000, 60_000, Some(false));
    let patient = RetryPolicy { initial_backoff_ms, max_backoff_ms, jitter, ..retries(1) };
    let settings = ToolSettings { retry: Some(patient), ..keeping(CacheSettings::default()) };
    house.add_with(read_only(posting("tool", &upstream.url)), settings);
    let leader = house.spawn(PATIENCE, request("tool", "{}"));
    until(async || upstream.hits() == 1).await;
    let follower = house.spawn(PATIENCE, request("tool", "{}"));
    until(async || stats(&house, "tool").await.misses == 2).await;
    gate.close();
    ended(leader.await.unwrap(), ExecutionStatus::Failed);
    let followed = execution(follower.await.unwrap());
    assert_eq!((followed.status(), followed.source()), (ExecutionStatus::Succeeded, Source::Unspecified));
    assert_eq!(upstream.hits(), 2);
}

#[tokio::test]
async fn of_those_who_wait_for_a_tool_that_fails_one_at_a_time_asks_it_until_its_breaker_opens() {
    let (house, gate) = (house().await, Arc::new(Semaphore::new(0)));
    let (upstream, most) = failing_behind(&gate, usize::MAX).await;
    let breaker = Some(CircuitBreaker { min_calls: 4, open_ms: 60_000, ..CircuitBreaker::default() });
    let settings = ToolSettings { circuit_breaker: breaker, ..keeping(CacheSettings::default()) };
    house.add_with(read_only(posting("tool", &upstream.url)), settings);
    let calls: Vec<_> = (0..100).map(|_| house.spawn(PATIENCE, request("tool", "{}"))).collect();
    until(async || stats(&house, "tool").await.misses == 100).await;
    gate.close();
    let mut failed = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok(answer) => {
                failed += 1;
                ended(Ok(answer), ExecutionStatus::Failed);
            }
            Err(status) => assert_eq!(reason_of(&status), Some(ErrorReason::CircuitOpen), "{status:?}"),
        }
    }
    assert_eq!((failed, upstream.hits(), most.load(Ordering::SeqCst)), (4, 4, 1));
}
