//! Calls that somebody else must approve: an agent asks over the edge, another decides there, and the call runs once, or
//! never.

use std::time::Duration;

use proto::{
    audit::v1::{Action, Result as AuditResult},
    executor::v1::{ExecuteRequest, Execution, ExecutionStatus, StartExecutionRequest, ToolErrorCode},
    permissions::v1::{
        AccessRequest, AccessRequestState, ApprovalScope, DecideAccessRequestRequest,
        GetAccessRequestRequest, Grant, ListAccessRequestsRequest, RequestAccessRequest, RevokeAccessRequest,
        Role,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{
    Client, HttpTool, Suite, Upstream, block_on,
    chaos::{Crew, Plan},
    eventually, refused, request,
};
use tonic::{Code, Status};

tests::scenarios! {
    a_call_that_waits_runs_once_after_somebody_else_approved_it,
    a_call_that_waits_goes_on_as_soon_as_somebody_decides,
    an_approval_that_is_revoked_serves_no_call_any_more,
    an_approval_serves_the_user_it_was_asked_for_alone,
    a_refused_call_can_be_made_once_it_is_approved,
    what_is_denied_or_not_decided_in_time_never_runs,
    nobody_approves_their_own_call,
    of_two_who_decide_at_once_one_does,
    without_a_grant_an_admin_may_allow_one_call,
}

fn waiting(tool: &str, arguments: Value) -> StartExecutionRequest {
    let call = ExecuteRequest { justification: "the weekly report".into(), ..request(tool, arguments) };
    StartExecutionRequest { call: Some(call), wait_for_approval: true, ..StartExecutionRequest::default() }
}

/// A new agent that may call a new tool where an operator approves each call.
async fn supervised(suite: &Suite, name: &str, upstream: &Upstream) -> Client {
    suite.register(HttpTool::new(name, upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    let limits = Grant { approver_role: Role::Operator.into(), ..Grant::default() };
    suite.grant_with(&agent, name, limits).await;
    agent
}

async fn shown(client: &Client, id: &str) -> AccessRequest {
    let request = GetAccessRequestRequest { id: id.to_owned() };
    client.permissions().get_access_request(request).await.unwrap().into_inner().access_request.unwrap()
}

/// The decision of this client on what it sees.
async fn decide(client: &Client, request: &AccessRequest, approve: bool) -> Result<AccessRequest, Status> {
    let request = DecideAccessRequestRequest {
        id: request.id.clone(),
        approve,
        scope: ApprovalScope::Once.into(),
        reason: "looked at".into(),
        arguments_digest: request.arguments_digest.clone(),
        ..DecideAccessRequestRequest::default()
    };
    let decided = client.permissions().decide_access_request(request).await?;
    Ok(decided.into_inner().access_request.unwrap())
}

async fn accepted(agent: &Client, call: StartExecutionRequest) -> Execution {
    let execution = agent.accepted(call).await;
    assert_eq!(execution.status(), ExecutionStatus::WaitingForApproval, "{execution:?}");
    execution
}

async fn a_call_that_waits_runs_once_after_somebody_else_approved_it(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "supervised", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    let execution =
        accepted(&agent, waiting("supervised", json!({"n": 1, "password": "hunter2-secret"}))).await;
    let pending = ListAccessRequestsRequest {
        state: AccessRequestState::Pending.into(),
        agent_id: agent.agent.clone(),
        ..ListAccessRequestsRequest::default()
    };
    let listed =
        operator.permissions().list_access_requests(pending).await.unwrap().into_inner().access_requests;
    assert_eq!(listed.len(), 1);
    let asked = &listed[0];
    assert_eq!((&asked.id, &asked.execution_id), (&execution.access_request_id, &execution.id));
    assert_eq!((asked.justification.as_str(), asked.approver_role()), ("the weekly report", Role::Operator));
    assert!(!asked.arguments_json.contains("hunter2"), "{asked:?}");
    assert_eq!(
        (&asked.arguments_digest, &asked.tool_digest),
        (&execution.arguments_digest, &execution.tool_digest)
    );
    assert_eq!(upstream.count(), 0);

    let decided = decide(&operator, asked, true).await.unwrap();
    assert_eq!((decided.state(), &decided.decided_by), (AccessRequestState::Approved, &operator.agent));
    let ended = agent.ended(&execution.id).await;
    assert_eq!((ended.status(), upstream.count()), (ExecutionStatus::Succeeded, 1), "{ended:?}");
    eventually("the approval is used", async || {
        let now = shown(&agent, &asked.id).await;
        (now.state() == AccessRequestState::Used).then_some(())
    })
    .await;
    // It was for one call.
    let call = request("supervised", json!({"n": 1, "password": "hunter2-secret"}));
    refused(agent.execute(call).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    let trail = suite.trail_of(&operator).await;
    let told = trail.iter().find(|event| event.action() == Action::AccessDecided);
    assert_eq!(told.map(proto::audit::v1::Event::result), Some(AuditResult::Success), "{trail:?}");
    assert_eq!(upstream.count(), 1);
}

async fn a_call_that_waits_goes_on_as_soon_as_somebody_decides(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "prompt", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    for (n, approve) in [(1, true), (2, false)] {
        let execution = accepted(&agent, waiting("prompt", json!({ "n": n }))).await;
        // Nobody looks at it by himself: only that the decision is heard lets it go on.
        sqlx::query("UPDATE executor.awaiting SET look_time = 'infinity' WHERE id = $1")
            .bind(execution.id.parse::<uuid::Uuid>().unwrap())
            .execute(suite.database().pool().unwrap())
            .await
            .unwrap();
        let asked = shown(&operator, &execution.access_request_id).await;
        let decided = decide(&operator, &asked, approve).await.unwrap();
        let ended = agent.ended(&execution.id).await;
        let expected = if approve { ExecutionStatus::Succeeded } else { ExecutionStatus::Failed };
        assert_eq!(ended.status(), expected, "{ended:?}");
        let ms = |at: Option<prost_types::Timestamp>| {
            at.map(|at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000)
        };
        let after = ms(ended.end_time).unwrap() - ms(decided.decide_time).unwrap();
        assert!(after < 2_000, "{after} ms after the decision");
    }
    assert_eq!(upstream.count(), 1);
}

async fn an_approval_that_is_revoked_serves_no_call_any_more(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "revocable", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    let execution = accepted(&agent, waiting("revocable", json!({"n": 1}))).await;
    let asked = shown(&operator, &execution.access_request_id).await;
    let revoke = async |client: &Client, reason: &str| {
        let request = RevokeAccessRequest { id: asked.id.clone(), reason: reason.into() };
        client.permissions().revoke_access(request).await
    };
    let refusal = refused(revoke(&operator, "no").await, Code::FailedPrecondition, ErrorReason::NotApproved);
    assert!(refusal.message.contains("waits for a decision"), "{refusal:?}");
    let decision = DecideAccessRequestRequest {
        id: asked.id.clone(),
        approve: true,
        scope: ApprovalScope::Tool.into(),
        arguments_digest: asked.arguments_digest.clone(),
        ..DecideAccessRequestRequest::default()
    };
    operator.permissions().decide_access_request(decision).await.unwrap();
    assert_eq!(agent.ended(&execution.id).await.status(), ExecutionStatus::Succeeded);
    let call = |n: i64| request("revocable", json!({ "n": n }));
    assert_eq!(agent.execute(call(2)).await.unwrap().execution.unwrap().status(), ExecutionStatus::Succeeded);
    refused(revoke(&agent, "no").await, Code::PermissionDenied, ErrorReason::RoleRequired);
    let revoked = revoke(&operator, "a mistake").await.unwrap().into_inner().access_request.unwrap();
    assert_eq!((revoked.state(), &revoked.revoked_by), (AccessRequestState::Revoked, &operator.agent));
    eventually("it is known everywhere", async || agent.execute(call(3)).await.err()).await;
    let made = upstream.count();
    refused(agent.execute(call(3)).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    // What waits now waits for a decision of its own.
    let next = accepted(&agent, waiting("revocable", json!({"n": 4}))).await;
    assert_ne!(next.access_request_id, asked.id);
    let refusal =
        refused(revoke(&operator, "again").await, Code::FailedPrecondition, ErrorReason::AlreadyDecided);
    assert!(refusal.message.contains("a mistake"), "{refusal:?}");
    assert_eq!(upstream.count(), made);
    let filter = proto::audit::v1::QueryTrailRequest {
        action: Action::AccessDecided.into(),
        agent_id: operator.agent.clone(),
        ..Default::default()
    };
    eventually("the trail tells of it", async || {
        let trail = suite.trail(filter.clone()).await;
        trail.iter().any(|event| event.message.contains("revoked: a mistake")).then_some(())
    })
    .await;
}

async fn an_approval_serves_the_user_it_was_asked_for_alone(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "personal", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    let (ann, bob) = (agent.with_header("on-behalf-of", "ann"), agent.with_header("on-behalf-of", "bob"));
    let call = || request("personal", json!({"n": 1}));
    for client in [&ann, &bob, &agent] {
        refused(client.execute(call()).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    }
    let pending =
        ListAccessRequestsRequest { agent_id: agent.agent.clone(), ..ListAccessRequestsRequest::default() };
    let listed =
        operator.permissions().list_access_requests(pending).await.unwrap().into_inner().access_requests;
    let users: Vec<&str> = listed.iter().map(|asked| asked.user.as_str()).collect();
    assert_eq!(users, ["", "bob", "ann"], "one request each");
    decide(&operator, &listed[2], true).await.unwrap();
    for client in [&bob, &agent] {
        refused(client.execute(call()).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    }
    let made = eventually("the approval is known", async || ann.execute(call()).await.ok()).await;
    assert_eq!(made.execution.unwrap().status(), ExecutionStatus::Succeeded);
    assert_eq!(upstream.count(), 1);
}

async fn a_refused_call_can_be_made_once_it_is_approved(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "questioned", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    let call = || request("questioned", json!({"n": 1}));
    let refusal = refused(agent.execute(call()).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    let id = refusal.metadata("access_request_id").to_owned();
    assert!(!id.is_empty());
    decide(&operator, &shown(&operator, &id).await, true).await.unwrap();
    // Other arguments are not what was approved.
    let other = agent.execute(request("questioned", json!({"n": 2}))).await;
    let other = refused(other, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    assert_ne!(other.metadata("access_request_id"), id);
    let made = eventually("the approval is known", async || agent.execute(call()).await.ok()).await;
    assert_eq!(made.execution.unwrap().status(), ExecutionStatus::Succeeded);
    refused(agent.execute(call()).await, Code::PermissionDenied, ErrorReason::ApprovalRequired);
    assert_eq!(upstream.count(), 1);
}

async fn what_is_denied_or_not_decided_in_time_never_runs(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "unwanted", &upstream).await;
    let operator = suite.member("", Role::Operator).await;
    let denied = accepted(&agent, waiting("unwanted", json!({"n": 1}))).await;
    let late = accepted(&agent, waiting("unwanted", json!({"n": 2}))).await;
    let cancelled = accepted(&agent, waiting("unwanted", json!({"n": 3}))).await;
    decide(&operator, &shown(&operator, &denied.access_request_id).await, false).await.unwrap();
    let past = "UPDATE permissions.access_request SET expire_time = now() WHERE request_id = $1::uuid";
    let database = suite.database();
    sqlx::query(past).bind(&late.access_request_id).execute(database.pool().unwrap()).await.unwrap();
    assert_eq!(agent.cancel(&cancelled.id).await.unwrap().status(), ExecutionStatus::Cancelled);
    for (execution, why) in [(&denied, "looked at"), (&late, "nobody decided")] {
        let ended = agent.ended(&execution.id).await;
        let error = ended.error.clone().unwrap();
        assert_eq!(
            (ended.status(), error.code()),
            (ExecutionStatus::Failed, ToolErrorCode::Denied),
            "{ended:?}"
        );
        assert!(error.message.contains("APPROVAL_DENIED") && error.message.contains(why), "{error:?}");
    }
    // Cancelled before, it does not run after.
    decide(&operator, &shown(&operator, &cancelled.access_request_id).await, true).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(
        (agent.execution(&cancelled.id).await.status(), upstream.count()),
        (ExecutionStatus::Cancelled, 0)
    );
}

async fn nobody_approves_their_own_call(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("own", upstream.url("/echo"))).await;
    let admin = suite.member("", Role::Admin).await;
    let limits = Grant { approver_role: Role::Operator.into(), ..Grant::default() };
    suite.grant_with(&admin, "own", limits).await;
    let execution = accepted(&admin, waiting("own", json!({}))).await;
    let asked = shown(&admin, &execution.access_request_id).await;
    for approve in [true, false] {
        let decided = decide(&admin, &asked, approve).await;
        refused(decided, Code::PermissionDenied, ErrorReason::OwnRequest);
    }
    // Nor does one whose role is not that of an approver, whether it may see it or not.
    let auditor = suite.member("", Role::Auditor).await;
    let refusal =
        refused(decide(&auditor, &asked, true).await, Code::PermissionDenied, ErrorReason::RoleRequired);
    assert!(refusal.message.contains("operator"), "{refusal:?}");
    let unseen = AccessRequest { arguments_digest: "0".repeat(64), ..asked.clone() };
    let operator = suite.member("", Role::Operator).await;
    refused(decide(&operator, &unseen, true).await, Code::FailedPrecondition, ErrorReason::DigestMismatch);
    assert_eq!(shown(&admin, &asked.id).await.state(), AccessRequestState::Pending);
    assert_eq!(upstream.count(), 0);
    decide(&operator, &asked, true).await.unwrap();
    assert_eq!(admin.ended(&execution.id).await.status(), ExecutionStatus::Succeeded);
}

async fn of_two_who_decide_at_once_one_does(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = supervised(suite, "disputed", &upstream).await;
    let (first, second) = (suite.member("", Role::Operator).await, suite.member("", Role::Admin).await);
    for n in 0..5 {
        let before = upstream.count();
        let execution = accepted(&agent, waiting("disputed", json!({ "n": n }))).await;
        let asked = shown(&first, &execution.access_request_id).await;
        let answers = tokio::join!(decide(&first, &asked, true), decide(&second, &asked, false));
        let (won, lost) = match answers {
            (Ok(won), lost) => (won, lost),
            (lost, won) => (won.unwrap(), lost),
        };
        let refusal = refused(lost, Code::FailedPrecondition, ErrorReason::AlreadyDecided);
        assert!(refusal.message.contains(&won.decided_by), "{refusal:?}");
        let ended = agent.ended(&execution.id).await;
        let (status, calls) = match won.state() {
            AccessRequestState::Denied => (ExecutionStatus::Failed, 0),
            _ => (ExecutionStatus::Succeeded, 1),
        };
        assert_eq!((ended.status(), upstream.count() - before), (status, calls), "{ended:?}");
    }
}

async fn without_a_grant_an_admin_may_allow_one_call(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("ungranted", upstream.url("/echo"))).await;
    let (agent, other) = (suite.agent("").await, suite.agent("").await);
    let operator = suite.member("", Role::Operator).await;
    let call = || request("ungranted", json!({"n": 1}));
    refused(agent.execute(call()).await, Code::PermissionDenied, ErrorReason::NoGrant);
    let asked = RequestAccessRequest {
        tool_name: "ungranted".into(),
        arguments_json: json!({"n": 1}).to_string(),
        justification: "once".into(),
        ..RequestAccessRequest::default()
    };
    let asked = agent.permissions().request_access(asked).await.unwrap().into_inner().access_request.unwrap();
    assert_eq!(asked.approver_role(), Role::Admin);
    refused(decide(&operator, &asked, true).await, Code::PermissionDenied, ErrorReason::RoleRequired);
    decide(&suite.admin, &asked, true).await.unwrap();
    refused(other.execute(call()).await, Code::PermissionDenied, ErrorReason::NoGrant);
    let made = eventually("the approval is known", async || agent.execute(call()).await.ok()).await;
    assert_eq!(made.execution.unwrap().status(), ExecutionStatus::Succeeded);
    refused(agent.execute(call()).await, Code::PermissionDenied, ErrorReason::NoGrant);
    assert_eq!(upstream.count(), 1);
}

/// Real processes: those that accepted the calls are killed while they wait, and others run them.
#[test]
fn calls_that_wait_outlive_the_executor_that_accepted_them() {
    block_on(async {
        let crew = Crew::start(&Plan { executors: 2, ..Plan::default() }).await;
        let upstream = Upstream::start().await;
        crew.admin.register(HttpTool::new("durable", upstream.url("/echo"))).await;
        let limits = Grant { approver_role: Role::Operator.into(), ..Grant::default() };
        let doors = crew.agent("worker", &["durable"], &limits).await;
        let mut waiting_for = Vec::new();
        for n in 0..10 {
            waiting_for.push(accepted(&doors[0], waiting("durable", json!({ "n": n }))).await);
        }
        crew.executors[0].kill();
        for execution in &waiting_for {
            let asked = shown(&crew.admin, &execution.access_request_id).await;
            decide(&crew.admin, &asked, true).await.unwrap();
        }
        for execution in &waiting_for {
            let ended = doors[1].ended(&execution.id).await;
            assert_eq!((ended.status(), ended.deliveries), (ExecutionStatus::Succeeded, 1), "{ended:?}");
        }
        // Back again, it finds nothing left to do.
        crew.executors[0].start();
        crew.executors[0].wait_until_serving().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(upstream.count(), 10);
        assert_eq!(crew.number("SELECT count(*) FROM executor.awaiting").await, 0);
    });
}
