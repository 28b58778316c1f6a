//! A stop loses nothing: calls under way end and are recorded, events are delivered, nothing is left running.

use std::time::Duration;

use node::config::Role;
use proto::{
    executor::v1::{ExecutionStatus, ListExecutionsRequest},
    permissions::v1::WhoAmIRequest,
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, read, request, result};

tests::scenarios_alone! {
    a_call_under_way_ends_before_the_stop_does,
    a_service_that_stops_ends_its_calls,
}

/// Waits until the intent of an agent's one call is on record.
async fn wait_until_running(agent: &Client) {
    let filter =
        ListExecutionsRequest { status: ExecutionStatus::Running.into(), ..ListExecutionsRequest::default() };
    eventually("the call is under way", async || agent.executions(filter.clone()).await.pop()).await;
}

async fn a_call_under_way_ends_before_the_stop_does(mode: Mode) {
    if !Suite::has_python() {
        return;
    }
    let suite = Suite::start(mode).await;
    let agent = suite.agent("Technical Executor").await;
    let (sandbox, database) = (suite.sandbox_folder(), suite.database());
    let client = agent.clone();
    let sleeping =
        request("python_sandbox", json!({"code": "import time; time.sleep(1); result = 'rested'"}));
    let call = tokio::spawn(async move { client.execute(sleeping).await });
    wait_until_running(&agent).await;
    let stop = tokio::spawn(suite.stop());
    eventually("new calls are refused", async || {
        let answer = agent.try_call("python_sandbox", json!({"code": "1"})).await;
        answer.is_err().then_some(())
    })
    .await;
    let execution = call.await.unwrap().unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(result(&execution)["result"], "rested");
    stop.await.unwrap();

    let count = async |query: &'static str| -> i64 {
        sqlx::query_scalar(query).fetch_one(database.pool().unwrap()).await.unwrap()
    };
    assert_eq!(count("SELECT count(*) FROM executor.outbox").await, 0);
    assert_eq!(count("SELECT count(*) FROM executor.execution WHERE status = 'running'").await, 0);
    let executions = count("SELECT count(*) FROM executor.execution").await;
    let recorded = count("SELECT count(*) FROM audit.record WHERE execution_id IS NOT NULL").await;
    assert!(
        executions >= 1 && executions == recorded,
        "{executions} executions, {recorded} of them in the trail"
    );
    let left = || std::fs::read_dir(&sandbox).map_or(0, Iterator::count);
    eventually("no program's folder is left", async || (left() == 0).then_some(())).await;
}

async fn a_service_that_stops_ends_its_calls(mode: Mode) {
    if mode == Mode::AllInOne {
        return;
    }
    let mut suite = Suite::start(mode).await;
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("lasting", upstream.url("/held"))).await;
    let client = agent.clone();
    let call = tokio::spawn(async move { client.execute(request("lasting", json!({}))).await });
    upstream.wait_for_hits(1).await;
    let release = async {
        // The call ends while the stop waits for it, whichever comes first.
        tokio::time::sleep(Duration::from_millis(200)).await;
        upstream.release();
    };
    tokio::join!(suite.stop_role(Role::Executor), release);
    let execution = call.await.unwrap().unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(suite.trail_of(&agent).await.len(), 1);

    let status = agent.try_call("lasting", json!({})).await.unwrap_err();
    assert_eq!(
        (status.code(), read(&status).reason),
        (tonic::Code::Unavailable, ErrorReason::ServiceUnavailable)
    );
    agent.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
    eventually("health says that the executor is gone", async || {
        let status = suite.stranger().health("toolcrib.executor.v1.ExecutorService").await.unwrap();
        (status == tonic_health::pb::health_check_response::ServingStatus::NotServing).then_some(())
    })
    .await;
    suite.stop().await;
}
