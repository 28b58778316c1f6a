//! Every way in which a call does not succeed, each provoked: its code, its reason, its details. And the result that
//! is too large to travel, which is no failure.

use std::time::Duration;

use proto::{
    audit::v1::Result as AuditResult,
    executor::v1::{ExecuteRequest, Execution, ExecutionStatus, Reached, ToolErrorCode},
    permissions::v1::Grant,
    registry::v1::{
        CircuitBreaker, Fallback, FallbackCondition, RetryPolicy, SetToolStatusRequest, ToolSettings,
        ToolStatus,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Mode, Refusal, Suite, Upstream, refused, request, result};
use tonic::Code;

use crate::permissions::within_one_hour;

tests::scenarios! {
    what_is_refused_before_it_begins,
    what_is_held_back_says_until_when,
    what_fails_says_how_far_it_came,
    when_every_fallback_fails_each_says_why,
}

fn without_retries() -> ToolSettings {
    let retry = RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() };
    ToolSettings { retry: Some(retry), ..ToolSettings::default() }
}

async fn disable(suite: &Suite, name: &str) {
    let request = SetToolStatusRequest { name: name.to_owned(), status: ToolStatus::Disabled.into() };
    suite.admin.registry().set_tool_status(request).await.unwrap();
}

/// A disabled tool is refused once executors have heard of it.
async fn wait_until_disabled(agent: &Client, name: &str) {
    tests::eventually("the tool is disabled", async || agent.try_call(name, json!({})).await.err()).await;
}

async fn what_is_refused_before_it_begins(suite: &Suite) {
    let upstream = Upstream::start().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let agent = suite.agent_with(HttpTool::new("numeric", upstream.url("/numeric")).taking(&schema)).await;
    suite.register(HttpTool::new("retired", upstream.url("/retired"))).await;
    suite.grant(&agent, "retired").await;
    disable(suite, "retired").await;
    wait_until_disabled(&agent, "retired").await;
    suite.register(HttpTool::new("elsewhere", upstream.url("/elsewhere"))).await;
    let table = [
        ("numerik", json!({}), Code::NotFound, ErrorReason::ToolNotFound),
        ("retired", json!({}), Code::FailedPrecondition, ErrorReason::ToolUnavailable),
        ("numeric", json!({"n": "one"}), Code::InvalidArgument, ErrorReason::InvalidArguments),
        ("elsewhere", json!({}), Code::PermissionDenied, ErrorReason::NoGrant),
    ];
    let mut refusals = Vec::new();
    for (tool, arguments, code, reason) in table {
        refusals.push(refused(agent.try_call(tool, arguments).await, code, reason));
    }
    assert!(refusals[0].metadata("nearest").contains("numeric"), "{:?}", refusals[0]);
    let failure = refusals[1].details.precondition_failure().unwrap();
    assert_eq!(failure.violations[0].subject, "retired");
    assert_eq!(refusals[2].violations()[0].0, "arguments/n");
    // While its fate was in doubt, the retired one may have been called.
    assert!(upstream.hits().iter().all(|hit| hit.target == "/retired"), "{:?}", upstream.hits());

    suite.register(HttpTool::new("one-shot", upstream.url("/echo"))).await;
    within_one_hour(suite, "one-shot", 1, async |agent| {
        agent.call("one-shot", json!({})).await;
        let answer = agent.try_call("one-shot", json!({})).await;
        let refusal = refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
        assert!(refusal.details.quota_failure().unwrap().violations[0].subject.starts_with("grant:"));
        assert!(delay(&refusal) <= Duration::from_hours(1));
    })
    .await;
}

fn delay(refusal: &Refusal) -> Duration {
    refusal.details.retry_info().and_then(|info| info.retry_delay).expect("it says when to come again")
}

async fn what_is_held_back_says_until_when(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("seldom", upstream.url("/echo"));
    tool.definition.rate_limit_per_minute = 1;
    let agent = suite.agent_with(tool).await;
    agent.call("seldom", json!({})).await;
    let answer = agent.try_call("seldom", json!({})).await;
    let rate = refused(answer, Code::ResourceExhausted, ErrorReason::RateLimited);
    assert!(delay(&rate) <= Duration::from_mins(1), "{rate:?}");

    let circuit_breaker = CircuitBreaker {
        failure_ratio: 0.5,
        min_calls: 2,
        window_ms: 600_000,
        open_ms: 600_000,
        ..CircuitBreaker::default()
    };
    let settings = ToolSettings { circuit_breaker: Some(circuit_breaker), ..without_retries() };
    suite.register_with(HttpTool::new("fused", upstream.url("/failing")), settings).await;
    suite.grant(&agent, "fused").await;
    for _ in 0..2 {
        assert_ne!(agent.call("fused", json!({})).await.status(), ExecutionStatus::Succeeded);
    }
    let before = upstream.count();
    let answer = agent.try_call("fused", json!({})).await;
    let open = refused(answer, Code::Unavailable, ErrorReason::CircuitOpen);
    assert!(delay(&open) > Duration::from_mins(1) && delay(&open) <= Duration::from_mins(10), "{open:?}");
    assert_eq!(upstream.count(), before);

    let settings = ToolSettings { max_concurrent: 1, ..ToolSettings::default() };
    suite.register_with(HttpTool::new("narrow", upstream.url("/held")), settings).await;
    suite.grant(&agent, "narrow").await;
    let client = agent.clone();
    let first = tokio::spawn(async move { client.call("narrow", json!({})).await });
    upstream.wait_for_hits(before + 1).await;
    let busy = refused(agent.try_call("narrow", json!({})).await, Code::Unavailable, ErrorReason::ToolBusy);
    assert!(delay(&busy) > Duration::ZERO, "{busy:?}");
    upstream.release();
    assert_eq!(first.await.unwrap().status(), ExecutionStatus::Succeeded);
    for (refusal, code) in [
        (rate, ToolErrorCode::RateLimited),
        (open, ToolErrorCode::CircuitOpen),
        (busy, ToolErrorCode::ToolBusy),
    ] {
        let recorded = agent.execution(refusal.metadata("execution_id")).await;
        let error = recorded.error.clone().unwrap();
        assert_eq!(
            (recorded.status(), error.code(), error.reached()),
            (ExecutionStatus::Failed, code, Reached::No),
            "{recorded:?}"
        );
    }
}

async fn what_fails_says_how_far_it_came(suite: &Suite) {
    use ExecutionStatus as Status;
    use ToolErrorCode as Why;
    let upstream = Upstream::start().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let wrong = json!({"type": "object", "properties": {"count": {"type": "integer"}}});
    let tool = |name: &str, path: &str| {
        let mut tool = HttpTool::new(name, upstream.url(path));
        tool.definition.timeout_ms = 1_000;
        tool
    };
    let nobody = HttpTool::new("f-nobody", format!("http://127.0.0.1:{port}/"));
    let tools = [
        (tool("f-wrong", "/wrong").giving(&wrong), Status::Failed, Why::InvalidResult, Reached::Yes),
        (tool("f-slow", "/held"), Status::TimedOut, Why::Timeout, Reached::Maybe),
        (tool("f-slow-read", "/held").reading(), Status::TimedOut, Why::Timeout, Reached::Maybe),
        (tool("f-doubt", "/failing"), Status::UnknownOutcome, Why::ToolFailed, Reached::Maybe),
        (tool("f-read", "/failing").reading(), Status::Failed, Why::ToolFailed, Reached::Maybe),
        (tool("f-limited", "/limited"), Status::Failed, Why::UpstreamRateLimited, Reached::No),
        (nobody, Status::Failed, Why::Unreachable, Reached::No),
    ];
    let agent = suite.agent("").await;
    for (tool, status, code, reached) in tools {
        let name = tool.definition.name.clone();
        let has_effect = tool.definition.effect() == proto::types::v1::Effect::SideEffect;
        suite.register_with(tool, without_retries()).await;
        suite.grant(&agent, &name).await;
        let execution = agent.call(&name, json!({})).await;
        let error = execution.error.clone().unwrap();
        assert_eq!(
            (execution.status(), error.code(), error.reached()),
            (status, code, reached),
            "{name}: {execution:?}"
        );
        let recorded = agent.execution(&execution.id).await;
        assert_eq!((recorded.status(), recorded.error), (status, execution.error), "{name}");
        let event = suite.trail_of(&agent).await.remove(0);
        let in_doubt = has_effect && reached == Reached::Maybe;
        let expected = if in_doubt { AuditResult::Unknown } else { AuditResult::Failure };
        assert_eq!((event.tool_name.as_str(), event.result()), (name.as_str(), expected), "{event:?}");
    }
}

async fn when_every_fallback_fails_each_says_why(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent("").await;
    let strict = json!({"type": "object", "required": ["city"]});
    suite
        .register_with(HttpTool::new("s-fails", upstream.url("/failing")).reading(), without_retries())
        .await;
    suite.register(HttpTool::new("s-closed", upstream.url("/echo")).reading()).await;
    suite.register(HttpTool::new("s-retired", upstream.url("/echo")).reading()).await;
    suite.register(HttpTool::new("s-strict", upstream.url("/echo")).reading().taking(&strict)).await;
    suite.register(HttpTool::new("s-mapped", upstream.url("/echo")).reading()).await;
    // What reads may not be stood in for by what changes something.
    suite.register(HttpTool::new("s-acting", upstream.url("/echo"))).await;
    for name in ["s-fails", "s-retired", "s-strict", "s-mapped", "s-acting"] {
        suite.grant_with(&agent, name, Grant::default()).await;
    }
    disable(suite, "s-retired").await;
    wait_until_disabled(&agent, "s-retired").await;
    let before = upstream.count();
    let fallback = |tool: &str, arguments: &str| Fallback {
        tool: tool.to_owned(),
        conditions: vec![FallbackCondition::Any.into()],
        arguments: arguments.to_owned(),
        priority: 0,
    };
    let fallbacks = vec![
        fallback("s-fails", ""),
        fallback("s-closed", ""),
        fallback("s-retired", ""),
        fallback("s-strict", ""),
        fallback("s-mapped", "{\"x\": arguments.absent}"),
        fallback("s-acting", ""),
    ];
    let settings = ToolSettings { fallbacks, ..without_retries() };
    suite.register_with(HttpTool::new("s-first", upstream.url("/failing")).reading(), settings).await;
    suite.grant(&agent, "s-first").await;
    let execution = agent.call("s-first", json!({})).await;
    assert_eq!(execution.status(), ExecutionStatus::Failed, "{execution:?}");
    let tried: Vec<_> = execution
        .attempts
        .iter()
        .map(|attempt| (attempt.tool_name.as_str(), attempt.error.as_ref().unwrap().code()))
        .collect();
    let expected = [
        ("s-first", ToolErrorCode::ToolFailed),
        ("s-fails", ToolErrorCode::ToolFailed),
        ("s-closed", ToolErrorCode::Denied),
        ("s-retired", ToolErrorCode::FallbackUnusable),
        ("s-strict", ToolErrorCode::FallbackUnusable),
        ("s-mapped", ToolErrorCode::FallbackUnusable),
        ("s-acting", ToolErrorCode::FallbackUnusable),
    ];
    assert_eq!(tried, expected);
    let message = execution.error.unwrap().message;
    for (tool, code) in expected.iter().skip(1) {
        let code = code.as_str_name().trim_start_matches("TOOL_ERROR_CODE_");
        assert!(message.contains(&format!("{tool}: {code}")), "{tool}: {message}");
    }
    assert_eq!(upstream.count(), before + 2);
}

/// Results larger than may travel.
mod artifacts {
    use super::*;

    tests::scenarios_alone! { a_large_result_is_a_file_of_its_task }

    async fn call_for(agent: &Client, task: &str, tool: &str, arguments: Value) -> Execution {
        let asked = ExecuteRequest { task_id: task.to_owned(), ..request(tool, arguments) };
        agent.execute(asked).await.unwrap().execution.unwrap()
    }

    async fn a_large_result_is_a_file_of_its_task(mode: Mode) {
        let most = 128 << 10;
        let suite = Suite::start_with(mode, |settings| settings.executor.max_result_bytes = most).await;
        let upstream = Upstream::start().await;
        let agent = suite.agent_with(HttpTool::new("verbose", upstream.url("/large"))).await;
        suite.grant(&agent, "file_operations").await;
        let execution = call_for(&agent, "archive", "verbose", json!({})).await;
        assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{:?}", execution.error);
        assert!(execution.result_json.len() < most);
        let artifact = result(&execution)["artifact"].clone();
        let size = artifact["bytes"].as_u64().unwrap();
        assert!(size > 1 << 20, "{artifact}");

        let mut text = String::new();
        while (text.len() as u64) < size {
            let part = json!({
                "operation": "read",
                "path": artifact["path"],
                "offset": text.len(),
                "max_bytes": 96 << 10,
            });
            let read = call_for(&agent, "archive", "file_operations", part.clone()).await;
            assert_eq!(read.status(), ExecutionStatus::Succeeded, "{read:?}");
            let given = result(&read);
            let content = given["content"].as_str().unwrap();
            assert!(!content.is_empty(), "{part}");
            text.push_str(content);
        }
        assert_eq!(json!(types::digest_bytes(text.as_bytes())), artifact["sha256"]);
        let whole: Value = serde_json::from_str(&text).unwrap();
        assert!(whole["data"].as_str().unwrap().starts_with("ää"));
        // What is cut from JSON cannot be sanitised, and so it is answered and not kept.
        let kept = agent.execution(&execution.id).await;
        assert_eq!(result(&kept), json!({ "artifact": artifact }));

        let stat = json!({"operation": "stat", "path": artifact["path"]});
        let elsewhere = call_for(&agent, "another", "file_operations", stat).await;
        assert_eq!(elsewhere.status(), ExecutionStatus::Failed, "{elsewhere:?}");
        suite.stop().await;
    }
}
