//! What a queued call takes along from one taking to the next: its attempts, its decision, its trace.

use std::sync::{Arc, Mutex};

use opentelemetry::{
    global,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, SpanData, SpanExporter},
};
use proto::{
    executor::v1::{ExecutionStatus, ToolErrorCode},
    registry::v1::ToolSettings,
};
use tracing::Instrument;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use uuid::Uuid;

use super::{
    fakes::Fakes,
    house::{House, PATIENCE, posting, request, retries, until},
    queue::{accepted, get, later},
    upstream::{Held, Upstream},
};

#[tokio::test]
async fn the_attempts_of_a_call_that_was_put_back_stay_on_record() {
    let (house, held) = (House::with(|config| config.max_wait_ms = 50).await, Held::new().await);
    let one_at_once = ToolSettings { max_concurrent: 1, retry: Some(retries(0)), ..ToolSettings::default() };
    house.add_with(posting("tool", &held.upstream.url), one_at_once);
    let first = house.spawn(PATIENCE, request("tool", "{}"));
    held.reached().await;
    let queued = accepted(&house, later("tool", r#"{"n":2}"#)).await;
    until(async || {
        let waiting = get(&house, &queued.id).await;
        waiting.status() == ExecutionStatus::Queued && waiting.attempts.len() >= 2
    })
    .await;
    (0..2).for_each(|_| held.go());
    first.await.unwrap().unwrap();
    until(async || get(&house, &queued.id).await.status() == ExecutionStatus::Succeeded).await;
    let ended = get(&house, &queued.id).await;
    let (last, before) = ended.attempts.split_last().unwrap();
    assert!(before.len() >= 2 && last.error.is_none(), "{ended:?}");
    for attempt in before {
        assert_eq!(attempt.error.as_ref().unwrap().code(), ToolErrorCode::ToolBusy);
    }
    let numbers: Vec<_> = ended.attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, (1..).take(numbers.len()).collect::<Vec<i32>>());
    assert_eq!((ended.deliveries, held.upstream.hits()), (1, 2));
}

#[tokio::test]
async fn a_decision_for_a_call_that_ended_meanwhile_is_given_back() {
    let database = testkit::database(&[crate::schema()]).await;
    let (house, upstream) = (House::on(&database, Fakes::hesitant(), |_| {}), Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.fakes.gate.add_permits(1);
    accepted(&house, later("tool", "{}")).await;
    until(async || house.statuses().await == ["running"]).await;
    // Closed by another process, while this one waits for its permission: by now that is another one.
    house
        .run("UPDATE executor.execution SET status = 'unknown_outcome', lease_epoch = lease_epoch + 1, end_time = now()")
        .await;
    let decision = Uuid::new_v4().to_string();
    *house.fakes.next_decision.lock().unwrap() = Some(decision.clone());
    house.fakes.gate.close();
    until(async || house.fakes.settled() == [(decision.clone(), false)]).await;
    assert_eq!(upstream.hits(), 0);
}

/// Keeps the spans that ended.
#[derive(Debug, Clone, Default)]
struct Spans(Arc<Mutex<Vec<SpanData>>>);

impl SpanExporter for Spans {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.0.lock().unwrap().extend(batch);
        Ok(())
    }
}

#[tokio::test]
async fn the_run_of_a_queued_call_is_linked_to_the_trace_that_accepted_it() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(spans.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    // With a second one known, a span that a test beside this one makes first is not switched off for this one too.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let asking = tracing::info_span!("asking");
    let trace = asking.context().span().span_context().trace_id();
    let queued = accepted(&house, later("tool", "{}")).instrument(asking).await;
    assert_eq!(queued.trace_id, trace.to_string());
    house.until_all("succeeded").await;
    let links = || {
        let spans = spans.0.lock().unwrap();
        let run = spans.iter().find(|span| span.name == "queued")?;
        let links = run.links.iter().map(|link| link.span_context.trace_id()).collect::<Vec<_>>();
        Some((run.span_context.trace_id(), links))
    };
    until(async || links().is_some()).await;
    let (own, links) = links().unwrap();
    assert_eq!(links, [trace]);
    assert_ne!(own, trace, "it is no part of it");
}
