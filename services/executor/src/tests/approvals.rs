//! Calls that need an approval: refused with the access request that is made for them, or waiting for it in the
//! database, whatever process dies, until somebody decides.

use ::rpc::{ErrorReason, reason_of};
use proto::{
    executor::v1::{
        CancelExecutionRequest, ExecuteRequest, Execution, ExecutionStatus, StartExecutionRequest,
        ToolErrorCode, WatchExecutionRequest, watch_execution_response::Event,
    },
    permissions::v1::{AccessRequestState, WatchAccessRequestsResponse},
};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    fakes::{Fakes, Mood},
    house::{House, TEAM, posting, request, until},
    queue::{get, later, start},
    upstream::Upstream,
};

const ARGUMENTS: &str = r#"{"password":"hunter2-secret","to":"ops"}"#;

fn waiting(arguments: &str) -> StartExecutionRequest {
    let call = ExecuteRequest { justification: "the weekly report".into(), ..request("tool", arguments) };
    StartExecutionRequest { call: Some(call), wait_for_approval: true, ..StartExecutionRequest::default() }
}

/// A house whose every call needs an approval, with one tool.
async fn strict() -> (House, Upstream) {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.fakes.ask_for_approvals();
    (house, upstream)
}

async fn accepted(house: &House, request: StartExecutionRequest) -> Execution {
    let execution = start(house, request).await.unwrap().execution.unwrap();
    assert_eq!(execution.status(), ExecutionStatus::WaitingForApproval);
    execution
}

/// The decision of somebody, as permissions tells it from then on.
fn approve(fakes: &Fakes) {
    fakes.decide(|request| {
        request.set_state(AccessRequestState::Approved);
        request.decided_by = "root".into();
    });
    *fakes.denial.lock().unwrap() = None;
}

async fn until_ended(house: &House, id: &str) -> Execution {
    let waits = [ExecutionStatus::WaitingForApproval, ExecutionStatus::Queued, ExecutionStatus::Running];
    until(async || !waits.contains(&get(house, id).await.status())).await;
    get(house, id).await
}

#[tokio::test]
async fn a_call_that_does_not_wait_is_refused_with_the_access_request_made_for_it() {
    let (house, upstream) = strict().await;
    let call = ExecuteRequest { justification: "because".into(), ..request("tool", ARGUMENTS) };
    let refused = house.execute(call.clone()).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason_of(&refused)),
        (Code::PermissionDenied, Some(ErrorReason::ApprovalRequired))
    );
    let made = house.fakes.access.lock().unwrap().clone();
    let (asked, access_request) = &made[0];
    let metadata = refused.get_error_details().error_info().unwrap().metadata.clone();
    assert_eq!(metadata["access_request_id"], access_request.id);
    assert!(
        refused.message().contains(&access_request.id) && refused.message().contains("operator"),
        "{refused}"
    );
    assert_eq!((asked.tool_name.as_str(), asked.justification.as_str()), ("tool", "because"));
    assert_eq!((asked.tool_digest.as_str(), asked.execution_id.as_str()), ("d".repeat(64).as_str(), ""));
    assert!(asked.arguments_json.contains("ops") && !asked.arguments_json.contains("hunter2"), "{asked:?}");
    let arguments: serde_json::Value = serde_json::from_str(ARGUMENTS).unwrap();
    assert_eq!(asked.arguments_digest, types::digest_json(&arguments).unwrap());
    // Nor is one accepted that would run later; and the same call has the same access request.
    let later = StartExecutionRequest { call: Some(call), ..StartExecutionRequest::default() };
    let again = start(&house, later).await.unwrap_err();
    assert_eq!(again.get_error_details().error_info().unwrap().metadata, metadata);
    assert_eq!((house.statuses().await.len(), upstream.hits()), (0, 0));
    until(async || house.fakes.trail().len() == 2).await;
    assert!(house.fakes.settled().is_empty());
}

#[tokio::test]
async fn where_no_access_request_can_be_made_the_call_is_refused_all_the_same() {
    let (house, upstream) = strict().await;
    Fakes::set(&house.fakes.permissions, Mood::Down);
    let refused = start(&house, waiting("{}")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!((house.statuses().await.len(), upstream.hits()), (0, 0));
}

#[tokio::test]
async fn a_call_that_waits_runs_once_it_is_approved_and_says_so_to_who_watches() {
    let (house, upstream) = strict().await;
    let execution = accepted(&house, waiting(ARGUMENTS)).await;
    let made = house.fakes.access.lock().unwrap()[0].clone();
    assert_eq!((&execution.access_request_id, &made.0.execution_id), (&made.1.id, &execution.id));
    assert!(execution.decision_id.is_empty() && execution.asynchronous && execution.start_time.is_none());
    let kept = house.texts("SELECT encode(payload, 'escape') FROM executor.awaiting").await;
    assert!(kept.len() == 1 && !kept[0].contains("hunter2"), "it is sealed");

    let watch = WatchExecutionRequest { id: execution.id.clone(), after_sequence: 0 };
    let mut stream = house.client.clone().watch_execution(house.as_agent(watch)).await.unwrap().into_inner();
    // It is looked at, and waits on.
    let asked = || house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed);
    until(async || asked() >= 2).await;
    assert_eq!((get(&house, &execution.id).await.status(), upstream.hits()), (execution.status(), 0));
    approve(&house.fakes);
    let ended = until_ended(&house, &execution.id).await;
    assert_eq!((ended.status(), ended.deliveries), (ExecutionStatus::Succeeded, 1));
    assert_eq!((ended.decision_id.as_str(), ended.access_request_id), (ended.id.as_str(), made.1.id));
    assert_eq!((upstream.hits(), upstream.seen()[0].body.as_str()), (1, ARGUMENTS));
    let mut statuses = Vec::new();
    while let Some(event) = stream.next().await {
        if let Some(Event::Status(execution)) = event.unwrap().event {
            statuses.push(execution.status());
        }
    }
    assert_eq!((statuses[0], *statuses.last().unwrap()), (execution.status(), ExecutionStatus::Succeeded));
    assert!(statuses.contains(&ExecutionStatus::Queued), "{statuses:?}");
    until(async || house.fakes.settled().len() == 1).await;
    assert_eq!(house.fakes.settled(), [(execution.id, true)]);
    let left = "SELECT (SELECT count(*) FROM executor.awaiting) + (SELECT count(*) FROM executor.job)";
    assert_eq!(house.number(left).await, 0);
}

/// Nobody looks at what waits, unless told to.
async fn look_never_again(house: &House) {
    sqlx::query("UPDATE executor.awaiting SET look_time = 'infinity'")
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
}

/// A decision, as permissions tells it to whoever watches.
fn told(access_request: &str, (agent, tool): (&str, &str)) -> WatchAccessRequestsResponse {
    WatchAccessRequestsResponse {
        access_request_id: access_request.to_owned(),
        team_id: TEAM.to_owned(),
        revision: 7,
        agent_id: agent.to_owned(),
        tool_name: tool.to_owned(),
    }
}

#[tokio::test]
async fn a_decision_is_heard_and_the_call_is_looked_at_at_once() {
    let (house, upstream) = strict().await;
    let execution = accepted(&house, waiting("{}")).await;
    look_never_again(&house).await;
    until(async || house.fakes.watchers() == 1).await;
    // That the stream lives, and what is decided for others, is no reason to look.
    let other = types::new_id().to_string();
    for told in
        [WatchAccessRequestsResponse::default(), told(&other, ("", "")), told(&other, ("nobody", "tool"))]
    {
        house.fakes.tell(told);
    }
    let of_another = WatchAccessRequestsResponse {
        team_id: "another".into(),
        ..told(&execution.access_request_id, ("", ""))
    };
    house.fakes.tell(of_another);
    approve(&house.fakes);
    let before = house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed);
    house.fakes.tell(told(&execution.access_request_id, ("", "")));
    assert_eq!(until_ended(&house, &execution.id).await.status(), ExecutionStatus::Succeeded);
    assert_eq!(upstream.hits(), 1);
    // When it was looked at, and when it was run.
    let asked = house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed) - before;
    assert_eq!(asked, 2);
    assert!(
        house.fakes.revisions.lock().unwrap().contains(&7),
        "the decision is known where it is asked for"
    );
}

#[tokio::test]
async fn an_approval_for_more_than_one_call_lets_all_of_the_agent_and_the_tool_go_on() {
    let (house, upstream) = strict().await;
    let mut waiting_for = Vec::new();
    for n in 0..250 {
        waiting_for.push(accepted(&house, waiting(&format!(r#"{{"n":{n}}}"#))).await);
    }
    look_never_again(&house).await;
    until(async || house.fakes.watchers() == 1).await;
    *house.fakes.denial.lock().unwrap() = None;
    let agent = waiting_for[0].agent_id.as_str();
    house.fakes.tell(told(&waiting_for[9].access_request_id, (agent, "tool")));
    house.until_all("succeeded").await;
    assert_eq!(upstream.hits(), 250);
}

#[tokio::test]
async fn decisions_are_heard_again_once_permissions_is_back_and_asked_for_meanwhile() {
    let (house, upstream) = strict().await;
    until(async || house.fakes.watchers() == 1).await;
    let first = accepted(&house, waiting("{}")).await;
    // All streams end.
    *house.fakes.decisions.lock().unwrap() = tokio::sync::broadcast::Sender::new(64);
    approve(&house.fakes);
    assert_eq!(until_ended(&house, &first.id).await.status(), ExecutionStatus::Succeeded, "it is found");
    house.fakes.ask_for_approvals();
    let second = accepted(&house, waiting(r#"{"n":2}"#)).await;
    look_never_again(&house).await;
    until(async || house.fakes.watchers() == 1).await;
    approve(&house.fakes);
    house.fakes.tell(told(&second.access_request_id, ("", "")));
    assert_eq!(until_ended(&house, &second.id).await.status(), ExecutionStatus::Succeeded, "it is heard");
    assert_eq!(upstream.hits(), 2);
}

#[tokio::test]
async fn a_denial_and_the_end_of_the_time_end_the_call_with_the_reason() {
    for (state, by, expected) in [
        (AccessRequestState::Denied, "root", "APPROVAL_DENIED: \"root\" denied access request"),
        (AccessRequestState::Expired, "", "nobody decided access request"),
    ] {
        let (house, upstream) = strict().await;
        let execution = accepted(&house, waiting("{}")).await;
        house.fakes.decide(|request| {
            request.set_state(state);
            request.decided_by = by.into();
            request.decision_reason = "too much".into();
        });
        let ended = until_ended(&house, &execution.id).await;
        let error = ended.error.unwrap();
        assert_eq!((ended.status, error.code()), (ExecutionStatus::Failed as i32, ToolErrorCode::Denied));
        assert!(error.message.contains(expected), "{error:?}");
        assert!(by.is_empty() || error.message.contains("too much"), "{error:?}");
        until(async || house.fakes.trail().len() == 1).await;
        assert_eq!((upstream.hits(), house.number("SELECT count(*) FROM executor.awaiting").await), (0, 0));
        assert!(house.fakes.settled().is_empty() && house.fakes.outcomes.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_served_another_call_is_asked_for_anew() {
    let (house, upstream) = strict().await;
    let execution = accepted(&house, waiting("{}")).await;
    house.fakes.decide(|request| request.set_state(AccessRequestState::Used));
    until(async || get(&house, &execution.id).await.access_request_id != execution.access_request_id).await;
    let made = house.fakes.access.lock().unwrap().clone();
    assert_eq!((made.len(), &made[1].0.execution_id), (2, &execution.id));
    assert_eq!(made[1].0.justification, "the weekly report");
    approve(&house.fakes);
    assert_eq!(until_ended(&house, &execution.id).await.status(), ExecutionStatus::Succeeded);
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test]
async fn a_call_that_waits_can_be_cancelled_and_then_never_runs() {
    let (house, upstream) = strict().await;
    let execution = accepted(&house, waiting("{}")).await;
    let cancel = CancelExecutionRequest { id: execution.id.clone() };
    let cancelled = house.client.clone().cancel_execution(house.as_agent(cancel)).await.unwrap().into_inner();
    assert_eq!(cancelled.execution.unwrap().status(), ExecutionStatus::Cancelled);
    approve(&house.fakes);
    until(async || house.number("SELECT count(*) FROM executor.awaiting").await == 0).await;
    assert_eq!((get(&house, &execution.id).await.status(), upstream.hits()), (ExecutionStatus::Cancelled, 0));
}

#[tokio::test]
async fn the_same_request_waits_once_and_one_that_does_not_wait_is_another() {
    let (house, _upstream) = strict().await;
    let named = |wait_for_approval| {
        let call = ExecuteRequest { request_id: "r".into(), ..request("tool", "{}") };
        StartExecutionRequest { call: Some(call), wait_for_approval, ..StartExecutionRequest::default() }
    };
    let first = accepted(&house, named(true)).await;
    let again = start(&house, named(true)).await.unwrap();
    assert!(again.replayed && again.execution.unwrap().id == first.id);
    let other = start(&house, named(false)).await.unwrap_err();
    assert_eq!(reason_of(&other), Some(ErrorReason::RequestIdReused));
    assert_eq!(house.number("SELECT count(*) FROM executor.awaiting").await, 1);
}

#[tokio::test]
async fn several_processes_look_and_it_runs_once() {
    let (first, upstream) = strict().await;
    let houses: Vec<House> =
        (0..2).map(|_| House::on(&first.database, first.fakes.clone(), |_| {})).collect();
    for house in &houses {
        house.add(posting("tool", &upstream.url));
    }
    for n in 0..20 {
        accepted(&first, waiting(&format!(r#"{{"n":{n}}}"#))).await;
    }
    // The process that accepted them goes.
    first.begin_stop().await;
    *first.fakes.denial.lock().unwrap() = None;
    houses[0].until_all("succeeded").await;
    assert_eq!(upstream.hits(), 20);
    until(async || first.fakes.settled().len() == 20).await;
}

#[tokio::test]
async fn a_call_that_needs_no_approval_does_not_wait() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let started = start(&house, waiting("{}")).await.unwrap().execution.unwrap();
    assert_eq!((started.status(), started.access_request_id.as_str()), (ExecutionStatus::Queued, ""));
    house.until_all("succeeded").await;
    assert!(house.fakes.access.lock().unwrap().is_empty());
    // What is not said to wait does not either.
    start(&house, later("tool", "{}")).await.unwrap();
    house.until_all("succeeded").await;
}
