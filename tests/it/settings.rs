//! Settings of tools, as operators change them and callers feel them: retries, fallbacks, the cache, the output mode.

use proto::{
    audit::v1::Action,
    executor::v1::{
        Attempt, AttemptKind, CallOptions, ExecuteRequest, Execution, ExecutionStatus, GetCacheStatsRequest,
        InvalidateCacheRequest, Reached, Source, ToolErrorCode,
    },
    registry::v1::{
        CacheSettings, CircuitBreaker, Degradation, Fallback, FallbackCondition, GetFallbacksRequest,
        GetToolRequest, OutputMode, RetryPolicy, SetFallbacksRequest, Tool, ToolSettings, UpdateToolRequest,
        get_tool_request::Key,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused, request, result};
use tonic::Code;

tests::scenarios! {
    retries_follow_the_settings_of_the_moment,
    a_lost_update_is_refused,
    every_wrong_setting_is_named_at_once,
    a_fallback_stands_in_with_arguments_made_for_it,
    a_fallback_is_no_way_round_a_grant,
    the_output_mode_decides_what_a_broken_schema_means,
    a_cached_answer_says_so_and_how_old_it_is,
    identical_calls_under_way_are_one,
    a_stale_answer_stands_in_and_is_marked,
}

/// Nothing that has to do with time: no retries, and a breaker that never opens.
fn plain() -> ToolSettings {
    let retry = RetryPolicy {
        max_retries: Some(0),
        initial_backoff_ms: 1,
        max_backoff_ms: 10,
        ..RetryPolicy::default()
    };
    let circuit_breaker = CircuitBreaker { disabled: true, ..CircuitBreaker::default() };
    ToolSettings { retry: Some(retry), circuit_breaker: Some(circuit_breaker), ..ToolSettings::default() }
}

fn cached(ttl_s: i64) -> ToolSettings {
    let cache = CacheSettings { enabled: true, ttl_s, ..CacheSettings::default() };
    ToolSettings { cache: Some(cache), ..plain() }
}

fn retries(max_retries: i32) -> ToolSettings {
    let retry = RetryPolicy { max_retries: Some(max_retries), ..RetryPolicy::default() };
    ToolSettings { retry: Some(retry), ..ToolSettings::default() }
}

fn fallback(tool: &str, condition: FallbackCondition, priority: i32) -> Fallback {
    Fallback { tool: tool.to_owned(), conditions: vec![condition.into()], arguments: String::new(), priority }
}

async fn call_with(client: &Client, tool: &str, arguments: Value, options: CallOptions) -> Execution {
    let asked = ExecuteRequest { options: Some(options), ..request(tool, arguments) };
    client.execute(asked).await.unwrap().execution.unwrap()
}

fn kinds(execution: &Execution) -> Vec<AttemptKind> {
    execution.attempts.iter().map(Attempt::kind).collect()
}

async fn tool(client: &Client, name: &str) -> Tool {
    let named = GetToolRequest { key: Some(Key::Name(name.to_owned())), version: String::new() };
    client.registry().get_tool(named).await.unwrap().into_inner().tool.unwrap()
}

async fn retries_follow_the_settings_of_the_moment(suite: &Suite) {
    let upstream = Upstream::start().await;
    let failing = HttpTool::new("stubborn", upstream.url("/failing")).reading();
    let agent = suite.agent_with_settings(failing, plain()).await;
    let execution = agent.call("stubborn", json!({})).await;
    assert_eq!(kinds(&execution), [AttemptKind::First], "{execution:?}");

    let changed = suite.update("stubborn", retries(2), &["retry.max_retries"]).await;
    let retry = changed.settings.unwrap().retry.unwrap();
    assert_eq!((retry.max_retries, retry.initial_backoff_ms), (Some(2), 1));
    let execution = eventually("the settings are felt", async || {
        let execution = agent.call("stubborn", json!({})).await;
        (execution.attempts.len() > 1).then_some(execution)
    })
    .await;
    assert_eq!(kinds(&execution), [AttemptKind::First, AttemptKind::Retry, AttemptKind::Retry]);
    let error = |attempt: &Attempt| attempt.error.clone().unwrap().code();
    assert!(execution.attempts.iter().all(|a| error(a) == ToolErrorCode::ToolFailed), "{execution:?}");
    assert_eq!(agent.execution(&execution.id).await.attempts, execution.attempts);

    for (asked, made) in [(0, 1), (1, 2), (9, 3)] {
        let options = CallOptions { max_retries: Some(asked), ..CallOptions::default() };
        let execution = call_with(&agent, "stubborn", json!({}), options).await;
        assert_eq!(execution.attempts.len(), made, "a call may ask for fewer, not for more: {asked}");
    }
}

async fn a_lost_update_is_refused(suite: &Suite) {
    suite.register(HttpTool::new("contested", "http://127.0.0.1:1/".into())).await;
    let read = tool(&suite.admin, "contested").await;
    let update = |etag: &str| UpdateToolRequest {
        name: "contested".into(),
        settings: Some(retries(1)),
        update_mask: Some(prost_types::FieldMask { paths: vec!["retry.max_retries".into()] }),
        etag: etag.to_owned(),
    };
    let written = suite.admin.registry().update_tool(update(&read.etag)).await.unwrap().into_inner();
    let written = written.tool.unwrap();
    assert_ne!(written.etag, read.etag);
    assert_eq!((&written.digest, &written.id), (&read.digest, &read.id), "settings are no part of a version");
    let late = suite.admin.registry().update_tool(update(&read.etag)).await;
    let refusal = refused(late, Code::FailedPrecondition, ErrorReason::EtagMismatch);
    let failure = &refusal.details.precondition_failure().unwrap().violations[0];
    assert_eq!((failure.r#type.as_str(), failure.subject.as_str()), ("ETAG_MISMATCH", "contested"));
    let late = SetFallbacksRequest { name: "contested".into(), fallbacks: vec![], etag: read.etag };
    let late = suite.admin.registry().set_fallbacks(late).await;
    refused(late, Code::FailedPrecondition, ErrorReason::EtagMismatch);
    suite.admin.registry().update_tool(update(&written.etag)).await.unwrap();
}

async fn every_wrong_setting_is_named_at_once(suite: &Suite) {
    let before = suite.register(HttpTool::new("misused", "http://127.0.0.1:1/".into())).await;
    let broken = Fallback { arguments: "{".into(), ..fallback("nobody", FallbackCondition::Any, 0) };
    let settings = ToolSettings {
        timeout_ms: 5,
        rate_limit_per_minute: -1,
        retry: Some(RetryPolicy { max_retries: Some(11), multiplier: 11.0, ..RetryPolicy::default() }),
        circuit_breaker: Some(CircuitBreaker { failure_ratio: 2.0, ..CircuitBreaker::default() }),
        cache: Some(CacheSettings { enabled: true, ttl_s: -5, ..CacheSettings::default() }),
        fallbacks: vec![broken],
        ..ToolSettings::default()
    };
    let asked = UpdateToolRequest {
        name: "misused".into(),
        settings: Some(settings),
        ..UpdateToolRequest::default()
    };
    let agent = suite.agent("").await;
    let answer = agent.registry().update_tool(asked.clone()).await;
    refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
    let answer = suite.admin.registry().update_tool(asked).await;
    let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidRequest);
    let fields: Vec<_> = refusal.violations().into_iter().map(|(field, _)| field).collect();
    let expected = [
        "settings.cache.enabled",
        "settings.cache.ttl_s",
        "settings.circuit_breaker.failure_ratio",
        "settings.fallbacks[0].arguments",
        "settings.fallbacks[0].tool",
        "settings.rate_limit_per_minute",
        "settings.retry.max_retries",
        "settings.retry.multiplier",
        "settings.timeout_ms",
    ];
    assert_eq!(fields, expected, "{refusal:?}");
    assert_eq!(tool(&suite.admin, "misused").await.etag, before.etag, "nothing of it was taken");
}

async fn a_fallback_stands_in_with_arguments_made_for_it(suite: &Suite) {
    let upstream = Upstream::start().await;
    let failing = HttpTool::new("capital", upstream.url("/failing")).reading().costing(100);
    let agent = suite.agent_with_settings(failing, plain()).await;
    let schema =
        json!({"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]});
    for name in ["too-slow", "spare", "never"] {
        let path = format!("/{name}/{{place}}");
        let tool = HttpTool::new(name, upstream.url(&path)).reading().posting().costing(7).taking(&schema);
        suite.register(tool).await;
        suite.grant(&agent, name).await;
    }
    let arguments = r#"{"place": arguments.city, "n": arguments.n + 1, "why": error.code, "of": tool}"#;
    let fallbacks = vec![
        fallback("never", FallbackCondition::Any, 5),
        Fallback { arguments: arguments.into(), ..fallback("spare", FallbackCondition::Any, 1) },
        fallback("too-slow", FallbackCondition::Timeout, 0),
    ];
    let asked = SetFallbacksRequest { name: "capital".into(), fallbacks, etag: String::new() };
    suite.admin.registry().set_fallbacks(asked).await.unwrap();
    let read = GetFallbacksRequest { name: "capital".into() };
    let read = agent.registry().get_fallbacks(read).await.unwrap().into_inner().fallbacks;
    let order: Vec<_> = read.into_iter().map(|each| each.fallback.unwrap().tool).collect();
    assert_eq!(order, ["too-slow", "spare", "never"]);

    let execution = eventually("the fallbacks are known", async || {
        let execution = agent.call("capital", json!({"city": "Bern", "n": 1})).await;
        (execution.attempts.len() > 1).then_some(execution)
    })
    .await;
    assert_eq!(
        (execution.status(), execution.source(), execution.tool_name.as_str()),
        (ExecutionStatus::Succeeded, Source::Fallback, "capital"),
        "{execution:?}"
    );
    assert_eq!(kinds(&execution), [AttemptKind::First, AttemptKind::Fallback]);
    assert_eq!((execution.attempts[1].tool_name.as_str(), execution.cost_micro_usd), ("spare", 107));
    let given = result(&execution);
    let sent: Value = serde_json::from_str(given["body"].as_str().unwrap()).unwrap();
    assert_eq!(given["target"], "/spare/Bern");
    assert_eq!(sent, json!({"n": 2, "why": "TOOL_FAILED", "of": "capital"}));
    let events = suite.trail_of(&agent).await;
    let used = events.iter().find(|event| event.action() == Action::FallbackUsed).unwrap();
    assert_eq!((used.tool_name.as_str(), &used.execution_id), ("spare", &execution.id));

    let options = CallOptions { no_fallbacks: true, ..CallOptions::default() };
    let alone = call_with(&agent, "capital", json!({"city": "Bern", "n": 1}), options).await;
    assert_eq!((alone.status(), alone.attempts.len()), (ExecutionStatus::Failed, 1), "{alone:?}");
}

async fn a_fallback_is_no_way_round_a_grant(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("forbidden", upstream.url("/forbidden")).reading()).await;
    let failing = HttpTool::new("permitted", upstream.url("/failing")).reading();
    let fallbacks = vec![fallback("forbidden", FallbackCondition::Any, 0)];
    let agent = suite.agent_with_settings(failing, ToolSettings { fallbacks, ..plain() }).await;
    let execution = agent.call("permitted", json!({})).await;
    assert_eq!(execution.status(), ExecutionStatus::Failed, "{execution:?}");
    assert_eq!(kinds(&execution), [AttemptKind::First, AttemptKind::Fallback]);
    let error = execution.attempts[1].error.clone().unwrap();
    assert_eq!((error.code(), error.reached()), (ToolErrorCode::Denied, Reached::No), "{error:?}");
    let error = execution.error.unwrap();
    assert_eq!(error.code(), ToolErrorCode::ToolFailed);
    assert!(error.message.contains("fallbacks: forbidden: DENIED"), "{error:?}");
    assert!(upstream.hits().iter().all(|hit| hit.target == "/failing"), "{:?}", upstream.hits());
}

async fn the_output_mode_decides_what_a_broken_schema_means(suite: &Suite) {
    let upstream = Upstream::start().await;
    let schema = json!({"type": "object", "properties": {"count": {"type": "integer"}}});
    let wrong = HttpTool::new("sloppy", upstream.url("/wrong")).giving(&schema);
    let agent = suite.agent_with(wrong).await;
    let strict = agent.call("sloppy", json!({})).await;
    let error = strict.error.clone().unwrap();
    assert_eq!((strict.status(), error.code()), (ExecutionStatus::Failed, ToolErrorCode::InvalidResult));
    assert_eq!(error.violations[0].pointer, "/count", "{error:?}");
    assert_eq!(strict.result_json, "");
    for (mode, warned) in [(OutputMode::Warn, true), (OutputMode::Off, false)] {
        let settings = ToolSettings { output_mode: mode.into(), ..ToolSettings::default() };
        suite.update("sloppy", settings, &["output_mode"]).await;
        let execution = eventually("the mode is felt", async || {
            let execution = agent.call("sloppy", json!({})).await;
            let felt = execution.error.is_none() && execution.warnings.is_empty() != warned;
            felt.then_some(execution)
        })
        .await;
        assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
        assert_eq!(result(&execution)["count"], "many");
        assert!(execution.warnings.iter().all(|violation| violation.pointer == "/count"), "{execution:?}");
        assert_eq!(agent.execution(&execution.id).await.warnings, execution.warnings);
    }
}

async fn a_cached_answer_says_so_and_how_old_it_is(suite: &Suite) {
    let upstream = Upstream::start().await;
    let kept = HttpTool::new("almanac", upstream.url("/echo")).reading().posting().costing(40);
    let agent = suite.agent_with_settings(kept, cached(3_600)).await;
    let first = agent.call("almanac", json!({"a": 1, "b": 2})).await;
    assert_eq!((first.source(), first.cost_micro_usd), (Source::Unspecified, 40), "{first:?}");
    let second = agent.call("almanac", json!({"b": 2, "a": 1})).await;
    assert_eq!((second.source(), second.cost_micro_usd), (Source::Cache, 0), "{second:?}");
    assert_eq!((&second.result_json, second.attempts.len()), (&first.result_json, 0));
    let third = agent.call("almanac", json!({"a": 1, "b": 2})).await;
    assert!(third.cache_age_ms > second.cache_age_ms || second.cache_age_ms == 0, "{third:?}");
    assert_eq!(upstream.count(), 1);
    let actions: Vec<_> = suite.trail_of(&agent).await.iter().map(proto::audit::v1::Event::action).collect();
    assert_eq!(actions, [Action::CacheHit, Action::CacheHit, Action::ToolInvoked, Action::CacheMiss]);

    let options = CallOptions { skip_cache: true, ..CallOptions::default() };
    let asked = call_with(&agent, "almanac", json!({"a": 1, "b": 2}), options).await;
    let other = agent.call("almanac", json!({"a": 2})).await;
    assert_eq!((asked.source(), other.source()), (Source::Unspecified, Source::Unspecified));
    // Doubles cannot tell these two apart, and so neither is kept.
    for number in [9_007_199_254_740_992_i64, 9_007_199_254_740_993] {
        let large = agent.call("almanac", json!({ "a": number })).await;
        assert_eq!(large.source(), Source::Unspecified, "{large:?}");
    }
    assert_eq!(upstream.count(), 5);

    let named = GetCacheStatsRequest { tool_name: "almanac".into() };
    let told = agent.executor().get_cache_stats(named).await.unwrap().into_inner();
    assert_eq!((told.variant.as_str(), told.stats.len()), ("memory", 1), "{told:?}");
    assert_eq!(told.stats[0].hits, 2, "{told:?}");
    let drop_all = || InvalidateCacheRequest { tool_name: "almanac".into(), arguments_json: String::new() };
    let answer = agent.executor().invalidate_cache(drop_all()).await;
    refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
    suite.admin.executor().invalidate_cache(drop_all()).await.unwrap();
    assert_eq!(agent.call("almanac", json!({"a": 2})).await.source(), Source::Unspecified);
}

async fn identical_calls_under_way_are_one(suite: &Suite) {
    let upstream = Upstream::start().await;
    let held = HttpTool::new("popular", upstream.url("/held")).reading();
    let agent = suite.agent_with_settings(held, cached(3_600)).await;
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let agent = agent.clone();
            tokio::spawn(async move { agent.call("popular", json!({"q": "same"})).await })
        })
        .collect();
    upstream.wait_for_hits(1).await;
    upstream.release();
    let mut sources = Vec::new();
    for call in calls {
        let execution = call.await.unwrap();
        assert_eq!(result(&execution), json!({"held": true}));
        sources.push(execution.source());
    }
    assert_eq!(sources.iter().filter(|source| **source == Source::Unspecified).count(), 1, "{sources:?}");
    assert!(!sources.contains(&Source::Fallback), "{sources:?}");
    assert_eq!(upstream.count(), 1);
}

async fn a_stale_answer_stands_in_and_is_marked(suite: &Suite) {
    let upstream = Upstream::start().await;
    let once = HttpTool::new("faltering", upstream.url("/once")).reading();
    let settings = ToolSettings { degradation: Degradation::Cached.into(), ..cached(1) };
    let agent = suite.agent_with_settings(once, settings).await;
    let fresh = agent.call("faltering", json!({})).await;
    assert_eq!((fresh.status(), fresh.source()), (ExecutionStatus::Succeeded, Source::Unspecified));
    let stale = eventually("the answer is stale", async || {
        let execution = agent.call("faltering", json!({})).await;
        (execution.source() != Source::Cache).then_some(execution)
    })
    .await;
    assert_eq!((stale.status(), stale.source()), (ExecutionStatus::Succeeded, Source::StaleCache));
    assert!(stale.cache_age_ms >= 1_000, "{stale:?}");
    assert_eq!((&stale.result_json, kinds(&stale)), (&fresh.result_json, vec![AttemptKind::First]));
    assert_eq!(suite.trail_of(&agent).await[0].action(), Action::CacheHit);
    let options = CallOptions { degradation: Degradation::Abort.into(), ..CallOptions::default() };
    let failed = call_with(&agent, "faltering", json!({}), options).await;
    assert_eq!((failed.status(), failed.source()), (ExecutionStatus::Failed, Source::Unspecified));
}

/// Two executors, each with a cache of its own.
mod twins {
    use super::*;

    tests::scenarios_alone! { what_is_dropped_is_dropped_everywhere }

    async fn what_is_dropped_is_dropped_everywhere(mode: Mode) {
        let mut suite = Suite::start(mode).await;
        let edge = suite.start_twin().await;
        let upstream = Upstream::start().await;
        let kept = HttpTool::new("shared", upstream.url("/echo")).reading();
        let one = suite.agent_with_settings(kept, cached(3_600)).await;
        let other = Client::new(edge).with_key(&one.agent, &one.key);
        for client in [&one, &other] {
            // An executor that is not yet sure of hearing what others drop gives nothing from its cache.
            eventually("the answer is kept", async || {
                (client.call("shared", json!({"n": 1})).await.source() == Source::Cache).then_some(())
            })
            .await;
        }
        let before = upstream.count();
        assert!(before >= 2, "each has a cache of its own");
        let named =
            InvalidateCacheRequest { tool_name: "shared".into(), arguments_json: r#"{"n": 1}"#.into() };
        suite.admin.executor().invalidate_cache(named).await.unwrap();
        let asked = eventually("the other has dropped it as well", async || {
            let execution = other.call("shared", json!({"n": 1})).await;
            (execution.source() == Source::Unspecified).then_some(execution)
        })
        .await;
        assert_eq!(asked.status(), ExecutionStatus::Succeeded);
        assert_eq!(one.call("shared", json!({"n": 1})).await.source(), Source::Unspecified);
        assert_eq!(upstream.count(), before + 2);
        suite.stop().await;
    }
}
