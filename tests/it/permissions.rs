//! Who may call what, how often, and until when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::{
    audit::v1::{Action, QueryTrailRequest, Result as AuditResult},
    executor::v1::{ExecutionStatus, ListExecutionsRequest},
    permissions::v1::{
        Grant, ListGrantsRequest, RevokeApiKeyRequest, RevokePermissionRequest, WhoAmIRequest,
    },
    registry::v1::{GetToolRequest, ListToolsRequest, Tool, get_tool_request::Key},
    types::v1::{Effect, Sensitivity},
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, eventually, refused};
use tonic::Code;

tests::scenarios! {
    without_a_grant_nothing_runs,
    a_specialization_brings_its_grants,
    an_hourly_limit_holds_under_concurrency,
    a_failing_tool_counts_and_refused_arguments_do_not,
    a_grant_ends_at_its_time,
    a_revoked_grant_is_gone_at_once,
    a_revoked_key_is_gone_within_a_second,
    a_grant_opens_no_more_than_it_says,
    teams_do_not_see_each_other,
}

async fn without_a_grant_nothing_runs(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("ungranted", upstream.url("/echo"))).await;
    let agent = suite.agent("Technical Executor").await;
    let refusal = refused(
        agent.try_call("ungranted", json!({"token": "hunter2hunter2"})).await,
        Code::PermissionDenied,
        ErrorReason::NoGrant,
    );
    assert!(refusal.message.contains("ungranted"), "{refusal:?}");
    let events = suite.trail_of(&agent).await;
    let [event] = &events[..] else { panic!("not one event: {events:?}") };
    assert_eq!((event.action(), event.result()), (Action::PermissionChecked, AuditResult::Denied));
    assert_eq!((event.reason.as_str(), event.tool_name.as_str()), ("NO_GRANT", "ungranted"));
    assert!(!event.arguments_json.contains("hunter2"), "{event:?}");
    assert_eq!((upstream.connections(), event.execution_id.as_str()), (0, ""));
}

async fn a_specialization_brings_its_grants(suite: &Suite) {
    let executor = suite.agent("Technical Executor").await;
    let visitor = suite.agent("Visitor").await;
    let listing = json!({"operation": "list", "path": "."});
    let listed = executor.call("file_operations", listing.clone()).await;
    assert_eq!(listed.status(), ExecutionStatus::Succeeded, "{listed:?}");
    let answer = visitor.try_call("file_operations", listing).await;
    refused(answer, Code::PermissionDenied, ErrorReason::NoGrant);

    let filter =
        ListGrantsRequest { specialization: "Technical Executor".into(), ..ListGrantsRequest::default() };
    let grants = suite.admin.permissions().list_grants(filter).await.unwrap().into_inner().grants;
    let mut limits: Vec<_> =
        grants.iter().map(|grant| (grant.tool_name.as_str(), grant.max_per_hour)).collect();
    limits.sort_unstable();
    assert_eq!(limits, [("file_operations", 50), ("python_sandbox", 20)]);
}

fn clock_hour() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 3_600
}

/// An agent that may call a tool so many times an hour; another one where an hour ends meanwhile.
pub(crate) async fn within_one_hour(
    suite: &Suite,
    tool: &str,
    max_per_hour: i64,
    scenario: impl AsyncFn(&Client),
) {
    loop {
        let hour = clock_hour();
        let agent = suite.agent("").await;
        suite.grant_with(&agent, tool, Grant { max_per_hour, ..Grant::default() }).await;
        let ended =
            futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(scenario(&agent))).await;
        match ended {
            Ok(()) => return,
            Err(panic) if clock_hour() == hour => std::panic::resume_unwind(panic),
            Err(_) => {}
        }
    }
}

async fn an_hourly_limit_holds_under_concurrency(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("scarce", upstream.url("/echo"))).await;
    within_one_hour(suite, "scarce", 3, async |agent| {
        let before = upstream.hits().len();
        let calls = (0..10).map(|number| agent.try_call("scarce", json!({"number": number})));
        let (ran, denied): (Vec<_>, Vec<_>) =
            futures_util::future::join_all(calls).await.into_iter().partition(Result::is_ok);
        assert_eq!((ran.len(), denied.len()), (3, 7));
        assert_eq!(upstream.hits().len() - before, 3);
        for answer in denied {
            let refusal = refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
            let quota = refusal.details.quota_failure().unwrap();
            assert!(quota.violations[0].subject.starts_with("grant:"), "{quota:?}");
            let delay = refusal.details.retry_info().unwrap().retry_delay.unwrap();
            assert!(delay <= Duration::from_hours(1), "{delay:?}");
        }
        let denials = suite.trail_of(agent).await;
        let denials = denials.iter().filter(|event| event.reason == "QUOTA_EXHAUSTED").count();
        assert_eq!(denials, 7);
    })
    .await;
}

async fn a_failing_tool_counts_and_refused_arguments_do_not(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("fragile", upstream.url("/failing"));
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}});
    tool.definition.input_schema_json = schema.to_string();
    suite.register(tool).await;
    within_one_hour(suite, "fragile", 2, async |agent| {
        for _ in 0..3 {
            let answer = agent.try_call("fragile", json!({"n": "one"})).await;
            refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
        }
        for _ in 0..2 {
            let status = agent.call("fragile", json!({"n": 1})).await.status();
            assert_eq!(status, ExecutionStatus::UnknownOutcome, "a side effect, and the server said 500");
        }
        let answer = agent.try_call("fragile", json!({"n": 1})).await;
        refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
        let filter = ListGrantsRequest { agent_id: agent.agent.clone(), ..ListGrantsRequest::default() };
        let grants = suite.admin.permissions().list_grants(filter).await.unwrap().into_inner().grants;
        assert_eq!(grants[0].used_this_hour, 2);
    })
    .await;
}

async fn a_grant_ends_at_its_time(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("fleeting", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    let end = SystemTime::now() + Duration::from_millis(1_500);
    let expire_time = Some(prost_types::Timestamp::from(end));
    suite.grant_with(&agent, "fleeting", Grant { expire_time, ..Grant::default() }).await;
    let answer = eventually("the grant ends", async || {
        let before = SystemTime::now();
        let answer = agent.try_call("fleeting", json!({})).await;
        assert!(answer.is_ok() || SystemTime::now() >= end, "ended early: {answer:?}");
        assert!(answer.is_err() || before < end, "allowed after its end");
        answer.is_err().then_some(answer)
    })
    .await;
    refused(answer, Code::PermissionDenied, ErrorReason::GrantExpired);
}

async fn a_revoked_grant_is_gone_at_once(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("revocable", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    let grant = suite.grant(&agent, "revocable").await;
    agent.call("revocable", json!({})).await;
    let revoke = RevokePermissionRequest { grant_id: grant.id };
    suite.admin.permissions().revoke_permission(revoke).await.unwrap();
    let answer = agent.try_call("revocable", json!({})).await;
    refused(answer, Code::PermissionDenied, ErrorReason::NoGrant);
    assert_eq!(upstream.hits().len(), 1);
}

async fn a_revoked_key_is_gone_within_a_second(suite: &Suite) {
    let agent = suite.agent("").await;
    let (key, key_id) = suite.issue_key(&agent.agent).await;
    let second = suite.stranger().with_key(&agent.agent, &key);
    second.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
    suite.admin.permissions().revoke_api_key(RevokeApiKeyRequest { key_id }).await.unwrap();
    // The second is what is promised: nothing tells earlier that it is over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let answer = second.permissions().who_am_i(WhoAmIRequest {}).await;
    refused(answer, Code::Unauthenticated, ErrorReason::Unauthenticated);
    agent.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
}

async fn a_grant_opens_no_more_than_it_says(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut secret = HttpTool::new("vault", upstream.url("/echo"));
    secret.definition.sensitivity = Sensitivity::Restricted.into();
    secret.definition.effect = Effect::ReadOnly.into();
    suite.register(secret).await;
    suite.register(HttpTool::new("lever", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    let limits = Grant { read_only: true, max_sensitivity: Sensitivity::Internal.into(), ..Grant::default() };
    suite.grant_with(&agent, "vault", limits.clone()).await;
    suite.grant_with(&agent, "lever", limits).await;
    let answer = agent.try_call("vault", json!({})).await;
    refused(answer, Code::PermissionDenied, ErrorReason::SensitivityExceeded);
    let answer = agent.try_call("lever", json!({})).await;
    refused(answer, Code::PermissionDenied, ErrorReason::ReadOnlyGrant);
    assert_eq!(upstream.connections(), 0);
}

async fn teams_do_not_see_each_other(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("private", upstream.url("/echo"))).await;
    let execution = agent.call("private", json!({})).await;
    let other = suite.other_team("rivals").await;
    let answer = other.try_call("private", json!({})).await;
    refused(answer, Code::NotFound, ErrorReason::ToolNotFound);
    let named = GetToolRequest { key: Some(Key::Name("private".into())), version: String::new() };
    refused(other.registry().get_tool(named).await, Code::NotFound, ErrorReason::ToolNotFound);
    let read = proto::executor::v1::GetExecutionRequest { id: execution.id };
    refused(other.executor().get_execution(read).await, Code::NotFound, ErrorReason::NotFound);
    let tools = other.registry().list_tools(ListToolsRequest::default()).await.unwrap().into_inner().tools;
    let is_own = |tool: &Tool| tool.definition.as_ref().is_some_and(|it| it.provider == "toolcrib");
    assert!(tools.len() >= 12 && tools.iter().all(is_own), "{tools:?}");
    assert_eq!(other.executions(ListExecutionsRequest::default()).await, []);
    suite.wait_until_delivered().await;
    let events = other.audit().query_trail(QueryTrailRequest::default()).await.unwrap().into_inner().events;
    assert!(
        events.iter().all(|event| match event.agent_id.as_str() {
            "admin" => event.reason == "TOOL_NOT_FOUND",
            // The tools that every team comes with.
            "" => event.action() == Action::DefinitionChanged,
            // What made the team told of its first key.
            agent => agent == "bootstrap",
        }),
        "{events:?}"
    );

    let own = suite.agent("").await;
    let mine = own.executions(ListExecutionsRequest::default()).await;
    assert_eq!(mine, [], "an agent sees another's executions");
    let foreign = ListExecutionsRequest { agent_id: agent.agent.clone(), ..ListExecutionsRequest::default() };
    let answer = own.executor().list_executions(foreign).await;
    refused(answer, Code::InvalidArgument, ErrorReason::InvalidRequest);
}
