//! Many calls in one request: each has its own answer, in its own place.

use std::time::Duration;

use proto::{
    executor::v1::{
        BatchExecuteRequest, BatchExecuteResponse, BatchItem, CallError, ExecuteRequest, ExecutionStatus,
        Source, batch_item::Outcome,
    },
    registry::v1::{CacheSettings, ToolSettings},
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Suite, Upstream, refused, request, result};
use tonic::Code;

tests::scenarios! {
    every_call_has_its_own_answer_in_its_place,
    as_many_run_at_once_as_asked_for,
    identical_calls_of_a_batch_are_one,
    what_follows_a_failure_is_left_out_where_asked_for,
    a_batch_has_bounds,
}

async fn batch(client: &Client, request: BatchExecuteRequest) -> BatchExecuteResponse {
    client.executor().batch_execute(request).await.unwrap().into_inner()
}

fn calls(calls: Vec<ExecuteRequest>) -> BatchExecuteRequest {
    BatchExecuteRequest { calls, ..BatchExecuteRequest::default() }
}

/// Each item: the status of its execution, or the reason of its refusal.
fn words(answer: &BatchExecuteResponse) -> Vec<&str> {
    fn word(item: &BatchItem) -> &str {
        match item.outcome.as_ref().unwrap() {
            Outcome::Response(response) => response.execution.as_ref().unwrap().status().as_str_name(),
            Outcome::Error(error) => error.reason.as_str(),
        }
    }
    answer.items.iter().map(|item| word(item).trim_start_matches("EXECUTION_STATUS_")).collect()
}

fn error(answer: &BatchExecuteResponse, index: usize) -> &CallError {
    match answer.items[index].outcome.as_ref() {
        Some(Outcome::Error(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn given(answer: &BatchExecuteResponse, index: usize) -> Value {
    match answer.items[index].outcome.as_ref() {
        Some(Outcome::Response(response)) => result(response.execution.as_ref().unwrap()),
        other => panic!("refused: {other:?}"),
    }
}

async fn every_call_has_its_own_answer_in_its_place(suite: &Suite) {
    let upstream = Upstream::start().await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    let echo = HttpTool::new("member", upstream.url("/echo")).taking(&schema).posting();
    let agent = suite.agent_with(echo).await;
    suite.register(HttpTool::new("member-closed", upstream.url("/closed"))).await;
    suite.register(HttpTool::new("member-broken", upstream.url("/failing"))).await;
    suite.grant(&agent, "member-broken").await;
    let wrong = ExecuteRequest { task_id: "../up".into(), ..request("member", json!({})) };
    let again = ExecuteRequest { request_id: "batch-1".into(), ..request("member", json!({"n": 7})) };
    let asked = calls(vec![
        request("member", json!({"n": 1})),
        request("membr", json!({})),
        request("member", json!({"n": "one"})),
        request("member-closed", json!({})),
        request("member-broken", json!({})),
        wrong,
        again.clone(),
        again,
        request("member", json!({"n": 2})),
    ]);
    let answer = batch(&agent, asked).await;
    let expected = [
        "SUCCEEDED",
        "TOOL_NOT_FOUND",
        "INVALID_ARGUMENTS",
        "NO_GRANT",
        "UNKNOWN_OUTCOME",
        "INVALID_REQUEST",
        "SUCCEEDED",
        "SUCCEEDED",
        "SUCCEEDED",
    ];
    assert_eq!(words(&answer), expected);
    assert_eq!(answer.succeeded, 4);
    assert_eq!(given(&answer, 0)["body"], r#"{"n":1}"#);
    assert_eq!(given(&answer, 8)["body"], r#"{"n":2}"#);
    let codes: Vec<_> = [1, 2, 3, 5].map(|index| Code::from_i32(error(&answer, index).code)).into();
    let invalid = Code::InvalidArgument;
    assert_eq!(codes, [Code::NotFound, invalid, Code::PermissionDenied, invalid]);
    assert_eq!(error(&answer, 2).violations[0].pointer, "arguments/n");
    assert_eq!(error(&answer, 5).violations[0].pointer, "task_id");
    let sevens = upstream.hits().iter().filter(|hit| hit.body == r#"{"n":7}"#).count();
    assert_eq!(sevens, 1, "one request_id, one run");
    assert!(upstream.hits().iter().all(|hit| hit.target != "/closed"), "{:?}", upstream.hits());
    // Each stands in the trail, but for the one that was no call at all, and the one that another answered.
    assert_eq!(suite.trail_of(&agent).await.len(), 7);
}

async fn as_many_run_at_once_as_asked_for(suite: &Suite) {
    for (parallelism, at_once) in [(3, 3), (0, suite.settings.executor.parallel_limit)] {
        let upstream = Upstream::start().await;
        let name = format!("abreast-{parallelism}");
        let agent = suite.agent_with(HttpTool::new(&name, upstream.url("/held"))).await;
        let asked = (0..10).map(|n| request(&name, json!({ "n": n }))).collect();
        let (client, asked) = (agent.clone(), BatchExecuteRequest { parallelism, ..calls(asked) });
        let answer = tokio::spawn(async move { batch(&client, asked).await });
        upstream.wait_for_hits(at_once).await;
        // Time for one more, if there were one.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(upstream.count(), at_once);
        upstream.release();
        let answer = answer.await.unwrap();
        assert_eq!((answer.succeeded, upstream.count()), (10, 10), "{answer:?}");
        assert!(upstream.most_held() <= at_once, "{}", upstream.most_held());
    }
}

async fn identical_calls_of_a_batch_are_one(suite: &Suite) {
    let upstream = Upstream::start().await;
    let cache = CacheSettings { enabled: true, ..CacheSettings::default() };
    let settings = ToolSettings { cache: Some(cache), ..ToolSettings::default() };
    let tool = HttpTool::new("twice-asked", upstream.url("/echo")).reading();
    let agent = suite.agent_with_settings(tool, settings).await;
    let asked = || BatchExecuteRequest {
        parallelism: 4,
        ..calls((0..6).map(|_| request("twice-asked", json!({"q": 1}))).collect())
    };
    let sources = |answer: BatchExecuteResponse| -> Vec<_> {
        assert_eq!(answer.succeeded, 6);
        let source = |item: BatchItem| match item.outcome {
            Some(Outcome::Response(response)) => response.execution.unwrap().source(),
            other => panic!("refused: {other:?}"),
        };
        answer.items.into_iter().map(source).collect()
    };
    let first = sources(batch(&agent, asked()).await);
    assert_eq!(first.iter().filter(|source| **source == Source::Unspecified).count(), 1, "{first:?}");
    assert_eq!(sources(batch(&agent, asked()).await), [Source::Cache; 6]);
    assert_eq!(upstream.count(), 1);
}

async fn what_follows_a_failure_is_left_out_where_asked_for(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("ordered", upstream.url("/echo"))).await;
    suite.register(HttpTool::new("ordered-broken", upstream.url("/failing")).reading()).await;
    suite.grant(&agent, "ordered-broken").await;
    let retry = proto::registry::v1::RetryPolicy { max_retries: Some(0), ..Default::default() };
    let settings = ToolSettings { retry: Some(retry), ..ToolSettings::default() };
    suite.update("ordered-broken", settings, &["retry.max_retries"]).await;
    let names = ["ordered", "ordered-broken", "ordered", "ordered"];
    let asked = || calls(names.iter().map(|name| request(name, json!({}))).collect());
    let strict = BatchExecuteRequest { parallelism: 1, stop_on_failure: true, ..asked() };
    let answer = batch(&agent, strict).await;
    assert_eq!(words(&answer), ["SUCCEEDED", "FAILED", "NOT_BEGUN", "NOT_BEGUN"]);
    assert_eq!(Code::from_i32(error(&answer, 2).code), Code::FailedPrecondition);
    assert!(error(&answer, 3).message.contains("call 2"), "{answer:?}");
    let echoed = || upstream.hits().iter().filter(|hit| hit.target == "/echo").count();
    assert_eq!(echoed(), 1);
    let answer = batch(&agent, asked()).await;
    assert_eq!(words(&answer), ["SUCCEEDED", "FAILED", "SUCCEEDED", "SUCCEEDED"]);
    assert_eq!(echoed(), 4);
    let filter = proto::executor::v1::ListExecutionsRequest {
        status: ExecutionStatus::Failed.into(),
        ..Default::default()
    };
    assert_eq!(agent.executions(filter).await.len(), 2);
}

async fn a_batch_has_bounds(suite: &Suite) {
    let one = || request("echo", json!({}));
    let too_many = calls((0..101).map(|_| one()).collect());
    let too_wide = BatchExecuteRequest { parallelism: 21, ..calls(vec![one()]) };
    for (asked, field) in [(calls(vec![]), "calls"), (too_many, "calls"), (too_wide, "parallelism")] {
        let answer = suite.admin.executor().batch_execute(asked).await;
        let refusal = refused(answer, Code::InvalidArgument, ErrorReason::InvalidRequest);
        assert_eq!(refusal.violations()[0].0, field);
    }
}
