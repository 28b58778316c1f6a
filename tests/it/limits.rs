//! Limits as callers feel them: what is left, when to come again, and what may be spent.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::{
    executor::v1::{
        ExecuteRequest, ExecutionStatus, ListExecutionsRequest, StartExecutionRequest, ToolErrorCode,
    },
    permissions::v1::{Budget, GetBudgetRequest, Grant, Role as AgentRole, SetBudgetRequest, WhoAmIRequest},
    registry::v1::{RetryPolicy, ToolSettings},
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused, request};
use tonic::{Code, metadata::MetadataMap};

use crate::permissions::within_one_hour;

tests::scenarios! {
    every_answer_tells_what_is_left,
    a_tool_that_is_called_too_often_says_when_to_come_again,
    no_more_is_spent_than_the_budget,
    what_was_not_begun_costs_nothing,
    a_queued_call_counts_once,
}

/// The items of a field, such as `"key";r=5;t=60`, whichever service sent them, in order.
fn items(metadata: &MetadataMap, field: &str) -> Vec<String> {
    let texts = metadata.get_all(field).iter().map(|value| value.to_str().unwrap().to_owned());
    let mut items: Vec<_> =
        texts.flat_map(|text| text.split(", ").map(str::to_owned).collect::<Vec<_>>()).collect();
    items.sort();
    items
}

/// Each item without the seconds to its reset, which pass.
fn left(metadata: &MetadataMap) -> Vec<String> {
    items(metadata, "ratelimit").iter().map(|item| item.split(";t=").next().unwrap().to_owned()).collect()
}

/// A team of the test's own, since a budget is a team's: its admin, and an agent.
async fn team(suite: &Suite, name: &str) -> (Client, Client) {
    let admin = suite.other_team(name).await;
    admin.create_agent("spender", "", AgentRole::Agent).await;
    let (key, _) = admin.issue_key("spender").await;
    let agent = suite.stranger().with_key("spender", &key);
    (admin, agent)
}

async fn set_budget(admin: &Client, daily_micro_usd: i64) -> Budget {
    let asked = SetBudgetRequest { daily_micro_usd };
    admin.permissions().set_budget(asked).await.unwrap().into_inner().budget.unwrap()
}

/// The budget once every call that has ended is settled.
async fn settled(client: &Client) -> Budget {
    eventually("every call is settled", async || {
        let told = client.permissions().get_budget(GetBudgetRequest {}).await.unwrap().into_inner();
        told.budget.filter(|budget| budget.reserved_micro_usd == 0)
    })
    .await
}

fn days() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 86_400
}

/// Waits for the next day where this one is about to end: a budget is that of a day.
async fn away_from_midnight() {
    let seconds = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left = 86_400 - seconds() % 86_400;
    if left < 60 {
        let today = days();
        while days() == today {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn every_answer_tells_what_is_left(suite: &Suite) {
    away_from_midnight().await;
    let upstream = Upstream::start().await;
    let (admin, agent) = team(suite, "metering").await;
    let mut tool = HttpTool::new("metered", upstream.url("/echo")).costing(20_000);
    tool.definition.rate_limit_per_minute = 30;
    admin.register(tool).await;
    admin.grant(&agent.agent, "metered", Grant { max_per_hour: 10, ..Grant::default() }).await;
    set_budget(&admin, 1_000_000).await;
    let answer = agent.executor().execute(request("metered", json!({}))).await.unwrap();
    let metadata = answer.metadata();
    let edge = &suite.settings.edge;
    let expected = [
        "\"budget-cents\";r=98".to_owned(),
        format!("\"key\";r={}", edge.burst - 1),
        "\"quota\";r=9".to_owned(),
        "\"tool:metered\";r=29".to_owned(),
    ];
    assert_eq!(left(metadata), expected);
    let expected = [
        "\"budget-cents\";q=100;w=86400".to_owned(),
        format!("\"key\";q={};w=60", edge.requests_per_minute),
        "\"quota\";q=10;w=3600".to_owned(),
        "\"tool:metered\";q=30;w=60".to_owned(),
    ];
    assert_eq!(items(metadata, "ratelimit-policy"), expected);

    // What does not apply is not told.
    admin.register(HttpTool::new("unmetered", upstream.url("/echo"))).await;
    let (other, _) = team(suite, "unmetering").await;
    other.register(HttpTool::new("unmetered", upstream.url("/echo"))).await;
    other.grant(&other.agent, "unmetered", Grant::default()).await;
    let answer = other.executor().execute(request("unmetered", json!({}))).await.unwrap();
    let names: Vec<_> = left(answer.metadata());
    assert!(names.iter().all(|item| !item.contains("quota") && !item.contains("budget")), "{names:?}");
    let read = agent.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
    assert!(matches!(&left(read.metadata())[..], [key] if key.starts_with("\"key\"")));
}

async fn a_tool_that_is_called_too_often_says_when_to_come_again(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("rationed", upstream.url("/echo"));
    tool.definition.rate_limit_per_minute = 2;
    suite.register(tool).await;
    within_one_hour(suite, "rationed", 3, async |agent| {
        let before = upstream.count();
        let identified = |n| ExecuteRequest {
            request_id: types::new_id().to_string(),
            ..request("rationed", json!({ "n": n }))
        };
        // The rate is the tool's, so another round of this begins with none left.
        if before == 0 {
            agent.call("rationed", json!({})).await;
            agent.call("rationed", json!({})).await;
        }
        let asked = identified(3);
        let answer = agent.execute(asked.clone()).await;
        let refusal = refused(answer, Code::ResourceExhausted, ErrorReason::RateLimited);
        let quota = refusal.details.quota_failure().unwrap();
        assert_eq!(quota.violations[0].subject, "tool:rationed");
        let delay = refusal.details.retry_info().unwrap().retry_delay.unwrap();
        assert!(delay > Duration::ZERO && delay <= Duration::from_mins(1), "{delay:?}");
        // Its place in the quota is given back behind the answer.
        suite.wait_until_delivered().await;
        let recorded = agent.execution(refusal.metadata("execution_id")).await;
        let error = recorded.error.clone().unwrap();
        assert_eq!(
            (recorded.status(), error.code()),
            (ExecutionStatus::Failed, ToolErrorCode::RateLimited),
            "{recorded:?}"
        );
        assert_eq!(upstream.count(), before.max(2));

        // The request id is free: the same request may come again, and is held back again.
        let again = refused(agent.execute(asked).await, Code::ResourceExhausted, ErrorReason::RateLimited);
        assert_ne!(again.metadata("execution_id"), refusal.metadata("execution_id"));
        suite.wait_until_delivered().await;
        // What is queued waits for its turn instead.
        let later = StartExecutionRequest { call: Some(identified(4)), ..StartExecutionRequest::default() };
        let queued = agent.accepted(later).await;
        eventually("it was tried and put back", async || {
            let execution = agent.execution(&queued.id).await;
            assert!(execution.end_time.is_none(), "{execution:?}");
            let waiting = format!("id = '{}' AND not_before > now()", queued.id);
            (suite.count("executor.job", &waiting).await == 1).then_some(())
        })
        .await;
        agent.cancel(&queued.id).await.unwrap();
        assert_eq!(upstream.count(), before.max(2));
    })
    .await;
}

async fn no_more_is_spent_than_the_budget(suite: &Suite) {
    away_from_midnight().await;
    let upstream = Upstream::start().await;
    let (admin, agent) = team(suite, "thrifty").await;
    admin.register(HttpTool::new("costly", upstream.url("/echo")).costing(300_000)).await;
    admin.register(HttpTool::new("free", upstream.url("/echo"))).await;
    for tool in ["costly", "free"] {
        admin.grant(&agent.agent, tool, Grant::default()).await;
    }
    set_budget(&admin, 4_000_000).await;
    let calls = (0..50).map(|n| agent.try_call("costly", json!({ "n": n })));
    let (ran, denied): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(calls).await.into_iter().partition(Result::is_ok);
    assert_eq!((ran.len(), denied.len(), upstream.count()), (13, 37, 13));
    for answer in denied {
        let refusal = refused(answer, Code::ResourceExhausted, ErrorReason::BudgetExhausted);
        assert_eq!(refusal.details.quota_failure().unwrap().violations[0].subject, "team:budget");
        let delay = refusal.details.retry_info().unwrap().retry_delay.unwrap();
        assert!(delay > Duration::ZERO && delay <= Duration::from_hours(24), "{delay:?}");
    }
    assert_eq!(settled(&agent).await.spent_micro_usd, 3_900_000);
    let free = agent.call("free", json!({})).await;
    assert_eq!(free.status(), ExecutionStatus::Succeeded, "{free:?}");

    set_budget(&admin, 4_200_000).await;
    agent.call("costly", json!({"n": 51})).await;
    let answer = agent.try_call("costly", json!({"n": 52})).await;
    refused(answer, Code::ResourceExhausted, ErrorReason::BudgetExhausted);
    assert_eq!(settled(&agent).await.spent_micro_usd, 4_200_000);
    let denied = refused(
        agent.permissions().set_budget(SetBudgetRequest { daily_micro_usd: 0 }).await,
        Code::PermissionDenied,
        ErrorReason::RoleRequired,
    );
    assert!(!denied.message.is_empty());
}

async fn what_was_not_begun_costs_nothing(suite: &Suite) {
    away_from_midnight().await;
    let upstream = Upstream::start().await;
    let (admin, agent) = team(suite, "careful").await;
    // Nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = HttpTool::new("away", format!("http://127.0.0.1:{port}/")).costing(500);
    admin.register(away).await;
    admin.register(HttpTool::new("doubtful", upstream.url("/failing")).costing(300)).await;
    let retry = RetryPolicy { max_retries: Some(0), ..RetryPolicy::default() };
    let settings = ToolSettings { retry: Some(retry), ..ToolSettings::default() };
    let update = proto::registry::v1::UpdateToolRequest {
        name: "away".into(),
        settings: Some(settings),
        update_mask: Some(prost_types::FieldMask { paths: vec!["retry.max_retries".into()] }),
        etag: String::new(),
    };
    admin.registry().update_tool(update).await.unwrap();
    for tool in ["away", "doubtful"] {
        admin.grant(&agent.agent, tool, Grant::default()).await;
    }
    set_budget(&admin, 1_000).await;
    for _ in 0..3 {
        let execution = agent.call("away", json!({})).await;
        assert_eq!(execution.error.unwrap().code(), ToolErrorCode::Unreachable);
        assert_eq!((execution.cost_micro_usd, settled(&agent).await.spent_micro_usd), (0, 0));
    }
    // Whether this one did its work is not known: it is paid for.
    let execution = agent.call("doubtful", json!({})).await;
    assert_eq!(execution.status(), ExecutionStatus::UnknownOutcome, "{execution:?}");
    assert_eq!((execution.cost_micro_usd, settled(&agent).await.spent_micro_usd), (300, 300));
}

async fn a_queued_call_counts_once(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("counted", upstream.url("/echo"))).await;
    within_one_hour(suite, "counted", 2, async |agent| {
        let later = || StartExecutionRequest {
            call: Some(request("counted", json!({}))),
            ..StartExecutionRequest::default()
        };
        let first = agent.accepted(later()).await;
        assert_eq!(agent.ended(&first.id).await.status(), ExecutionStatus::Succeeded);
        let second = agent.call("counted", json!({})).await;
        assert_eq!(second.status(), ExecutionStatus::Succeeded, "{second:?}");
        let answer = agent.start(later()).await;
        refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
        let filter =
            ListExecutionsRequest { tool_name: "counted".into(), ..ListExecutionsRequest::default() };
        assert_eq!(agent.executions(filter).await.len(), 2);
    })
    .await;
}

/// The limit of one key.
mod of_a_key {
    use super::*;

    tests::scenarios_alone! { a_key_that_calls_too_often_is_told_when_to_come_again }

    async fn a_key_that_calls_too_often_is_told_when_to_come_again(mode: Mode) {
        let suite = Suite::start_with(mode, |settings| {
            settings.edge.requests_per_minute = 30;
            settings.edge.burst = 20;
        })
        .await;
        let (hasty, calm) = (suite.agent("").await, suite.agent("").await);
        let mut admitted = 0;
        let status = loop {
            match hasty.permissions().who_am_i(WhoAmIRequest {}).await {
                Ok(_) => admitted += 1,
                Err(status) => break status,
            }
            assert!(admitted < 200, "nothing held it back");
        };
        assert!(admitted >= 20, "{admitted} of a burst of 20");
        assert_eq!(left(status.metadata()), ["\"key\";r=0"]);
        let refusal = refused(Err::<(), _>(status), Code::ResourceExhausted, ErrorReason::RateLimited);
        let subject = &refusal.details.quota_failure().unwrap().violations[0].subject;
        assert!(subject.starts_with("key:") && !subject.contains(&hasty.key), "{subject}");
        let delay = refusal.details.retry_info().unwrap().retry_delay.unwrap();
        assert!(delay > Duration::ZERO && delay <= Duration::from_secs(2), "{delay:?}");
        calm.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
        eventually("its next request fits", async || {
            hasty.permissions().who_am_i(WhoAmIRequest {}).await.ok()
        })
        .await;
        suite.stop().await;
    }
}
