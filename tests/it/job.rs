//! The main job: ask which tool fits, run it, find it recorded.

use proto::{
    audit::v1::{Action, QueryTrailRequest, Result as AuditResult},
    executor::v1::{ExecuteRequest, ExecutionStatus, ListExecutionsRequest},
    registry::v1::{GetToolRequest, get_tool_request::Key},
    selector::v1::SelectToolsRequest,
    types::v1::{Effect, Sensitivity},
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{HttpTool, Suite, Upstream, eventually, request, result};
use tonic::Code;

tests::scenarios! {
    a_selected_tool_runs_and_is_recorded_once,
    what_ran_is_learned_from,
    one_trace_goes_from_the_client_to_the_trail,
}

async fn a_selected_tool_runs_and_is_recorded_once(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = suite.agent("Technical Executor").await;
    let wanted = SelectToolsRequest {
        task: "run a python program that adds numbers".into(),
        task_id: "job-1".into(),
        ..SelectToolsRequest::default()
    };
    let selection = agent.selector().select_tools(wanted).await.unwrap().into_inner();
    let primary = selection.primary.unwrap();
    assert_eq!(primary.name, "python_sandbox");
    assert!(!primary.reason.is_empty() && primary.combined_score > 0.0, "{primary:?}");

    let arguments = json!({
        "code": "result = sum(arguments['numbers'])\nprint(result)",
        "arguments": {"numbers": [1, 2, 9_007_199_254_740_990_i64]},
    });
    let asked = ExecuteRequest {
        task_id: "job-1".into(),
        selection_id: selection.selection_id.clone(),
        ..request(&primary.name, arguments.clone())
    };
    let answer = agent.execute(asked).await.unwrap();
    assert!(!answer.replayed);
    let execution = answer.execution.unwrap();
    let given = result(&execution);
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
    assert_eq!(given["result"], json!(9_007_199_254_740_993_i64));
    assert_eq!(
        (given["stdout"].as_str(), given["exit_code"].as_i64()),
        (Some("9007199254740993\n"), Some(0))
    );

    let named = GetToolRequest { key: Some(Key::Name(primary.name.clone())), version: String::new() };
    let tool = agent.registry().get_tool(named).await.unwrap().into_inner().tool.unwrap();
    let definition = tool.definition.unwrap();
    assert_eq!(execution.tool_digest, tool.digest);
    assert_eq!(execution.tool_version, definition.version);
    assert_eq!((execution.cost_micro_usd, definition.cost_micro_usd), (500, 500));
    assert_eq!(execution.effect(), Effect::ReadOnly);
    assert_eq!(execution.selection_id, selection.selection_id);
    assert_eq!(execution.arguments_digest, types::digest_json(&arguments).unwrap());
    assert_eq!(execution.trace_id.len(), 32, "{execution:?}");
    assert!(!execution.decision_id.is_empty() && execution.duration_ms > 0.0 && execution.error.is_none());

    assert_eq!(agent.execution(&execution.id).await, execution);
    let filter = ListExecutionsRequest { task_id: "job-1".into(), ..ListExecutionsRequest::default() };
    let listed = agent.executions(filter).await;
    let without_result = proto::executor::v1::Execution { result_json: String::new(), ..execution.clone() };
    assert_eq!(listed, [without_result]);

    let events =
        suite.trail(QueryTrailRequest { task_id: "job-1".into(), ..QueryTrailRequest::default() }).await;
    let [event] = &events[..] else { panic!("not one event: {events:?}") };
    assert_eq!((event.action(), event.result()), (Action::ToolInvoked, AuditResult::Success));
    assert_eq!((&event.execution_id, &event.agent_id), (&execution.id, &agent.agent));
    assert_eq!((&event.tool_name, &event.tool_version), (&execution.tool_name, &execution.tool_version));
    assert_eq!((&event.tool_digest, &event.decision_id), (&execution.tool_digest, &execution.decision_id));
    assert_eq!(
        (&event.trace_id, &event.arguments_digest),
        (&execution.trace_id, &execution.arguments_digest)
    );
    assert_eq!(event.result_digest, types::digest_bytes(execution.result_json.as_bytes()));
    assert_eq!((event.cost_micro_usd, event.sensitivity()), (500, Sensitivity::Internal));
    assert_eq!((event.reason.as_str(), event.message.as_str()), ("", ""));
    assert!(event.sequence > 0 && event.time.is_some());
}

async fn what_ran_is_learned_from(suite: &Suite) {
    let upstream = Upstream::start().await;
    let mut tool = HttpTool::new("barometer", upstream.url("/echo"));
    tool.definition.description = "Reads the barometer on the roof.".into();
    let agent = suite.agent_with(tool).await;
    let wanted = SelectToolsRequest { task: "read the barometer".into(), ..SelectToolsRequest::default() };
    for expected in 0..3 {
        eventually(&format!("{expected} executions are known"), async || {
            let answer = agent.selector().select_tools(wanted.clone()).await.unwrap();
            let selection = answer.into_inner();
            // The selector hears of a new tool a moment later.
            let Some(primary) = selection.primary else {
                assert!(!selection.unsuitable_reason.is_empty());
                return None;
            };
            assert_eq!((primary.name.as_str(), selection.alternatives.len()), ("barometer", 0));
            (primary.executions == expected).then_some(())
        })
        .await;
        agent.call("barometer", json!({})).await;
    }
}

async fn one_trace_goes_from_the_client_to_the_trail(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("traced", upstream.url("/echo"))).await;
    let trace_id = types::new_id().simple().to_string();
    let tracing = agent.with_header("traceparent", &format!("00-{trace_id}-00f067aa0ba902b7-01"));
    let execution = tracing.call("traced", json!({})).await;
    assert_eq!(execution.trace_id, trace_id);
    let refused = tracing.try_call("python_sandbox", json!({"code": "1"})).await;
    tests::refused(refused, Code::PermissionDenied, ErrorReason::NoGrant);
    let events = suite.trail_of(&agent).await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events.iter().all(|event| event.trace_id == trace_id), "{events:?}");
}
