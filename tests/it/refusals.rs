//! What is refused, how that reads, and that it is recorded.

use node::config::Role;
use proto::{
    audit::v1::{Action, AppendEventsRequest, Event, Result as AuditResult},
    executor::v1::{ExecuteRequest, ExecuteResponse, GetExecutionRequest, execute_request::Input},
    permissions::v1::{
        AuthenticateRequest, AuthorizeRequest, BatchSettleReservationsRequest, CreateAgentRequest,
        RevokeApiKeyRequest, Role as AgentRole, SettleReservationRequest, WhoAmIRequest,
    },
    registry::v1::{ListServersRequest, RegisterToolRequest, SetToolStatusRequest},
    selector::v1::RecordOutcomesRequest,
};
use rpc::{CALLER_HEADER, ErrorReason, TokenKey};
use serde_json::json;
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused, request};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;
use types::Caller;

tests::scenarios! {
    arguments_are_refused_with_every_violation,
    a_request_is_refused_with_every_violation,
    an_unknown_tool_is_refused_with_the_nearest_names,
    an_unknown_method_is_unimplemented,
    a_message_above_4_mib_is_refused,
    no_bad_key_is_told_from_another,
    what_services_tell_each_other_is_closed_to_everyone_else,
    a_role_opens_no_more_than_its_own,
    a_forged_caller_is_nobody,
    a_call_outlives_its_callers_patience,
}

async fn arguments_are_refused_with_every_violation(suite: &Suite) {
    let agent = suite.agent("Technical Executor").await;
    let arguments = json!({"code": 7, "timeout_s": 0, "hunter2": true});
    let wrong = ExecuteRequest { task_id: "job-2".into(), ..request("python_sandbox", arguments) };
    let refusal = refused(agent.execute(wrong).await, Code::InvalidArgument, ErrorReason::InvalidArguments);
    let violations = refusal.violations();
    let fields: Vec<_> = violations.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, ["arguments", "arguments/code", "arguments/timeout_s"], "{violations:?}");
    assert!(violations[1].1.contains("string") && violations[2].1.contains("minimum"), "{violations:?}");

    let not_json = ExecuteRequest {
        input: Some(Input::ArgumentsJson("{\"code\": ".into())),
        task_id: "job-2".into(),
        ..request("python_sandbox", json!({}))
    };
    let refusal =
        refused(agent.execute(not_json).await, Code::InvalidArgument, ErrorReason::InvalidArguments);
    assert!(refusal.violations()[0].1.contains("not JSON"), "{refusal:?}");

    let events = suite.trail_of(&agent).await;
    assert_eq!(events.len(), 2, "{events:?}");
    for event in &events {
        assert_eq!(
            (event.action(), event.result()),
            (Action::ErrorOccurred, AuditResult::Failure),
            "{event:?}"
        );
        assert_eq!(
            (event.reason.as_str(), event.tool_name.as_str()),
            ("INVALID_ARGUMENTS", "python_sandbox")
        );
        assert_eq!((event.execution_id.as_str(), event.tool_digest.len()), ("", 64), "{event:?}");
        assert_eq!((event.task_id.as_str(), event.trace_id.len()), ("job-2", 32), "{event:?}");
    }
    assert_eq!(suite.count("executor.execution", &format!("agent_id = '{}'", agent.agent)).await, 0);
}

async fn a_request_is_refused_with_every_violation(suite: &Suite) {
    let wrong = ExecuteRequest {
        task_id: "../elsewhere".into(),
        timeout_ms: -1,
        request_id: "x".repeat(129),
        ..request("", json!({}))
    };
    let refusal =
        refused(suite.admin.execute(wrong).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
    let fields: Vec<_> = refusal.violations().iter().map(|(field, _)| (*field).to_owned()).collect();
    assert_eq!(fields, ["request_id", "task_id", "timeout_ms", "tool"]);
    let unknown = GetExecutionRequest { id: types::new_id().to_string() };
    refused(suite.admin.executor().get_execution(unknown).await, Code::NotFound, ErrorReason::NotFound);
    let nothing = RegisterToolRequest::default();
    let refusal = refused(
        suite.admin.registry().register_tool(nothing).await,
        Code::InvalidArgument,
        ErrorReason::InvalidRequest,
    );
    assert!(refusal.violations().len() >= 4, "{refusal:?}");
}

async fn an_unknown_tool_is_refused_with_the_nearest_names(suite: &Suite) {
    let agent = suite.agent("Technical Executor").await;
    let answer = agent.try_call("python_sandbx", json!({})).await;
    let refusal = refused(answer, Code::NotFound, ErrorReason::ToolNotFound);
    assert!(refusal.metadata("nearest").starts_with("python_sandbox"), "{refusal:?}");
    assert!(refusal.message.contains("did you mean python_sandbox"), "{refusal:?}");
    let events = suite.trail_of(&agent).await;
    let [event] = &events[..] else { panic!("not one event: {events:?}") };
    assert_eq!((event.action(), event.reason.as_str()), (Action::ErrorOccurred, "TOOL_NOT_FOUND"));
    assert_eq!(event.tool_name, "python_sandbx");
}

async fn an_unknown_method_is_unimplemented(suite: &Suite) {
    for path in ["/toolcrib.executor.v1.ExecutorService/Nothing", "/nowhere.v1.Nobody/Nothing", "/"] {
        let answer = raw(&suite.admin, path).await;
        refused(answer, Code::Unimplemented, ErrorReason::UnknownMethod);
    }
}

async fn raw(client: &Client, path: &'static str) -> Result<tonic::Response<ExecuteResponse>, Status> {
    let mut grpc = Grpc::new(client.service());
    grpc.ready().await.unwrap();
    let codec = ProstCodec::<ExecuteRequest, ExecuteResponse>::default();
    grpc.unary(Request::new(ExecuteRequest::default()), PathAndQuery::from_static(path), codec).await
}

async fn a_message_above_4_mib_is_refused(suite: &Suite) {
    let agent = suite.agent("Technical Executor").await;
    let too_large = json!({"code": "#".repeat(4 << 20)});
    let answer = agent.try_call("python_sandbox", too_large).await;
    refused(answer, Code::ResourceExhausted, ErrorReason::MessageTooLarge);
    let large = json!({"code": "#".repeat(4_000_000)});
    let answer = agent.try_call("python_sandbox", large).await;
    refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
}

async fn no_bad_key_is_told_from_another(suite: &Suite) {
    let agent = suite.agent("Researcher").await;
    let (revoked, key_id) = suite.issue_key(&agent.agent).await;
    suite.admin.permissions().revoke_api_key(RevokeApiKeyRequest { key_id }).await.unwrap();
    let (kept, checksum) = agent.key.rsplit_once('_').unwrap();
    let swapped: String = kept.chars().rev().collect();
    let stranger = suite.stranger();
    let bad = [
        stranger.clone(),
        stranger.with_key("", ""),
        stranger.with_key("", "nonsense"),
        stranger.with_key("", &format!("{kept}_00000000")),
        stranger.with_key("", &format!("{swapped}_{checksum}")),
        stranger.with_key("", &revoked),
        stranger.with_header("authorization", &format!("Basic {}", agent.key)),
        stranger.with_header("x-api-key", "nonsense"),
    ];
    let mut answers = Vec::new();
    for client in &bad {
        let status = client.permissions().who_am_i(WhoAmIRequest {}).await.unwrap_err();
        refused(Err::<(), _>(status.clone()), Code::Unauthenticated, ErrorReason::Unauthenticated);
        answers.push((status.message().to_owned(), status.details().to_vec()));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");

    for good in [agent.clone(), stranger.with_header("x-api-key", &agent.key)] {
        let known = good.permissions().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!((known.agent_id, known.specialization), (agent.agent.clone(), "Researcher".to_owned()));
    }
}

async fn what_services_tell_each_other_is_closed_to_everyone_else(suite: &Suite) {
    let admin = &suite.admin;
    let closed = |answer| refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
    closed(admin.audit().append_events(forged_events()).await.map(drop));
    closed(admin.permissions().authorize(AuthorizeRequest::default()).await.map(drop));
    closed(admin.permissions().settle_reservation(SettleReservationRequest::default()).await.map(drop));
    let ends = BatchSettleReservationsRequest::default();
    closed(admin.permissions().batch_settle_reservations(ends).await.map(drop));
    closed(admin.selector().record_outcomes(RecordOutcomesRequest::default()).await.map(drop));
    let presented = AuthenticateRequest { credential: admin.key.clone(), ..AuthenticateRequest::default() };
    closed(admin.permissions().authenticate(presented).await.map(drop));
}

fn forged_events() -> AppendEventsRequest {
    let event = Event { id: types::new_id().to_string(), agent_id: "forged".into(), ..Event::default() };
    AppendEventsRequest { events: vec![event] }
}

async fn a_role_opens_no_more_than_its_own(suite: &Suite) {
    let closed = |answer| refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
    let operator = suite.member("", AgentRole::Operator).await;
    operator.registry().list_servers(ListServersRequest {}).await.unwrap();
    closed(operator.permissions().create_agent(CreateAgentRequest::default()).await.map(drop));
    let agent = suite.agent("").await;
    for client in [&agent, &suite.member("", AgentRole::Auditor).await] {
        closed(client.registry().list_servers(ListServersRequest {}).await.map(drop));
        closed(client.registry().register_tool(RegisterToolRequest::default()).await.map(drop));
        closed(client.registry().set_tool_status(SetToolStatusRequest::default()).await.map(drop));
        closed(client.permissions().create_agent(CreateAgentRequest::default()).await.map(drop));
    }
}

async fn a_forged_caller_is_nobody(suite: &Suite) {
    let agent = suite.agent("Researcher").await;
    // Signed with the very key of the suite: the edge takes no caller's word for who it is.
    let key = TokenKey::new(suite.settings.security.caller_token_key.as_ref().unwrap());
    for caller in [suite_admin(&suite.admin), Caller::service("executor")] {
        let forged = key.mint(&caller).unwrap();
        let forging = agent.with_header(CALLER_HEADER, &forged);
        let known = forging.permissions().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!(known.agent_id, agent.agent);
        let answer = forging.audit().append_events(forged_events()).await;
        refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
        let unknown = suite.stranger().with_header(CALLER_HEADER, &forged);
        let answer = unknown.permissions().who_am_i(WhoAmIRequest {}).await;
        refused(answer, Code::Unauthenticated, ErrorReason::Unauthenticated);
    }
    if suite.mode == Mode::Split {
        no_port_but_the_edge_takes_keys(suite).await;
    }
}

fn suite_admin(admin: &Client) -> Caller {
    Caller {
        team: "crew".into(),
        agent: admin.agent.clone(),
        role: types::Role::Admin,
        ..Caller::service("")
    }
}

async fn no_port_but_the_edge_takes_keys(suite: &Suite) {
    let (_, address) = suite.addresses.iter().find(|(role, _)| *role == Role::Permissions).unwrap();
    let direct = Client::new(*address).with_key(&suite.admin.agent, &suite.admin.key);
    let answer = direct.permissions().who_am_i(WhoAmIRequest {}).await;
    refused(answer, Code::Unauthenticated, ErrorReason::Unauthenticated);
    let other = TokenKey::new(&"another secret of thirty-two bytes".to_owned().into());
    let forged = direct.with_header(CALLER_HEADER, &other.mint(&Caller::service("executor")).unwrap());
    let answer = forged.permissions().who_am_i(WhoAmIRequest {}).await;
    refused(answer, Code::Unauthenticated, ErrorReason::Unauthenticated);
}

async fn a_call_outlives_its_callers_patience(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("unhurried", upstream.url("/held"))).await;
    let (client, asked) = (agent.clone(), request("unhurried", json!({})));
    let call = tokio::spawn(async move { client.execute(asked).await });
    upstream.wait_for_hits(1).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    upstream.release();
    let event =
        eventually("the abandoned call is recorded", async || suite.trail_of(&agent).await.pop()).await;
    assert_eq!((event.action(), event.result()), (Action::ToolInvoked, AuditResult::Success), "{event:?}");
    let execution = agent.execution(&event.execution_id).await;
    assert_eq!(tests::result(&execution), json!({"held": true}));
}
