//! What is tried again, what never is, and what is left alone for a while.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use ::rpc::ErrorReason;
use proto::{
    audit::v1::Action,
    executor::v1::{
        AttemptKind, CallOptions, ExecuteRequest, ExecutionStatus, Reached, Source, ToolErrorCode,
    },
    registry::v1::{
        CircuitBreaker, Fallback, FallbackCondition as On, IdempotencyKey, ToolDefinition, ToolSettings,
        idempotency_key::Place,
    },
    types::v1::Effect,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    house::{House, ended, execution, posting, refused, request, retries, until},
    upstream::{Held, Upstream, json},
};

/// A server that answers so many requests with this status, and then well.
async fn failing(times: usize, status: u16) -> Upstream {
    let left = Arc::new(AtomicUsize::new(times));
    Upstream::new(move |_| {
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        async move { if fails { json(status, "{}") } else { json(200, r#"{"ok":true}"#) } }
    })
    .await
}

fn with_retries(max_retries: i32) -> ToolSettings {
    ToolSettings { retry: Some(retries(max_retries)), ..ToolSettings::default() }
}

fn read_only(definition: ToolDefinition) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..definition }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_every_attempt_is_recorded_and_told() {
    let (house, upstream) = (House::new().await, failing(2, 503).await);
    house.add_with(read_only(posting("tool", &upstream.url)), with_retries(3));
    let execution = execution(house.execute(request("tool", "{}")).await);
    assert_eq!(execution.status(), ExecutionStatus::Succeeded);
    let kinds: Vec<_> = execution.attempts.iter().map(proto::executor::v1::Attempt::kind).collect();
    assert_eq!(kinds, [AttemptKind::First, AttemptKind::Retry, AttemptKind::Retry]);
    let failed = |n: usize| execution.attempts[n].error.is_some();
    assert_eq!([failed(0), failed(1), failed(2)], [true, true, false]);
    assert!(execution.attempts[1].backoff_ms > 0.0);
    until(async || house.fakes.trail().len() == 3).await;
    let actions: Vec<_> = house.fakes.trail().iter().map(proto::audit::v1::Event::action).collect();
    assert_eq!(actions, [Action::RetryAttempted, Action::RetryAttempted, Action::ToolInvoked]);
    assert_eq!(house.number("SELECT sum(retries) FROM executor.execution").await, 2);
}

#[tokio::test]
async fn the_call_may_ask_for_fewer_and_not_for_more() {
    let (house, upstream) = (House::new().await, failing(99, 503).await);
    house.add_with(read_only(posting("tool", &upstream.url)), with_retries(2));
    for (asked, hits) in [(Some(0), 1), (Some(1), 2), (Some(9), 3), (None, 3)] {
        let before = upstream.hits();
        let options = Some(CallOptions { max_retries: asked, ..CallOptions::default() });
        let answer = house.execute(ExecuteRequest { options, ..request("tool", "{}") }).await;
        ended(answer, ExecutionStatus::Failed);
        assert_eq!(upstream.hits() - before, hits, "{asked:?}");
    }
}

#[tokio::test]
async fn a_side_effect_in_doubt_is_not_repeated_unless_it_takes_a_key() {
    let house = House::new().await;
    let lost = failing(99, 502).await;
    house.add_with(posting("charge", &lost.url), with_retries(3));
    let doubtful = execution(house.execute(request("charge", "{}")).await);
    assert_eq!((doubtful.status(), lost.hits()), (ExecutionStatus::UnknownOutcome, 1), "{doubtful:?}");
    assert_eq!(doubtful.error.unwrap().reached(), Reached::Maybe);
    let again = failing(1, 502).await;
    let place = Some(Place::Header("Idempotency-Key".into()));
    let takes_key = ToolSettings { idempotency_key: Some(IdempotencyKey { place }), ..with_retries(3) };
    house.add_with(posting("keyed", &again.url), takes_key);
    let made = execution(house.execute(request("keyed", "{}")).await);
    assert_eq!(made.status(), ExecutionStatus::Succeeded);
    let keys: Vec<_> = again.seen().iter().map(|seen| seen.headers["idempotency-key"].clone()).collect();
    assert_eq!(keys, [made.id.as_str(), made.id.as_str()]);
    // Surely not begun: nothing speaks against another try.
    let busy = failing(1, 429).await;
    house.add_with(posting("busy", &busy.url), with_retries(3));
    assert_eq!(execution(house.execute(request("busy", "{}")).await).status(), ExecutionStatus::Succeeded);
    assert_eq!(busy.hits(), 2);
}

#[tokio::test]
async fn a_failure_that_stays_is_not_tried_again() {
    let (house, upstream) = (House::new().await, failing(99, 404).await);
    house.add_with(read_only(posting("tool", &upstream.url)), with_retries(3));
    ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test]
async fn a_tool_that_keeps_failing_is_left_alone_and_then_probed() {
    let (house, upstream) = (House::new().await, failing(4, 503).await);
    let breaker = CircuitBreaker { min_calls: 4, open_ms: 1_000, probes: 1, ..CircuitBreaker::default() };
    let settings = ToolSettings { circuit_breaker: Some(breaker), ..with_retries(0) };
    house.add_with(read_only(posting("tool", &upstream.url)), settings);
    for _ in 0..4 {
        ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Failed);
    }
    let status =
        refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::CircuitOpen);
    assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_eq!(upstream.hits(), 4);
    assert_eq!(
        house.texts("SELECT error_code FROM executor.execution ORDER BY id DESC LIMIT 1").await,
        ["CIRCUIT_OPEN"]
    );
    until(async || house.execute(request("tool", "{}")).await.is_ok()).await;
    assert_eq!(upstream.hits(), 5);
}

#[tokio::test]
async fn a_retry_that_is_held_back_does_not_hide_why_it_was_made() {
    let (house, held, well) = (House::new().await, Held::new().await, Upstream::well().await);
    let once_a_minute = |definition| ToolDefinition { rate_limit_per_minute: 1, ..definition };
    let slow = ToolDefinition { timeout_ms: 300, ..read_only(posting("slow", &held.upstream.url)) };
    let fallback =
        Fallback { tool: "other".into(), conditions: vec![On::Timeout.into()], ..Fallback::default() };
    house.add_with(once_a_minute(slow), ToolSettings { fallbacks: vec![fallback], ..with_retries(2) });
    house.add(read_only(posting("other", &well.url)));
    let made = execution(house.execute(request("slow", "{}")).await);
    assert_eq!((made.status(), made.source()), (ExecutionStatus::Succeeded, Source::Fallback));
    let codes: Vec<_> =
        made.attempts.iter().filter_map(|attempt| Some(attempt.error.as_ref()?.code())).collect();
    assert_eq!(codes, [ToolErrorCode::Timeout, ToolErrorCode::RateLimited]);
    // The tool was asked, so its request id is used and its place is paid.
    let busy = failing(99, 429).await;
    house.add_with(once_a_minute(posting("busy", &busy.url)), with_retries(2));
    let asked = ExecuteRequest { request_id: "once".into(), ..request("busy", "{}") };
    let (code, _) = ended(house.execute(asked.clone()).await, ExecutionStatus::Failed);
    assert_eq!(code, "UPSTREAM_RATE_LIMITED");
    assert!(house.execute(asked).await.unwrap().replayed);
    assert_eq!(busy.hits(), 1);
}

#[tokio::test]
async fn a_slow_tool_takes_its_own_places_and_no_others() {
    let (house, held) = (House::with(|config| config.max_wait_ms = 50).await, Held::new().await);
    let quick = Upstream::well().await;
    house.add_with(
        read_only(posting("slow", &held.upstream.url)),
        ToolSettings { max_concurrent: 1, ..with_retries(0) },
    );
    house.add(posting("quick", &quick.url));
    let first = house.spawn(super::house::PATIENCE, request("slow", "{}"));
    held.reached().await;
    refused(house.execute(request("slow", "{}")).await, Code::Unavailable, ErrorReason::ToolBusy);
    assert_eq!(execution(house.execute(request("quick", "{}")).await).status(), ExecutionStatus::Succeeded);
    held.go();
    assert_eq!(execution(first.await.unwrap()).status(), ExecutionStatus::Succeeded);
}

#[tokio::test]
async fn a_rate_is_told_and_kept_and_a_call_held_back_gives_its_request_id_back() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    let limited = ToolDefinition { rate_limit_per_minute: 2, ..posting("tool", &upstream.url) };
    house.add(limited.clone());
    for _ in 0..2 {
        assert!(house.execute(request("tool", "{}")).await.is_ok());
    }
    let asked = ExecuteRequest { request_id: "once".into(), ..request("tool", "{}") };
    let status =
        refused(house.execute(asked.clone()).await, Code::ResourceExhausted, ErrorReason::RateLimited);
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|retry| retry.retry_delay).unwrap();
    assert!(delay.as_secs() <= 30, "{delay:?}");
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "tool:tool");
    assert_eq!(upstream.hits(), 2);
    until(async || house.fakes.settled().len() == 3).await;
    assert!(!house.fakes.settled()[2].1, "its place is given back");
    // A higher rate earns the next place back sooner; the id is as good as new.
    house.add_with(limited, ToolSettings { rate_limit_per_minute: 6_000, ..with_retries(0) });
    until(async || match house.execute(asked.clone()).await {
        Ok(answer) => {
            assert!(!answer.replayed);
            answer.execution.is_some_and(|execution| execution.status() == ExecutionStatus::Succeeded)
        }
        Err(_) => false,
    })
    .await;
    assert_eq!(upstream.hits(), 3);
}
