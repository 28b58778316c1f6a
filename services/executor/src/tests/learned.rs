//! What the selector is told of each call, and of which calls it is told nothing.

use ::rpc::ErrorReason;
use proto::{
    executor::v1::{ExecuteRequest, ExecutionStatus, Source},
    permissions::v1::AuthorizeResponse,
    registry::v1::{
        CacheSettings, CircuitBreaker, Fallback, FallbackCondition as On, ToolDefinition, ToolSettings,
    },
    selector::v1::Outcome,
    types::v1::Effect,
};
use tonic::Code;
use types::Caller;

use super::{
    cache::{self, keeping, read_only},
    house::{House, PATIENCE, agent, ended, execution, posting, refused, request, retries, until},
    upstream::{Upstream, json},
};

async fn answering(status: u16) -> Upstream {
    Upstream::new(move |_| async move { json(status, r#"{"ok":true}"#) }).await
}

fn told(house: &House, tool: &str) -> Vec<Outcome> {
    let outcomes = house.fakes.outcomes.lock().unwrap();
    outcomes.iter().filter(|outcome| outcome.tool_name == tool).cloned().collect()
}

/// What is told of a tool, once it is so much.
async fn all_told(house: &House, tool: &str, count: usize) -> Vec<Outcome> {
    until(async || told(house, tool).len() >= count).await;
    let told = told(house, tool);
    assert_eq!(told.len(), count, "{told:?}");
    told
}

fn once(settings: ToolSettings) -> ToolSettings {
    ToolSettings { retry: Some(retries(0)), ..settings }
}

#[tokio::test]
async fn a_call_and_the_answer_of_the_cache_to_the_same_call_are_told_apart() {
    let (house, well) = (cache::house().await, Upstream::well().await);
    let definition = ToolDefinition { timeout_ms: 7_000, ..read_only(posting("tool", &well.url)) };
    house.add_with(definition, keeping(CacheSettings::default()));
    let asked = ExecuteRequest { task_id: "t-1".into(), ..request("tool", r#"{"b":1.0,"a":2}"#) };
    let ran = execution(house.execute(asked.clone()).await);
    let other_spelling = ExecuteRequest { input: request("tool", r#"{"a":2,"b":1}"#).input, ..asked };
    let kept = cache::from_cache(&house, &other_spelling).await;
    assert_eq!((ran.source(), kept.source()), (Source::Unspecified, Source::Cache));
    until(async || told(&house, "tool").iter().any(|outcome| outcome.execution_id == kept.id)).await;
    let told = told(&house, "tool");
    let of = |id: &str| told.iter().find(|outcome| outcome.execution_id == id).unwrap();
    let (first, second) = (of(&ran.id), of(&kept.id));
    assert_eq!((first.cached, second.cached), (false, true));
    assert!(first.succeeded && second.succeeded && first.failure_reason.is_empty());
    assert_eq!((first.task_id.as_str(), first.timeout_ms), ("t-1", 7_000));
    assert_eq!(first.effect(), Effect::ReadOnly);
    let digest = types::digest_json(&serde_json::json!({"a": 2, "b": 1})).unwrap();
    assert_eq!((&first.arguments_hash, &second.arguments_hash), (&digest, &digest));
}

#[tokio::test]
async fn a_tool_that_another_stood_in_for_has_failed_with_its_own_reason_time_and_cost() {
    let (house, broken) = (House::new().await, answering(503).await);
    let slow = Upstream::new(|_| async {
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        json(200, "{}")
    })
    .await;
    let conditions = vec![On::Any.into()];
    let fallbacks = vec![Fallback { tool: "second".into(), conditions, ..Fallback::default() }];
    let settings = once(ToolSettings { fallbacks, ..ToolSettings::default() });
    house.add_with(read_only(posting("first", &broken.url)), settings);
    house.add(read_only(posting("second", &slow.url)));
    let made = execution(house.execute(request("first", "{}")).await);
    assert_eq!(made.source(), Source::Fallback);
    let told = &all_told(&house, "first", 1).await[0];
    assert!(!told.succeeded && told.fell_back && !told.cached, "{told:?}");
    assert_eq!(told.failure_reason, "TOOL_FAILED");
    assert!(told.duration_ms < 1_500.0, "the other's time is not its own: {told:?}");
    assert_eq!((told.cost_micro_usd, made.cost_micro_usd), (7, 14));
}

#[tokio::test]
async fn an_open_circuit_speaks_against_the_tool_and_a_denial_says_nothing_of_it() {
    let (house, broken) = (House::new().await, answering(503).await);
    let breaker = CircuitBreaker { min_calls: 2, open_ms: 60_000, ..CircuitBreaker::default() };
    let settings = once(ToolSettings { circuit_breaker: Some(breaker), ..ToolSettings::default() });
    house.add_with(read_only(posting("tool", &broken.url)), settings);
    house.add(read_only(posting("after", &broken.url)));
    for _ in 0..2 {
        ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Failed);
    }
    refused(house.execute(request("tool", "{}")).await, Code::Unavailable, ErrorReason::CircuitOpen);
    let reasons: Vec<String> =
        all_told(&house, "tool", 3).await.into_iter().map(|outcome| outcome.failure_reason).collect();
    assert_eq!(reasons, ["TOOL_FAILED", "TOOL_FAILED", "CIRCUIT_OPEN"]);
    let reason = "NO_GRANT".into();
    house.fakes.deny_tool("tool", AuthorizeResponse { reason, ..AuthorizeResponse::default() });
    refused(house.execute(request("tool", "{}")).await, Code::PermissionDenied, ErrorReason::NoGrant);
    ended(house.execute(request("after", "{}")).await, ExecutionStatus::Failed);
    all_told(&house, "after", 1).await;
    assert_eq!(told(&house, "tool").len(), 3, "events are delivered in order: nothing came of the denial");
}

#[tokio::test]
async fn nothing_by_which_the_arguments_for_an_end_user_could_be_guessed_is_told() {
    let (house, well) = (House::new().await, Upstream::well().await);
    house.add(read_only(posting("tool", &well.url)));
    let ada = Caller { user: "ada".into(), ..agent("agent") };
    execution(house.execute_as(&ada, PATIENCE, request("tool", "{}")).await);
    execution(house.execute(request("tool", "{}")).await);
    let told = all_told(&house, "tool", 2).await;
    let has_hash: Vec<bool> = told.iter().map(|outcome| !outcome.arguments_hash.is_empty()).collect();
    assert_eq!(has_hash, [false, true]);
}

#[tokio::test]
async fn a_tool_that_its_caller_does_not_wait_for_is_told_apart_from_one_that_takes_too_long() {
    let (house, stuck) = (House::new().await, Upstream::new(|_| std::future::pending()).await);
    let definition = ToolDefinition { timeout_ms: 400, ..read_only(posting("tool", &stuck.url)) };
    house.add_with(definition, once(ToolSettings::default()));
    for timeout_ms in [0, 300, 400] {
        let asked = ExecuteRequest { timeout_ms, ..request("tool", "{}") };
        ended(house.execute(asked).await, ExecutionStatus::TimedOut);
    }
    let reasons: Vec<String> =
        all_told(&house, "tool", 3).await.into_iter().map(|outcome| outcome.failure_reason).collect();
    assert_eq!(reasons, ["TIMEOUT", "CUT_SHORT", "TIMEOUT"]);
}
