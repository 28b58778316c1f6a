//! The same request twice: one effect, one answer.

use proto::executor::v1::{ExecuteRequest, ExecutionStatus, ListExecutionsRequest};
use rpc::ErrorReason;
use serde_json::json;
use tests::{HttpTool, Suite, Upstream, refused, request};
use tonic::Code;

tests::scenarios! {
    a_repeated_request_gets_the_first_answer,
    another_body_needs_another_id,
    twenty_at_once_are_one,
}

fn identified(tool: &str, id: &str, number: i64) -> ExecuteRequest {
    ExecuteRequest { request_id: id.to_owned(), ..request(tool, json!({ "number": number })) }
}

async fn a_repeated_request_gets_the_first_answer(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("once", upstream.url("/echo"))).await;
    let first = agent.execute(identified("once", "id-1", 1)).await.unwrap();
    let second = agent.execute(identified("once", "id-1", 1)).await.unwrap();
    assert_eq!((first.replayed, second.replayed), (false, true));
    assert_eq!(first.execution, second.execution);
    assert_eq!(upstream.hits().len(), 1);
    let third = agent.execute(identified("once", "id-2", 1)).await.unwrap();
    assert!(!third.replayed);
    assert_ne!(third.execution.unwrap().id, first.execution.unwrap().id);
    assert_eq!((upstream.hits().len(), suite.trail_of(&agent).await.len()), (2, 2));
}

async fn another_body_needs_another_id(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("bound", upstream.url("/echo"))).await;
    agent.execute(identified("bound", "id-3", 1)).await.unwrap();
    let answer = agent.execute(identified("bound", "id-3", 2)).await;
    let refusal = refused(answer, Code::FailedPrecondition, ErrorReason::RequestIdReused);
    assert_eq!(refusal.details.precondition_failure().unwrap().violations[0].subject, "id-3");
    // The id belongs to the team: another agent's request with it is another request.
    let other = suite.agent("").await;
    suite.grant(&other, "bound").await;
    let answer = other.execute(identified("bound", "id-3", 1)).await;
    refused(answer, Code::FailedPrecondition, ErrorReason::RequestIdReused);
    assert_eq!(upstream.hits().len(), 1);
}

async fn twenty_at_once_are_one(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("joined", upstream.url("/held"))).await;
    let calls = (0..20).map(|_| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.execute(identified("joined", "id-4", 1)).await.unwrap() })
    });
    let calls: Vec<_> = calls.collect();
    upstream.wait_for_hits(1).await;
    upstream.release();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    let execution = answers[0].execution.clone().unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert!(answers.iter().all(|answer| answer.execution.as_ref() == Some(&execution)), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    assert_eq!(upstream.hits().len(), 1);
    let filter = ListExecutionsRequest { tool_name: "joined".into(), ..ListExecutionsRequest::default() };
    assert_eq!((agent.executions(filter).await.len(), suite.trail_of(&agent).await.len()), (1, 1));
}
