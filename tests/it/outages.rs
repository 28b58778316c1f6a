//! The database goes away and comes back: calls are refused at once meanwhile, and nothing accepted is lost.

use std::time::Duration;

use proto::{
    audit::v1::Result as AuditResult,
    executor::v1::ExecutionStatus,
    permissions::v1::{Grant, WhoAmIRequest},
};
use rpc::ErrorReason;
use serde_json::json;
use store::{LocalCluster, LocalOptions};
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused, request, result};
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

tests::scenarios_alone! {
    an_outage_of_the_database_loses_nothing,
}

/// A refusal must come within this time: a caller that is not answered at all would wait for its own deadline.
const PROMPTLY: Duration = Duration::from_millis(1_500);

async fn an_outage_of_the_database_loses_nothing(mode: Mode) {
    let folder = testkit::folder();
    let options = LocalOptions { directory: folder.path().join("postgres"), fsync: false };
    let cluster = LocalCluster::start(&options).await.unwrap();
    cluster.create_database("toolcrib", "template0").await.unwrap();
    let suite = Suite::start_on(mode, cluster.url("toolcrib")).await;
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("steadfast", upstream.url("/held"))).await;
    let agent = suite.agent("").await;
    // A limit makes the call hold a place, which has to be settled after the outage.
    suite.grant_with(&agent, "steadfast", Grant { max_per_hour: 100, ..Grant::default() }).await;
    let client = agent.clone();
    let call = tokio::spawn(async move { client.execute(request("steadfast", json!({}))).await });
    upstream.wait_for_hits(1).await;

    cluster.stop().await;
    eventually("health notices", async || {
        for service in ["executor.v1.ExecutorService", "audit.v1.AuditService", "registry.v1.RegistryService"]
        {
            let status = suite.stranger().health(&format!("toolcrib.{service}")).await.unwrap();
            if status != ServingStatus::NotServing {
                return None;
            }
        }
        Some(())
    })
    .await;
    assert_eq!(
        suite.stranger().health("").await.unwrap(),
        ServingStatus::Serving,
        "the process itself lives"
    );
    upstream.release();
    for client in [&agent, &suite.stranger().with_key("", &agent.key)] {
        refused_promptly(client).await;
    }
    // Longer than a lease: a process back from an outage must not take itself, or another, for dead.
    tokio::time::sleep(Duration::from_millis(suite.settings.executor.lease_timeout_ms + 500)).await;
    assert!(!call.is_finished(), "the call ended without a record");

    let cluster = LocalCluster::start(&options).await.unwrap();
    let execution = call.await.unwrap().unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(result(&execution), json!({"held": true}));
    suite.wait_until_serving().await;
    assert_eq!(agent.execution(&execution.id).await, execution);
    let events = suite.trail_of(&agent).await;
    let of_call: Vec<_> = events.iter().filter(|event| event.execution_id == execution.id).collect();
    assert_eq!((of_call.len(), of_call[0].result()), (1, AuditResult::Success), "{events:?}");
    agent.call("steadfast", json!({})).await;
    assert_eq!(upstream.hits().len(), 2);
    suite.stop().await;
    cluster.stop().await;
}

async fn refused_promptly(client: &Client) {
    let answer = tokio::time::timeout(PROMPTLY, client.try_call("steadfast", json!({}))).await;
    refused(answer.expect("refused promptly"), Code::Unavailable, ErrorReason::StoreUnavailable);
    let answer = tokio::time::timeout(PROMPTLY, client.permissions().who_am_i(WhoAmIRequest {})).await;
    let _ = answer.expect("answered promptly");
}
