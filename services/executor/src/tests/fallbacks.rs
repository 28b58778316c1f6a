//! Who stands in for a tool that failed, and what is answered when no one can.

use ::rpc::ErrorReason;
use proto::{
    audit::v1::Action,
    executor::v1::{AttemptKind, CallOptions, ExecuteRequest, ExecutionStatus, Source},
    permissions::v1::AuthorizeResponse,
    registry::v1::{
        CacheSettings, CircuitBreaker, Degradation, Fallback, FallbackCondition as On, OutputMode,
        ToolDefinition, ToolSettings,
    },
    types::v1::Effect,
};
use tonic::Code;

use super::{
    fakes::{Fakes, Mood},
    house::{House, PATIENCE, ended, execution, posting, refused, request, retries, until},
    upstream::{Held, Upstream, json},
};

fn stands_in(tool: &str, on: On, arguments: &str) -> Fallback {
    Fallback { tool: tool.into(), conditions: vec![on.into()], arguments: arguments.into(), priority: 0 }
}

fn settings(fallbacks: Vec<Fallback>) -> ToolSettings {
    ToolSettings { retry: Some(retries(0)), fallbacks, ..ToolSettings::default() }
}

fn read_only(definition: ToolDefinition) -> ToolDefinition {
    ToolDefinition { effect: Effect::ReadOnly.into(), ..definition }
}

async fn answering(status: u16) -> Upstream {
    Upstream::new(move |_| async move { json(status, r#"{"ok":true}"#) }).await
}

#[tokio::test]
async fn a_fallback_takes_over_with_arguments_of_its_own() {
    let (house, broken, well) = (House::new().await, answering(503).await, answering(200).await);
    let arguments = r#"{"q": arguments.query, "n": 2, "why": error.code}"#;
    let fallbacks = vec![stands_in("gone", On::Timeout, ""), stands_in("second", On::Any, arguments)];
    house.add_with(read_only(posting("first", &broken.url)), settings(fallbacks));
    house.add(read_only(posting("second", &well.url)));
    let execution = execution(house.execute(request("first", r#"{"query":"rust"}"#)).await);
    assert_eq!((execution.status(), execution.source()), (ExecutionStatus::Succeeded, Source::Fallback));
    assert_eq!(execution.attempts[1].kind(), AttemptKind::Fallback);
    assert_eq!(execution.attempts[1].tool_name, "second");
    let sent: serde_json::Value = serde_json::from_str(&well.seen()[0].body).unwrap();
    assert_eq!(sent, serde_json::json!({"q": "rust", "n": 2, "why": "TOOL_FAILED"}));
    assert_eq!(execution.cost_micro_usd, 14, "both tools worked");
    until(async || house.fakes.trail().len() == 2).await;
    let told: Vec<_> =
        house.fakes.trail().iter().map(|event| (event.action(), event.tool_name.clone())).collect();
    assert_eq!(told, [(Action::FallbackUsed, "second".into()), (Action::ToolInvoked, "first".into())]);
    until(async || house.fakes.settled().len() == 2).await;
}

#[tokio::test]
async fn the_settlement_of_a_fallback_stands_with_the_outcome() {
    let (house, broken) = (House::new().await, answering(503).await);
    let permissions = house.fakes.permissions.clone();
    let well = Upstream::new(move |_| {
        // From here on nothing is settled but by the record.
        Fakes::set(&permissions, Mood::Down);
        async { json(200, "{}") }
    })
    .await;
    house
        .add_with(read_only(posting("first", &broken.url)), settings(vec![stands_in("second", On::Any, "")]));
    house.add(read_only(posting("second", &well.url)));
    let made = execution(house.execute(request("first", "{}")).await);
    assert_eq!(made.source(), Source::Fallback);
    let kept = "SELECT count(*) FROM executor.outbox WHERE destination = 'permissions'";
    assert_eq!(house.number(kept).await, 2);
    Fakes::set(&house.fakes.permissions, Mood::Well);
    until(async || house.number(kept).await == 0).await;
    assert_eq!(house.fakes.settled().len(), 2);
    assert!(house.fakes.settled().iter().all(|(_, committed)| *committed));
    assert_eq!(house.fakes.charged.lock().unwrap().iter().sum::<i64>(), 14);
}

#[tokio::test]
async fn a_fallback_whose_outcome_is_lost_is_settled_all_the_same() {
    let (house, broken, held) = (House::new().await, answering(503).await, Held::new().await);
    house
        .add_with(read_only(posting("first", &broken.url)), settings(vec![stands_in("second", On::Any, "")]));
    house.add(read_only(posting("second", &held.upstream.url)));
    let call = house.spawn(PATIENCE, request("first", "{}"));
    held.reached().await;
    house.run("DELETE FROM executor.execution").await;
    held.go();
    refused(call.await.unwrap(), Code::Unavailable, ErrorReason::OutcomeUnknown);
    until(async || house.fakes.settled().len() == 1).await;
    assert!(house.fakes.settled()[0].1);
}

#[tokio::test]
async fn when_all_fail_each_reason_is_listed() {
    let (house, broken) = (House::new().await, answering(503).await);
    let schema = r#"{"type":"object","required":["q"]}"#;
    house.add_with(
        read_only(posting("first", &broken.url)),
        settings(vec![
            stands_in("nowhere", On::Any, ""),
            stands_in("picky", On::Any, ""),
            stands_in("odd", On::Any, "arguments.missing"),
            stands_in("also_broken", On::Any, ""),
        ]),
    );
    house
        .add(ToolDefinition { input_schema_json: schema.into(), ..read_only(posting("picky", &broken.url)) });
    house.add(read_only(posting("odd", &broken.url)));
    house.add(read_only(posting("also_broken", &broken.url)));
    let (code, message) = ended(house.execute(request("first", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(code, "TOOL_FAILED");
    for reason in [
        "nowhere: FALLBACK_UNUSABLE there is no tool",
        "picky: FALLBACK_UNUSABLE the arguments made for it break its input schema",
        "odd: FALLBACK_UNUSABLE its arguments cannot be made",
        "also_broken: TOOL_FAILED the server answered 503",
    ] {
        assert!(message.contains(reason), "{reason} is not in {message}");
    }
    assert_eq!(broken.hits(), 2);
}

#[tokio::test]
async fn a_side_effect_that_may_have_happened_is_not_done_by_another() {
    let (house, broken, well) = (House::new().await, answering(502).await, answering(200).await);
    house.add_with(posting("charge", &broken.url), settings(vec![stands_in("other", On::Any, "")]));
    house.add(posting("other", &well.url));
    let (_, message) = ended(house.execute(request("charge", "{}")).await, ExecutionStatus::UnknownOutcome);
    assert!(message.contains("may have taken effect"), "{message}");
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn a_fallback_that_the_caller_may_not_call_is_not_called() {
    let (house, broken, well) = (House::new().await, answering(503).await, answering(200).await);
    house.add_with(read_only(posting("first", &broken.url)), settings(vec![stands_in("other", On::Any, "")]));
    house.add(read_only(posting("other", &well.url)));
    house.fakes.deny_tool(
        "other",
        AuthorizeResponse { reason: "NO_GRANT".into(), message: "no grant".into(), ..Default::default() },
    );
    let (_, message) = ended(house.execute(request("first", "{}")).await, ExecutionStatus::Failed);
    assert!(message.contains("other: DENIED no grant"), "{message}");
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn a_call_may_do_without_fallbacks() {
    let (house, broken, well) = (House::new().await, answering(503).await, answering(200).await);
    house.add_with(read_only(posting("first", &broken.url)), settings(vec![stands_in("other", On::Any, "")]));
    house.add(read_only(posting("other", &well.url)));
    let without = CallOptions { no_fallbacks: true, ..CallOptions::default() };
    let abort = CallOptions { degradation: Degradation::Abort.into(), ..CallOptions::default() };
    for options in [without, abort] {
        let asked = ExecuteRequest { options: Some(options), ..request("first", "{}") };
        ended(house.execute(asked).await, ExecutionStatus::Failed);
    }
    assert_eq!(well.hits(), 0);
}

#[tokio::test]
async fn what_a_tool_gave_before_it_failed_is_answered_as_partial_when_asked_for() {
    let (house, upstream) =
        (House::new().await, Upstream::new(|_| async { json(200, r#"{"n":"x"}"#) }).await);
    let output_schema_json = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#.to_owned();
    let tool = ToolDefinition { output_schema_json, ..read_only(posting("tool", &upstream.url)) };
    house.add_with(tool, ToolSettings { degradation: Degradation::Partial.into(), ..settings(Vec::new()) });
    let execution = execution(house.execute(request("tool", "{}")).await);
    assert_eq!((execution.status(), execution.source()), (ExecutionStatus::Succeeded, Source::Partial));
    assert_eq!(execution.result_json, r#"{"n":"x"}"#);
    assert_eq!(execution.attempts[0].error.as_ref().unwrap().violations.len(), 1);
}

#[tokio::test]
async fn a_stale_answer_stands_in_and_is_marked() {
    let house = House::new().await;
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let broken = fails.clone();
    let upstream = Upstream::new(move |_| {
        let status = if broken.load(std::sync::atomic::Ordering::SeqCst) { 503 } else { 200 };
        async move { json(status, r#"{"ok":true}"#) }
    })
    .await;
    let cache = Some(CacheSettings { enabled: true, ttl_s: 1, ..CacheSettings::default() });
    let circuit_breaker = Some(CircuitBreaker { disabled: true, ..CircuitBreaker::default() });
    let degradation = Degradation::Cached.into();
    house.add_with(
        read_only(posting("tool", &upstream.url)),
        ToolSettings { cache, degradation, circuit_breaker, ..settings(Vec::new()) },
    );
    let source = async |is_failing: bool| {
        fails.store(is_failing, std::sync::atomic::Ordering::SeqCst);
        let execution = execution(house.execute(request("tool", "{}")).await);
        (execution.source(), execution.cache_age_ms)
    };
    until(async || match source(true).await {
        (Source::StaleCache, age) => age >= 1_000,
        (Source::Cache, _) => false,
        // Not kept yet, or dropped: a process that begins to hear of the others empties its cache.
        _ => {
            source(false).await;
            false
        }
    })
    .await;
}

#[tokio::test]
async fn each_output_mode_does_as_it_says() {
    let (house, upstream) =
        (House::new().await, Upstream::new(|_| async { json(200, r#"{"n":"x"}"#) }).await);
    let output_schema_json = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#.to_owned();
    let tool = |name: &str| ToolDefinition {
        output_schema_json: output_schema_json.clone(),
        ..posting(name, &upstream.url)
    };
    for (name, mode) in [("strict", OutputMode::Strict), ("warn", OutputMode::Warn), ("off", OutputMode::Off)]
    {
        house.add_with(tool(name), ToolSettings { output_mode: mode.into(), ..settings(Vec::new()) });
    }
    let (code, _) = ended(house.execute(request("strict", "{}")).await, ExecutionStatus::Failed);
    assert_eq!(code, "INVALID_RESULT");
    let warned = execution(house.execute(request("warn", "{}")).await);
    assert_eq!((warned.status(), warned.warnings.len()), (ExecutionStatus::Succeeded, 1));
    assert_eq!(warned.warnings[0].pointer, "/n");
    let unchecked = execution(house.execute(request("off", "{}")).await);
    assert_eq!((unchecked.status(), unchecked.warnings.len()), (ExecutionStatus::Succeeded, 0));
}

#[tokio::test]
async fn a_result_too_large_to_travel_becomes_a_file_of_the_workspace() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_owned();
    let house = House::with(move |config| config.workspace_root = root).await;
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    let answer = large.clone();
    let upstream = Upstream::new(move |_| {
        let answer = answer.clone();
        async move { json(200, &answer) }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    let asked = ExecuteRequest { task_id: "job".into(), ..request("tool", "{}") };
    let execution = execution(house.execute(asked).await);
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    let reference: serde_json::Value = serde_json::from_str(&execution.result_json).unwrap();
    assert_eq!(reference["artifact"]["bytes"], large.len());
    let path = reference["artifact"]["path"].as_str().unwrap();
    let kept = std::fs::read_to_string(folder.path().join("team/job").join(path)).unwrap();
    assert_eq!(kept, large);
    assert_eq!(reference["artifact"]["sha256"], types::digest_bytes(large.as_bytes()));
}

#[tokio::test]
async fn a_name_that_a_fallback_does_not_expect_is_recorded_sanitised() {
    let (house, broken) = (House::new().await, answering(503).await);
    let input_schema_json =
        r#"{"type":"object","properties":{"q":{}},"additionalProperties":false}"#.to_owned();
    let fallbacks = vec![stands_in("picky", On::Any, "")];
    house.add_with(read_only(posting("first", &broken.url)), settings(fallbacks));
    house.add(ToolDefinition { input_schema_json, ..read_only(posting("picky", &broken.url)) });
    let secret = "AKIAIOSFODNN7EXAMPLE";
    let asked = request("first", &format!(r#"{{"{secret}":1}}"#));
    let execution = execution(house.execute(asked).await);
    let violations = &execution.attempts[1].error.as_ref().unwrap().violations;
    assert!(violations[0].message.contains("[redacted]"), "{violations:?}");
    let kept = house.texts("SELECT execution::text FROM executor.execution").await;
    assert!(kept[0].contains("picky") && !kept[0].contains(secret), "{kept:?}");
}
