//! Tools of the team's own: registered, run over HTTP, changed, disabled, and watched.

use proto::{
    executor::v1::{CallOptions, ExecuteRequest, ExecutionStatus, ToolErrorCode, execute_request::Input},
    registry::v1::{
        ListToolVersionsRequest, RegisterToolRequest, SetToolStatusRequest, ToolStatus, WatchToolsRequest,
        watch_tools_response::Event,
    },
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{HttpTool, PATIENCE, Suite, Upstream, refused, request, result};
use tonic::Code;

tests::scenarios! {
    arguments_arrive_and_the_result_is_checked,
    a_result_that_breaks_its_schema_is_no_result,
    a_slow_server_is_not_waited_for,
    a_private_address_is_not_reached_unless_allowed,
    failures_of_the_server_have_their_codes,
    a_new_version_is_the_one_that_runs,
    a_disabled_tool_is_unavailable,
    a_watch_sees_every_change,
}

async fn arguments_arrive_and_the_result_is_checked(suite: &Suite) {
    let upstream = Upstream::start().await;
    let url = upstream.url("/echo/{place}");
    let schema = json!({"type": "object", "required": ["method", "target", "body"]});
    let mut tool = HttpTool::new("echo", url).posting().giving(&schema);
    let input = json!({
        "type": "object",
        "required": ["place"],
        "properties": {"place": {"type": "string"}, "lang": {"type": "string"}, "id": {"type": "integer"}},
    });
    tool.definition.input_schema_json = input.to_string();
    tool.definition.cost_micro_usd = 1_234;
    tool.http.query_arguments = vec!["lang".into()];
    let agent = suite.agent_with(tool).await;
    let arguments = r#"{"place": "a/b ?", "lang": "ü", "id": 9007199254740993}"#;
    let asked =
        ExecuteRequest { input: Some(Input::ArgumentsJson(arguments.into())), ..request("echo", json!({})) };
    let execution = agent.execute(asked).await.unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(execution.cost_micro_usd, 1_234);
    let hits = upstream.hits();
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0].target, "/echo/a%2Fb%20%3F?lang=%C3%BC");
    assert_eq!((hits[0].method.as_str(), hits[0].body.as_str()), ("POST", r#"{"id":9007199254740993}"#));
    let echoed = json!({"method": "POST", "target": hits[0].target, "body": hits[0].body});
    assert_eq!(result(&execution), echoed);
}

async fn a_result_that_breaks_its_schema_is_no_result(suite: &Suite) {
    let upstream = Upstream::start().await;
    let schema = json!({
        "type": "object",
        "properties": {"count": {"type": "integer"}, "items": {"type": "array", "items": {"type": "integer"}}},
    });
    let agent = suite.agent_with(HttpTool::new("liar", upstream.url("/wrong")).giving(&schema)).await;
    let execution = agent.call("liar", json!({})).await;
    let error = execution.error.clone().unwrap();
    assert_eq!((execution.status(), error.code()), (ExecutionStatus::Failed, ToolErrorCode::InvalidResult));
    let mut pointers: Vec<_> =
        error.violations.iter().map(|each| (each.pointer.as_str(), each.schema_pointer.as_str())).collect();
    pointers.sort_unstable();
    assert_eq!(
        pointers,
        [("/count", "/properties/count/type"), ("/items/1", "/properties/items/items/type")]
    );
    assert_eq!(execution.result_json, "");
    assert_eq!(agent.execution(&execution.id).await, execution);
    let events = suite.trail_of(&agent).await;
    assert_eq!((events.len(), events[0].reason.as_str()), (1, "INVALID_RESULT"));
}

async fn a_slow_server_is_not_waited_for(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("snail", upstream.url("/held"));
    tool.definition.timeout_ms = 1_000;
    let agent = suite.agent_with(tool).await;
    // The server answers never: that the call ends at all is the timeout's doing.
    for (asked, limit) in [(0, 1_000.0), (300, 300.0)] {
        let asked = ExecuteRequest { timeout_ms: asked, ..request("snail", json!({})) };
        let execution = agent.execute(asked).await.unwrap().execution.unwrap();
        let error = execution.error.clone().unwrap();
        assert_eq!((execution.status(), error.code()), (ExecutionStatus::TimedOut, ToolErrorCode::Timeout));
        // The driver gives up a little before, so that it can say what it waited for.
        assert!(error.retryable && execution.duration_ms >= limit * 0.8, "{execution:?}");
    }
}

async fn a_private_address_is_not_reached_unless_allowed(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent("").await;
    let port = upstream.url("").rsplit_once(':').unwrap().1.to_owned();
    for (number, host) in ["127.0.0.1", "localhost", "2130706433"].iter().enumerate() {
        let mut tool = HttpTool::new(&format!("insider_{number}"), format!("http://{host}:{port}/echo"));
        tool.http.allow_private_network = false;
        let name = suite.register(tool).await.definition.unwrap().name;
        suite.grant(&agent, &name).await;
        let execution = agent.call(&name, json!({})).await;
        let error = execution.error.clone().unwrap();
        assert_eq!(
            (execution.status(), error.code()),
            (ExecutionStatus::Failed, ToolErrorCode::AddressRefused)
        );
        assert_eq!(execution.cost_micro_usd, 0);
    }
    suite.grant(&agent, "http_request").await;
    let execution = agent.call("http_request", json!({"url": upstream.url("/echo")})).await;
    assert_eq!(execution.error.unwrap().code(), ToolErrorCode::AddressRefused);
    assert_eq!(upstream.connections(), 0);
}

async fn failures_of_the_server_have_their_codes(suite: &Suite) {
    use ExecutionStatus::{Failed, UnknownOutcome};
    let upstream = Upstream::start().await;
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let agent = suite.agent("").await;
    let cases = [
        ("limited", upstream.url("/limited"), Failed, ToolErrorCode::UpstreamRateLimited, 7_000),
        // It may have done its work before it said 500.
        ("failing", upstream.url("/failing"), UnknownOutcome, ToolErrorCode::ToolFailed, 0),
        ("nowhere", format!("http://{unused}/"), Failed, ToolErrorCode::Unreachable, 0),
    ];
    for (name, url, status, code, retry_after_ms) in cases {
        suite.register(HttpTool::new(name, url)).await;
        suite.grant(&agent, name).await;
        let once = CallOptions { max_retries: Some(0), ..CallOptions::default() };
        let asked = ExecuteRequest { options: Some(once), ..request(name, json!({})) };
        let execution = agent.execute(asked).await.unwrap().execution.unwrap();
        let error = execution.error.clone().unwrap();
        assert_eq!((execution.status(), error.code()), (status, code), "{execution:?}");
        assert_eq!((error.retryable, error.retry_after_ms), (true, retry_after_ms), "{error:?}");
    }
    assert_eq!(upstream.hits().len(), 2);
}

async fn a_new_version_is_the_one_that_runs(suite: &Suite) {
    let upstream = Upstream::start().await;
    let first = HttpTool::new("renewed", upstream.url("/one"));
    let agent = suite.agent_with(first.clone()).await;
    let before = agent.call("renewed", json!({})).await;
    let registered = suite.register(HttpTool::new("renewed", upstream.url("/two"))).await;
    let after = tests::eventually("the new version runs", async || {
        let execution = agent.call("renewed", json!({})).await;
        (execution.tool_version == "2.0.0").then_some(execution)
    })
    .await;
    assert_eq!(
        (result(&before)["target"].as_str(), result(&after)["target"].as_str()),
        (Some("/one"), Some("/two"))
    );
    assert_eq!(before.tool_version, "1.0.0");
    assert_eq!(after.tool_digest, registered.digest);
    assert_ne!(after.tool_digest, before.tool_digest);

    let again = RegisterToolRequest {
        definition: Some(HttpTool::new("renewed", upstream.url("/two")).into()),
        ..RegisterToolRequest::default()
    };
    let again = suite.admin.registry().register_tool(again).await.unwrap().into_inner();
    assert_eq!((again.created, again.tool.unwrap().id), (false, registered.id));
    let named = ListToolVersionsRequest { name: "renewed".into() };
    let versions = agent.registry().list_tool_versions(named).await.unwrap().into_inner().tools;
    let ids: Vec<_> = versions.iter().map(|tool| tool.id.clone()).collect();
    assert_eq!(ids.len(), 2);

    let old = agent.call(&ids[1], json!({})).await;
    assert_eq!((result(&old)["target"].as_str(), old.tool_digest), (Some("/one"), before.tool_digest));
}

async fn set_status(suite: &Suite, name: &str, status: ToolStatus) {
    let request = SetToolStatusRequest { name: name.to_owned(), status: status.into() };
    suite.admin.registry().set_tool_status(request).await.unwrap();
}

async fn a_disabled_tool_is_unavailable(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("switched", upstream.url("/echo"))).await;
    set_status(suite, "switched", ToolStatus::Disabled).await;
    let answer = tests::eventually("the tool is disabled", async || {
        let answer = agent.try_call("switched", json!({})).await;
        answer.is_err().then_some(answer)
    })
    .await;
    let refusal = refused(answer, Code::FailedPrecondition, ErrorReason::ToolUnavailable);
    let failure = refusal.details.precondition_failure().unwrap();
    assert_eq!(
        (failure.violations[0].r#type.as_str(), failure.violations[0].subject.as_str()),
        ("TOOL_STATUS", "switched")
    );
    let events = suite.trail_of(&agent).await;
    assert_eq!(events[0].reason, "TOOL_UNAVAILABLE");
    set_status(suite, "switched", ToolStatus::Deprecated).await;
    tests::eventually("the tool is back", async || agent.try_call("switched", json!({})).await.ok()).await;
}

async fn a_watch_sees_every_change(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent("").await;
    let mut events = agent.registry().watch_tools(WatchToolsRequest::default()).await.unwrap().into_inner();
    let mut next = async || {
        let event = tokio::time::timeout(PATIENCE, events.message()).await.expect("the watch goes on");
        event.unwrap().expect("the watch goes on")
    };
    let mut snapshot = Vec::new();
    let known = loop {
        let response = next().await;
        match response.event.unwrap() {
            Event::Upserted(tool) => snapshot.push(tool.definition.unwrap().name),
            Event::SnapshotEnd(end) => {
                assert_eq!(usize::try_from(end.tool_count).unwrap(), snapshot.len());
                break response.revision;
            }
            Event::Heartbeat(_) => {}
        }
    };
    assert!(snapshot.contains(&"python_sandbox".to_owned()), "{snapshot:?}");
    assert!(!snapshot.contains(&"observed".to_owned()), "{snapshot:?}");
    suite.register(HttpTool::new("observed", upstream.url("/echo"))).await;
    set_status(suite, "observed", ToolStatus::Disabled).await;
    let mut seen = Vec::new();
    let mut revision = known;
    while seen.last() != Some(&ToolStatus::Disabled) {
        let response = next().await;
        let Some(Event::Upserted(tool)) = response.event else { continue };
        // Other scenarios change other tools meanwhile.
        if tool.definition.as_ref().unwrap().name == "observed" {
            assert!(tool.revision > revision, "{tool:?}");
            revision = tool.revision;
            seen.push(tool.status());
        }
    }
    // Two changes at once may arrive as their last state.
    assert!(seen == [ToolStatus::Active, ToolStatus::Disabled] || seen == [ToolStatus::Disabled], "{seen:?}");
    assert_eq!(upstream.connections(), 0);
}
