//! Calls that are accepted now and run later: watched, resumed, ordered, repeated, cancelled, denied in between.

use std::time::{Duration, SystemTime};

use proto::{
    audit::v1::Action,
    executor::v1::{
        AttemptKind, ExecuteRequest, ExecutionStatus, ListExecutionsRequest, Reached, StartExecutionRequest,
        ToolErrorCode, WatchExecutionResponse, watch_execution_response::Event,
    },
    permissions::v1::{Grant, RevokePermissionRequest, Role as AgentRole},
    registry::v1::{RetryPolicy, ToolSettings},
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, PATIENCE, Suite, Upstream, eventually, refused, request, result};
use tonic::{Code, Status, Streaming};

use crate::servers::{Everything, register_http};

tests::scenarios! {
    a_watch_tells_everything_and_resumes_anywhere,
    a_watch_is_told_while_it_runs,
    nothing_begins_before_its_time,
    the_more_urgent_begins_first,
    the_same_start_is_one_execution,
    a_grant_that_is_gone_by_then_ends_a_queued_call,
    a_queued_call_that_is_cancelled_never_begins,
    a_cancelled_call_is_cut_off_at_its_server,
    whoever_waits_is_told_of_the_cancelling,
    a_cancelled_program_is_stopped,
    a_cancelled_mcp_call_leaves_the_others_alone,
    nobody_touches_what_is_anothers,
}

fn later(tool: &str, arguments: Value) -> StartExecutionRequest {
    StartExecutionRequest { call: Some(request(tool, arguments)), ..StartExecutionRequest::default() }
}

#[allow(clippy::unnecessary_wraps, reason = "stands where the message wants an option")]
fn in_time(wait: Duration) -> Option<prost_types::Timestamp> {
    Some((SystemTime::now() + wait).into())
}

/// What a watch tells until the execution ends, but for its signs of life.
async fn told(mut watch: Streaming<WatchExecutionResponse>) -> Vec<WatchExecutionResponse> {
    let mut events = Vec::new();
    while let Some(event) = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it ends").unwrap() {
        if !matches!(event.event, Some(Event::Heartbeat(_))) {
            events.push(event);
        }
    }
    events
}

/// Each event in a word.
fn words(events: &[WatchExecutionResponse]) -> Vec<&'static str> {
    let word = |event: &WatchExecutionResponse| match event.event.as_ref().unwrap() {
        Event::Status(execution) => execution.status().as_str_name().trim_start_matches("EXECUTION_STATUS_"),
        Event::Attempt(_) => "attempt",
        Event::Progress(_) => "progress",
        Event::Log(_) => "log",
        Event::Heartbeat(_) => "heartbeat",
    };
    events.iter().map(word).collect()
}

fn quick_retries(max_retries: i32) -> ToolSettings {
    let retry = RetryPolicy {
        max_retries: Some(max_retries),
        initial_backoff_ms: 1,
        max_backoff_ms: 10,
        ..RetryPolicy::default()
    };
    ToolSettings { retry: Some(retry), ..ToolSettings::default() }
}

async fn a_watch_tells_everything_and_resumes_anywhere(suite: &Suite) {
    let upstream = Upstream::start().await;
    let tool = HttpTool::new("convalescent", upstream.url("/recovers")).reading();
    let agent = suite.agent_with_settings(tool, quick_retries(3)).await;
    let accepted = agent.accepted(later("convalescent", json!({"n": 1}))).await;
    assert_eq!((accepted.status(), accepted.asynchronous), (ExecutionStatus::Queued, true), "{accepted:?}");
    assert!(accepted.start_time.is_none() && accepted.end_time.is_none(), "{accepted:?}");

    let events = told(agent.watch(&accepted.id, 0).await.unwrap()).await;
    assert_eq!(words(&events), ["QUEUED", "RUNNING", "attempt", "attempt", "SUCCEEDED"]);
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert!(sequences[0] > 0 && sequences.is_sorted_by(|a, b| a < b), "{sequences:?}");
    let Some(Event::Status(ended)) = &events[4].event else { panic!("{events:?}") };
    assert_eq!(ended, &agent.execution(&accepted.id).await);
    assert_eq!(result(ended)["target"], "/recovers");
    let kinds: Vec<_> = ended.attempts.iter().map(proto::executor::v1::Attempt::kind).collect();
    assert_eq!(kinds, [AttemptKind::First, AttemptKind::Retry, AttemptKind::Retry]);
    assert_eq!((ended.deliveries, upstream.count()), (1, 3));

    for (index, sequence) in sequences.iter().enumerate() {
        let rest = told(agent.watch(&accepted.id, *sequence).await.unwrap()).await;
        assert_eq!(rest, events[index + 1..], "resumed after {sequence}");
    }
    let mut actions: Vec<_> =
        suite.trail_of(&agent).await.iter().map(proto::audit::v1::Event::action).collect();
    actions.sort_unstable();
    assert_eq!(actions, [Action::ToolInvoked, Action::RetryAttempted, Action::RetryAttempted]);
}

async fn a_watch_is_told_while_it_runs(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("lingering", upstream.url("/held"))).await;
    let accepted = agent.accepted(later("lingering", json!({}))).await;
    let mut watch = agent.watch(&accepted.id, 0).await.unwrap();
    let mut seen = Vec::new();
    while seen.last() != Some(&"RUNNING") {
        let event = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it is told").unwrap();
        seen.extend(words(&[event.expect("it goes on")]));
    }
    assert_eq!(seen, ["QUEUED", "RUNNING"]);
    upstream.wait_for_hits(1).await;
    assert_eq!(agent.execution(&accepted.id).await.status(), ExecutionStatus::Running);
    upstream.release();
    assert_eq!(words(&told(watch).await), ["SUCCEEDED"]);
}

async fn nothing_begins_before_its_time(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("appointed", upstream.url("/echo"))).await;
    let not_before = in_time(Duration::from_secs(2));
    let asked = StartExecutionRequest { not_before, priority: -7, ..later("appointed", json!({})) };
    let accepted = agent.accepted(asked).await;
    assert_eq!((accepted.status(), accepted.priority), (ExecutionStatus::Queued, -7));
    let ended = agent.ended(&accepted.id).await;
    assert_eq!(ended.status(), ExecutionStatus::Succeeded, "{ended:?}");
    let at = |time: Option<prost_types::Timestamp>| time.map(|time| (time.seconds, time.nanos / 1_000));
    assert!(at(ended.start_time) >= at(not_before), "{ended:?}");
    assert_eq!(upstream.count(), 1);

    let month = Duration::from_hours(24 * 30 + 1);
    let wrong = StartExecutionRequest {
        priority: 101,
        not_before: in_time(month),
        max_deliveries: 21,
        ..later("appointed", json!({}))
    };
    let refusal = refused(agent.start(wrong).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
    let fields: Vec<_> = refusal.violations().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["max_deliveries", "not_before", "priority"]);
}

async fn the_more_urgent_begins_first(suite: &Suite) {
    let upstream = Upstream::start().await;
    let schema = json!({"type": "object", "properties": {"who": {"type": "string"}}});
    let mut tool = HttpTool::new("crowded", upstream.url("/held")).taking(&schema);
    tool.http.query_arguments = vec!["who".into()];
    let agent = suite.agent_with(tool).await;
    let mut first = Vec::new();
    // One tool gets half of the places.
    for number in 0..suite.settings.executor.worker_pool / 2 {
        first.push(agent.accepted(later("crowded", json!({"who": number.to_string()}))).await);
    }
    upstream.wait_for_hits(first.len()).await;
    let patient = agent.accepted(later("crowded", json!({"who": "patient"}))).await;
    let urgent = StartExecutionRequest { priority: 10, ..later("crowded", json!({"who": "urgent"})) };
    let urgent = agent.accepted(urgent).await;
    let place = first.pop().unwrap();
    agent.cancel(&place.id).await.unwrap();
    upstream.wait_for_hits(first.len() + 2).await;
    assert_eq!(upstream.hits().last().unwrap().target, "/held?who=urgent");
    assert_eq!(agent.execution(&patient.id).await.status(), ExecutionStatus::Queued);
    upstream.release();
    for execution in first.iter().chain([&urgent, &patient]) {
        let ended = agent.ended(&execution.id).await;
        assert_eq!(ended.status(), ExecutionStatus::Succeeded, "{ended:?}");
    }
}

async fn the_same_start_is_one_execution(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("unique", upstream.url("/echo"))).await;
    let identified = |priority| {
        let call = ExecuteRequest { request_id: "start-1".into(), ..request("unique", json!({"n": 1})) };
        StartExecutionRequest { call: Some(call), priority, ..StartExecutionRequest::default() }
    };
    let starts = (0..10).map(|_| agent.start(identified(1)));
    let answers: Vec<_> =
        futures_util::future::join_all(starts).await.into_iter().map(Result::unwrap).collect();
    let id = answers[0].execution.clone().unwrap().id;
    assert!(answers.iter().all(|answer| answer.execution.as_ref().unwrap().id == id), "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1);
    let ended = agent.ended(&id).await;
    let again = agent.start(identified(1)).await.unwrap();
    assert_eq!((again.replayed, again.execution), (true, Some(ended)));
    let other = agent.start(identified(2)).await;
    refused(other, Code::FailedPrecondition, ErrorReason::RequestIdReused);
    assert_eq!(upstream.count(), 1);
}

async fn a_grant_that_is_gone_by_then_ends_a_queued_call(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("withdrawn", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    let grant = suite.grant(&agent, "withdrawn").await;
    let not_before = in_time(Duration::from_secs(3));
    let accepted =
        agent.accepted(StartExecutionRequest { not_before, ..later("withdrawn", json!({})) }).await;
    let revoked = RevokePermissionRequest { grant_id: grant.id };
    suite.admin.permissions().revoke_permission(revoked).await.unwrap();
    let ended = agent.ended(&accepted.id).await;
    let error = ended.error.clone().unwrap();
    assert_eq!((ended.status(), error.code()), (ExecutionStatus::Failed, ToolErrorCode::Denied), "{ended:?}");
    assert_eq!(error.reached(), Reached::No);
    assert!(error.message.contains("NO_GRANT"), "{error:?}");
    assert_eq!(upstream.connections(), 0);
    let events = suite.trail_of(&agent).await;
    let [event] = &events[..] else { panic!("not one event: {events:?}") };
    assert_eq!((&event.execution_id, event.reason.as_str()), (&ended.id, "DENIED"));
    assert_eq!(event.action(), Action::PermissionChecked, "{event:?}");
}

async fn a_queued_call_that_is_cancelled_never_begins(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("recalled", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    // Over the turn of an hour the second call would have a place of its own: then this shows nothing, and is right.
    suite.grant_with(&agent, "recalled", Grant { max_per_hour: 1, ..Grant::default() }).await;
    let not_before = in_time(Duration::from_hours(2));
    let accepted = agent.accepted(StartExecutionRequest { not_before, ..later("recalled", json!({})) }).await;
    let cancelled = agent.cancel(&accepted.id).await.unwrap();
    let error = cancelled.error.clone().unwrap();
    assert_eq!(
        (cancelled.status(), error.code(), error.reached()),
        (ExecutionStatus::Cancelled, ToolErrorCode::Cancelled, Reached::No),
        "{cancelled:?}"
    );
    assert_eq!(agent.cancel(&accepted.id).await.unwrap(), cancelled);
    let events = told(agent.watch(&accepted.id, 0).await.unwrap()).await;
    assert_eq!(words(&events), ["QUEUED", "CANCELLED"]);
    assert_eq!(upstream.connections(), 0);
    assert_eq!(suite.trail_of(&agent).await[0].action(), Action::ErrorOccurred, "no tool was invoked");
    let call =
        eventually("its place is given back", async || agent.try_call("recalled", json!({})).await.ok());
    assert_eq!(call.await.status(), ExecutionStatus::Succeeded);
}

async fn a_cancelled_call_is_cut_off_at_its_server(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("severed", upstream.url("/held"))).await;
    let accepted = agent.accepted(later("severed", json!({}))).await;
    upstream.wait_for_hits(1).await;
    agent.cancel(&accepted.id).await.unwrap();
    upstream.wait_for_cut_off(1).await;
    let ended = agent.ended(&accepted.id).await;
    let error = ended.error.clone().unwrap();
    assert_eq!(
        (ended.status(), error.code(), error.reached()),
        (ExecutionStatus::Cancelled, ToolErrorCode::Cancelled, Reached::Maybe),
        "{ended:?}"
    );
    upstream.release();
    let other = agent.call("severed", json!({})).await;
    let refusal =
        refused(agent.cancel(&other.id).await, Code::FailedPrecondition, ErrorReason::NotCancellable);
    let failure = refusal.details.precondition_failure().unwrap();
    assert_eq!((&failure.violations[0].subject, upstream.count()), (&other.id, 2));
}

async fn whoever_waits_is_told_of_the_cancelling(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("awaited", upstream.url("/held"))).await;
    let client = agent.clone();
    let call = tokio::spawn(async move { client.call("awaited", json!({})).await });
    upstream.wait_for_hits(1).await;
    let filter = ListExecutionsRequest { tool_name: "awaited".into(), ..ListExecutionsRequest::default() };
    let running = agent.executions(filter).await;
    assert_eq!((running.len(), running[0].status()), (1, ExecutionStatus::Running));
    // An operator may stop what an agent began.
    let operator = suite.member("", AgentRole::Operator).await;
    operator.cancel(&running[0].id).await.unwrap();
    let ended = call.await.unwrap();
    assert_eq!((&ended.id, ended.status()), (&running[0].id, ExecutionStatus::Cancelled), "{ended:?}");
    upstream.wait_for_cut_off(1).await;
    let events = suite.trail_of(&agent).await;
    let [event] = &events[..] else { panic!("not one event: {events:?}") };
    assert_eq!((&event.execution_id, event.reason.as_str()), (&ended.id, "CANCELLED"));
}

async fn a_cancelled_program_is_stopped(suite: &Suite) {
    if !Suite::has_python() {
        return;
    }
    let agent = suite.agent("").await;
    suite.grant(&agent, "python_sandbox").await;
    let folders = || -> usize {
        let servers = std::fs::read_dir(suite.sandbox_folder()).unwrap().flatten();
        let jobs = |path| std::fs::read_dir(path).map_or(0, |jobs| jobs.flatten().filter(is_job).count());
        servers.map(|server| jobs(server.path())).sum()
    };
    let endless = json!({"code": "print('begun', flush=True)\nwhile True: pass"});
    let accepted = agent.accepted(later("python_sandbox", endless)).await;
    let mut watch = agent.watch(&accepted.id, 0).await.unwrap();
    let line = loop {
        let event = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it speaks").unwrap();
        match event.expect("it goes on").event {
            Some(Event::Log(line)) => break line,
            Some(Event::Status(execution)) if execution.end_time.is_some() => panic!("{execution:?}"),
            _ => {}
        }
    };
    assert!(line.text.contains("begun"), "{line:?}");
    assert_eq!(folders(), 1);
    agent.cancel(&accepted.id).await.unwrap();
    let ended = agent.ended(&accepted.id).await;
    assert_eq!(ended.status(), ExecutionStatus::Cancelled, "{ended:?}");
    assert_eq!(words(&told(watch).await).last(), Some(&"CANCELLED"));
    // A program's folder goes when the program has gone.
    eventually("the program is gone", async || (folders() == 0).then_some(())).await;
}

/// Whether this is the folder of one program.
fn is_job(entry: &std::fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with("job-")
}

async fn a_cancelled_mcp_call_leaves_the_others_alone(suite: &Suite) {
    let Some(everything) = Everything::start().await else { return };
    register_http(&suite.admin, "patience", &everything).await;
    let agent = suite.agent("").await;
    let (long, echo) = ("patience.trigger-long-running-operation", "patience.echo");
    for tool in [long, echo] {
        suite.grant(&agent, tool).await;
    }
    let accepted = agent.accepted(later(long, json!({"duration": 25, "steps": 50}))).await;
    let mut watch = agent.watch(&accepted.id, 0).await.unwrap();
    let progress = loop {
        let event = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it moves").unwrap();
        match event.expect("it goes on").event {
            Some(Event::Progress(progress)) => break progress,
            Some(Event::Status(execution)) if execution.end_time.is_some() => panic!("{execution:?}"),
            _ => {}
        }
    };
    assert!(progress.progress >= 1.0 && progress.total > 49.0, "{progress:?}");
    let said = agent.call(echo, json!({"message": "meanwhile"})).await;
    assert_eq!(said.status(), ExecutionStatus::Succeeded, "{said:?}");
    agent.cancel(&accepted.id).await.unwrap();
    let ended = agent.ended(&accepted.id).await;
    assert_eq!(ended.status(), ExecutionStatus::Cancelled, "{ended:?}");
    let said = agent.call(echo, json!({"message": "still here"})).await;
    assert_eq!(result(&said)["content"][0]["text"], "Echo: still here");
}

/// That an execution does not exist for this client.
async fn is_not_there(client: &Client, id: &str) {
    let missing = |answer: Result<(), Status>| refused(answer, Code::NotFound, ErrorReason::NotFound);
    missing(client.cancel(id).await.map(drop));
    missing(client.watch(id, 0).await.map(drop));
}

async fn nobody_touches_what_is_anothers(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("private", upstream.url("/echo"))).await;
    let not_before = in_time(Duration::from_hours(2));
    let accepted = agent.accepted(StartExecutionRequest { not_before, ..later("private", json!({})) }).await;
    let id = accepted.id.as_str();
    is_not_there(&suite.agent("").await, id).await;
    is_not_there(&suite.other_team("outsiders").await, id).await;
    is_not_there(&agent, &types::new_id().to_string()).await;
    let auditor = suite.member("", AgentRole::Auditor).await;
    refused(auditor.cancel(id).await, Code::PermissionDenied, ErrorReason::RoleRequired);
    let mut watch = auditor.watch(id, 0).await.unwrap();
    let event = tokio::time::timeout(PATIENCE, watch.message()).await.expect("it is told").unwrap();
    assert_eq!(words(&[event.unwrap()]), ["QUEUED"]);
    let operator = suite.member("", AgentRole::Operator).await;
    assert_eq!(operator.cancel(id).await.unwrap().status(), ExecutionStatus::Cancelled);
    assert_eq!(words(&told(watch).await), ["CANCELLED"]);
    assert_eq!(upstream.connections(), 0);
}
