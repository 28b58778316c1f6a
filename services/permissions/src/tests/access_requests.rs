//! Access requests: who may ask, see and decide; that the first decision stands; and that what was approved allows
//! exactly that, for as long as it says.

use ::rpc::{Link, Outgoing, PageKey, ServiceError, StackOptions, TokenKey, stack, status_with_reason};
use proto::{
    permissions::v1 as wire,
    registry::v1::{
        GetToolRequest, GetToolResponse, Tool, ToolDefinition,
        get_tool_request::Key,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
};
use secrecy::SecretString;
use serde_json::json;
use tonic::{Request, Response, Status, service::Routes};
use types::Kind;

use super::*;
use crate::{
    access_requests::{self, NewAccessRequest, Registry, Verdict, sweep},
    authorize::ArgumentsText,
    store::{AccessRequestFilter, AccessRequestRow, GrantRow},
};

const TOOL: &str = "python_sandbox";

/// A registry with one tool, whose definition may change.
#[derive(Clone, Default)]
struct Shelf(Arc<std::sync::Mutex<String>>);

#[tonic::async_trait]
impl RegistryService for Shelf {
    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        let Some(Key::Name(name)) = request.into_inner().key else { panic!("asked by name") };
        if name != TOOL {
            return Err(status_with_reason(Kind::NotFound, ErrorReason::ToolNotFound, "there is none"));
        }
        let schema = json!({"properties": {"pin": {"writeOnly": true}}});
        let definition =
            ToolDefinition { name, input_schema_json: schema.to_string(), ..ToolDefinition::default() };
        let digest = self.0.lock().unwrap().clone();
        let tool = Tool { digest, definition: Some(definition), ..Tool::default() };
        Ok(Response::new(GetToolResponse { tool: Some(tool) }))
    }
}

struct Place {
    database: Database,
    desk: Desk,
    shelf: Shelf,
    link: Link,
    outgoing: Outgoing,
    pages: PageKey,
}

impl Place {
    async fn new() -> Self {
        let secret = SecretString::from("s".repeat(32));
        let (shelf, key) = (Shelf::default(), TokenKey::new(&secret));
        *shelf.0.lock().unwrap() = "d".into();
        let routes = Routes::new(RegistryServiceServer::new(shelf.clone()));
        let link = stack(routes, StackOptions { key: key.clone(), max_concurrent_requests: 64 });
        let database = team().await;
        let outgoing = Outgoing::new("permissions", key);
        Self { desk: desk(&database), database, shelf, link, outgoing, pages: PageKey::new(&secret) }
    }

    fn registry(&self) -> Registry<'_> {
        Registry { link: &self.link, outgoing: &self.outgoing }
    }

    async fn ask(&self, caller: &Caller, new: NewAccessRequest) -> Result<AccessRequestRow, Error> {
        self.ask_at(caller, new, noon()).await
    }

    async fn ask_at(
        &self,
        caller: &Caller,
        new: NewAccessRequest,
        now: DateTime<Utc>,
    ) -> Result<AccessRequestRow, Error> {
        access_requests::request((&self.database, &self.desk, self.registry()), caller, new, now).await
    }

    async fn decide(&self, caller: &Caller, verdict: Verdict) -> Result<AccessRequestRow, Error> {
        let parts = (&self.database, &*self.desk.teams, self.registry());
        access_requests::decide(parts, caller, verdict, noon()).await.map(|(row, _)| row)
    }

    async fn get(&self, caller: &Caller, id: Uuid, now: DateTime<Utc>) -> Result<AccessRequestRow, Error> {
        access_requests::get(&self.database, caller, id, now).await
    }

    /// A request of scout for these arguments, decided in this way by root.
    async fn approved(&self, arguments: &serde_json::Value, scope: wire::ApprovalScope) -> AccessRequestRow {
        let request = self.ask(&scout(), wanted(arguments)).await.unwrap();
        self.decide(&root(), Verdict { scope, ..approval(&request) }).await.unwrap()
    }

    /// Lets scout call the tool with the approval of this role, where the arguments meet this.
    async fn give(&self, approver_role: Role, conditions: Vec<wire::ArgumentCondition>) {
        let grant = GrantRow::plain("t", (Some("scout".into()), None), TOOL, ("root", noon()));
        let conditions = crate::condition::parse("conditions", conditions).unwrap();
        let grant = GrantRow { approver_role: Some(approver_role), conditions, ..grant };
        let mut connection = self.database.pool().unwrap().acquire().await.unwrap();
        let revision = store::revision_next(&mut connection, "t", noon()).await.unwrap();
        store::grant_add(&mut connection, "t", &grant, revision).await.unwrap();
        self.desk.teams.changed("t", revision);
    }

    async fn decided_on(&self, arguments: &serde_json::Value) -> Option<ErrorReason> {
        self.desk.authorize(&call(arguments), noon()).await.unwrap().reason
    }

    async fn events(&self) -> i64 {
        let count = "SELECT count(*) FROM permissions.outbox";
        sqlx::query_scalar(count).fetch_one(self.database.pool().unwrap()).await.unwrap()
    }
}

fn scout() -> Caller {
    Caller { user: "ann".into(), ..caller("scout", Role::Agent) }
}

fn root() -> Caller {
    caller("root", Role::Admin)
}

fn operator() -> Caller {
    caller("oper", Role::Operator)
}

fn wanted(arguments: &serde_json::Value) -> NewAccessRequest {
    NewAccessRequest {
        tool_name: TOOL.into(),
        arguments_json: arguments.to_string(),
        justification: "the report".into(),
        ..NewAccessRequest::default()
    }
}

fn approval(request: &AccessRequestRow) -> Verdict {
    Verdict {
        id: request.request_id,
        approve: true,
        scope: wire::ApprovalScope::Once,
        conditions: Vec::new(),
        ttl_s: 0,
        reason: "agreed".into(),
        arguments_digest: request.arguments_digest.clone(),
    }
}

fn denial(request: &AccessRequestRow) -> Verdict {
    Verdict { approve: false, reason: "no need".into(), ..approval(request) }
}

/// A call of scout.
fn call(arguments: &serde_json::Value) -> Asked {
    Asked {
        arguments: ArgumentsText::from(arguments.to_string()),
        arguments_digest: types::digest_json(arguments).unwrap(),
        ..asked("scout")
    }
}

fn within(folder: &str) -> wire::ArgumentCondition {
    let folders = wire::TextSet { values: vec![folder.into()] };
    let test = Some(wire::argument_condition::Test::Within(folders));
    wire::ArgumentCondition { pointer: "/path".into(), test }
}

fn refusal<T: std::fmt::Debug>(answer: Result<T, Error>) -> (Kind, ErrorReason) {
    let error = answer.unwrap_err();
    (error.kind(), error.reason())
}

#[tokio::test]
async fn the_same_open_request_is_one_and_keeps_no_secret() {
    let place = Place::new().await;
    let arguments = json!({"to": "ops", "pin": 1234, "password": "hunter2"});
    let first = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_eq!(
        (first.state.as_str(), first.approver_role.as_str(), first.is_grant),
        ("pending", "admin", true)
    );
    assert_eq!((first.end_user.as_str(), first.tool_digest.as_str()), ("ann", "d"));
    assert_eq!(first.arguments_digest, types::digest_json(&arguments).unwrap());
    assert!(first.arguments_json.contains("ops"), "{}", first.arguments_json);
    assert!(!first.arguments_json.contains("hunter2") && !first.arguments_json.contains("1234"));
    let again = NewAccessRequest { justification: "another reason".into(), ..wanted(&arguments) };
    assert_eq!(place.ask(&scout(), again).await.unwrap(), first);
    let for_another = Caller { user: "bob".into(), ..scout() };
    let second = caller("second", Role::Agent);
    for (caller, arguments) in [(&for_another, &arguments), (&second, &arguments), (&scout(), &json!({}))] {
        assert_ne!(place.ask(caller, wanted(arguments)).await.unwrap().request_id, first.request_id);
    }
    // Once it is decided, or its time is over, the same call is asked for anew.
    place.decide(&root(), denial(&first)).await.unwrap();
    let anew = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_ne!(anew.request_id, first.request_id);
    let later = place.ask_at(&scout(), wanted(&arguments), noon() + TimeDelta::days(2)).await.unwrap();
    assert_ne!(later.request_id, anew.request_id);
    assert_eq!(place.get(&scout(), anew.request_id, noon()).await.unwrap().state, "expired");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_refused_by_its_field() {
    let place = Place::new().await;
    let sound = || wanted(&json!({}));
    for (wrong, expected) in [
        (NewAccessRequest { tool_name: "no such".into(), ..sound() }, "tool_name"),
        (NewAccessRequest { justification: " ".into(), ..sound() }, "justification"),
        (NewAccessRequest { justification: "x".repeat(1_001), ..sound() }, "justification"),
        (NewAccessRequest { arguments_json: "[]".into(), ..sound() }, "arguments_json"),
        (NewAccessRequest { arguments_json: "{".into(), ..sound() }, "arguments_json"),
        (NewAccessRequest { arguments_digest: "a".repeat(64), ..sound() }, "arguments_digest"),
        (NewAccessRequest { execution_id: Some(random()), ..sound() }, "execution_id"),
        (NewAccessRequest { approver_role: Some(Role::Agent), ..sound() }, "approver_role"),
        (NewAccessRequest { ttl_s: -1, ..sound() }, "ttl_s"),
        (NewAccessRequest { ttl_s: 604_801, ..sound() }, "ttl_s"),
    ] {
        match place.ask(&scout(), wrong).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let unknown = NewAccessRequest { tool_name: "unknown".into(), ..sound() };
    assert_eq!(refusal(place.ask(&scout(), unknown).await), (Kind::NotFound, ErrorReason::NotFound));
    let changed = NewAccessRequest { tool_digest: "before".into(), ..sound() };
    let expected = (Kind::Precondition, ErrorReason::DigestMismatch);
    assert_eq!(refusal(place.ask(&scout(), changed).await), expected);
    let longest = NewAccessRequest { ttl_s: 604_800, justification: "x".repeat(1_000), ..sound() };
    assert_eq!(place.ask(&scout(), longest).await.unwrap().expire_time, noon() + TimeDelta::days(7));
    // What is allowed needs no approval, and what an approval does not lift is not asked for.
    grant(&place.database, to_agent("second"), 0).await;
    let allowed = place.ask(&caller("second", Role::Agent), sound()).await;
    assert_eq!(refusal(allowed), (Kind::Invalid, ErrorReason::InvalidRequest));
    disable(&place.database, "writer").await;
    let disabled = place.ask(&caller("writer", Role::Agent), sound()).await;
    assert_eq!(refusal(disabled), (Kind::Denied, ErrorReason::AgentDisabled));
}

#[tokio::test]
async fn so_many_of_an_agent_wait_and_no_more() {
    let place = Place::new().await;
    for n in 0..100 {
        place.ask(&scout(), wanted(&json!({ "n": n }))).await.unwrap();
    }
    let more = async || place.ask(&scout(), wanted(&json!({"n": "more"}))).await;
    assert_eq!(refusal(more().await), (Kind::Exhausted, ErrorReason::Overloaded));
    // One that is open is answered, and others may ask.
    let open = place.ask(&scout(), wanted(&json!({"n": 0}))).await.unwrap();
    place.ask(&caller("second", Role::Agent), wanted(&json!({}))).await.unwrap();
    place.decide(&root(), denial(&open)).await.unwrap();
    more().await.unwrap();
}

#[tokio::test]
async fn agents_see_their_own_and_auditors_all_of_their_team() {
    let place = Place::new().await;
    let own = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let other = place.ask(&caller("second", Role::Agent), wanted(&json!({}))).await.unwrap();
    let auditor = caller("auditor", Role::Auditor);
    place.get(&scout(), own.request_id, noon()).await.unwrap();
    place.get(&auditor, own.request_id, noon()).await.unwrap();
    let hidden = (Kind::NotFound, ErrorReason::NotFound);
    assert_eq!(refusal(place.get(&scout(), other.request_id, noon()).await), hidden);
    let stranger = Caller { team: "u".into(), ..root() };
    assert_eq!(refusal(place.get(&stranger, own.request_id, noon()).await), hidden);
    let list = async |caller: &Caller, filter: AccessRequestFilter, page: (i32, &str)| {
        let listed = access_requests::list(&place.database, &place.pages, caller, filter, page, noon());
        let (rows, next) = listed.await.unwrap();
        (rows.into_iter().map(|row| row.request_id).collect::<Vec<_>>(), next)
    };
    let all = AccessRequestFilter::default;
    assert_eq!(list(&scout(), all(), (0, "")).await.0, [own.request_id]);
    assert_eq!(list(&auditor, all(), (0, "")).await.0, [other.request_id, own.request_id]);
    assert!(list(&stranger, all(), (0, "")).await.0.is_empty());
    let of_other = AccessRequestFilter { agent_id: Some("second".into()), ..all() };
    assert!(list(&scout(), of_other.clone(), (0, "")).await.0.is_empty());
    assert_eq!(list(&auditor, of_other, (0, "")).await.0, [other.request_id]);
    let (first, next) = list(&auditor, all(), (1, "")).await;
    assert_eq!(
        (first, list(&auditor, all(), (1, &next)).await.0),
        (vec![other.request_id], vec![own.request_id])
    );
    place.decide(&root(), denial(&own)).await.unwrap();
    let pending = AccessRequestFilter { state: Some("pending".into()), ..all() };
    assert_eq!(list(&auditor, pending, (0, "")).await.0, [other.request_id]);
}

#[tokio::test]
async fn nobody_decides_their_own_nor_above_their_role_nor_what_they_did_not_see() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let as_admin = Caller { role: Role::Admin, ..scout() };
    let request = place.ask(&as_admin, wanted(&json!({}))).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    let own = (Kind::Denied, ErrorReason::OwnRequest);
    for decider in [
        as_admin.clone(),
        Caller { user: "ann".into(), ..root() },
        caller("ann", Role::Admin),
        Caller { user: "scout".into(), ..root() },
    ] {
        assert_eq!(refusal(place.decide(&decider, approval(&request)).await), own, "{decider:?}");
        assert_eq!(refusal(place.decide(&decider, denial(&request)).await), own, "{decider:?}");
    }
    let error = place.decide(&caller("auditor", Role::Auditor), approval(&request)).await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (Kind::Denied, ErrorReason::RoleRequired));
    assert!(error.public_message().contains("operator"), "{error}");
    let mismatch = (Kind::Precondition, ErrorReason::DigestMismatch);
    for digest in ["", &"0".repeat(64)] {
        let unseen = Verdict { arguments_digest: digest.into(), ..approval(&request) };
        assert_eq!(refusal(place.decide(&operator(), unseen).await), mismatch);
    }
    let invalid = (Kind::Invalid, ErrorReason::InvalidRequest);
    for wrong in [
        Verdict { reason: " ".into(), ..denial(&request) },
        Verdict { scope: wire::ApprovalScope::Unspecified, ..approval(&request) },
        Verdict { scope: wire::ApprovalScope::Arguments, ..approval(&request) },
        Verdict { conditions: vec![within("/a")], ..approval(&request) },
        Verdict { ttl_s: -1, ..approval(&request) },
        Verdict { ttl_s: 7_776_001, ..approval(&request) },
        Verdict { reason: "x".repeat(1_001), ..approval(&request) },
    ] {
        assert_eq!(refusal(place.decide(&operator(), wrong.clone()).await), invalid, "{wrong:?}");
    }
    // What serves by now is not what was asked for.
    *place.shelf.0.lock().unwrap() = "e".into();
    assert_eq!(refusal(place.decide(&operator(), approval(&request)).await), mismatch);
    *place.shelf.0.lock().unwrap() = "d".into();
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap(), request, "nothing was decided");
    let late = noon() + TimeDelta::days(1);
    let parts = (&place.database, &*place.desk.teams, place.registry());
    let late = access_requests::decide(parts, &operator(), approval(&request), late).await;
    assert_eq!(refusal(late), (Kind::Precondition, ErrorReason::ApprovalDenied));
    place.decide(&operator(), approval(&request)).await.unwrap();
}

#[tokio::test]
async fn the_first_decision_stands_also_when_many_decide_at_once() {
    let place = Place::new().await;
    let request = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let before = place.events().await;
    let deciders: Vec<Caller> = (0..8).map(|n| caller(&format!("admin-{n}"), Role::Admin)).collect();
    let deciding = deciders.iter().enumerate().map(|(n, decider)| {
        let verdict = if n % 2 == 0 { approval(&request) } else { denial(&request) };
        place.decide(decider, verdict)
    });
    let answers = futures(deciding).await;
    let won: Vec<&AccessRequestRow> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
    assert_eq!(won.len(), 1);
    let first = won[0].decided_by.clone().unwrap();
    for lost in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert_eq!((lost.kind(), lost.reason()), (Kind::Precondition, ErrorReason::AlreadyDecided));
        let message = lost.public_message();
        assert!(message.contains(&first) && message.contains("2026-11-22T12:30:00Z"), "{message}");
    }
    let denied_later = place.decide(&root(), denial(&request)).await;
    assert_eq!(refusal(denied_later), (Kind::Precondition, ErrorReason::AlreadyDecided));
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap(), *won[0]);
    assert_eq!(place.events().await, before + 1, "one decision is told of");
}

async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = all.map(Box::pin).collect();
    let mut done: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut is_over = true;
        for (future, answer) in waiting.iter_mut().zip(&mut done) {
            if answer.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *answer = Some(value),
                    std::task::Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

#[tokio::test]
async fn an_approval_for_one_call_serves_one_execution_whoever_asks_and_how_often() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let (arguments, required) = (json!({"n": 1}), Some(ErrorReason::ApprovalRequired));
    let denied = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!((denied.reason, denied.approver_role), (required, Some(Role::Operator)));
    let request = place.approved(&arguments, wire::ApprovalScope::Once).await;
    // For these arguments and this definition alone.
    assert_eq!(place.decided_on(&json!({"n": 2})).await, required);
    let other = Asked { tool_digest: "e".into(), ..call(&arguments) };
    assert_eq!(place.desk.authorize(&other, noon()).await.unwrap().reason, required);
    let late = place.desk.authorize(&call(&arguments), noon() + hour()).await.unwrap();
    assert_eq!(late.reason, required, "an approval ends when it says");
    // Twenty at once over two processes.
    let another = desk(&place.database);
    let calls: Vec<Asked> = (0..20).map(|_| call(&arguments)).collect();
    let asking = calls.iter().enumerate().map(|(n, call)| {
        let desk = if n % 2 == 0 { &place.desk } else { &another };
        desk.authorize(call, noon())
    });
    let answers: Vec<Decision> = futures(asking).await.into_iter().map(Result::unwrap).collect();
    let allowed: Vec<usize> = (0..20).filter(|n| answers[*n].reason.is_none()).collect();
    assert_eq!(allowed.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|answer| answer.reason.is_none() || answer.reason == required));
    let (served, decision) = (&calls[allowed[0]], &answers[allowed[0]]);
    assert_eq!((decision.approval_id, decision.reserved), (Some(request.request_id), true));
    let again = another.authorize(served, noon()).await.unwrap();
    assert_eq!((again.reason, again.id), (None, decision.id), "the same execution again");
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "used");
    // What was not made after all gives its place back.
    settle(&place.database, "t", decision.id, false).await.unwrap();
    assert_eq!(place.get(&root(), request.request_id, noon()).await.unwrap().state, "approved");
    let next = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!(next.reason, None);
    settle(&place.database, "t", next.id, true).await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, required);
    let before = place.events().await;
    for expected in [1, 0] {
        assert_eq!(sweep(&place.database, &place.desk.teams, noon()).await.unwrap(), expected);
    }
    assert_eq!(place.events().await, before + 1);
    assert_eq!(place.get(&root(), request.request_id, noon() + hour()).await.unwrap().state, "used");
    // Asked for anew, it can be approved anew.
    place.approved(&arguments, wire::ApprovalScope::Once).await;
    assert_eq!(place.decided_on(&arguments).await, None);
}

#[tokio::test]
async fn an_approval_for_more_than_one_call_covers_what_it_says() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let (required, here) = (Some(ErrorReason::ApprovalRequired), json!({"path": "/reports/a.csv"}));
    let request = place.ask(&scout(), wanted(&here)).await.unwrap();
    let scope = wire::ApprovalScope::Arguments;
    let verdict = Verdict { scope, conditions: vec![within("/reports")], ttl_s: 60, ..approval(&request) };
    place.decide(&operator(), verdict).await.unwrap();
    for (arguments, expected) in [
        (here, None),
        (json!({"path": "/reports/b.csv", "n": 1}), None),
        (json!({"path": "/reports/../etc/passwd"}), required),
        (json!({"path": ["/reports/a.csv"]}), required),
        (json!({}), required),
    ] {
        for _ in 0..2 {
            assert_eq!(place.decided_on(&arguments).await, expected, "{arguments}");
        }
    }
    let late = call(&json!({"path": "/reports/a.csv"}));
    let late = place.desk.authorize(&late, noon() + TimeDelta::seconds(60)).await.unwrap();
    assert_eq!(late.reason, required);
    place.approved(&json!({"any": 1}), wire::ApprovalScope::Tool).await;
    for arguments in [json!({}), json!({"path": "/etc/passwd"})] {
        assert_eq!(place.decided_on(&arguments).await, None);
    }
    let by_another = Asked { agent: "second".into(), ..call(&json!({})) };
    let denied = place.desk.authorize(&by_another, noon()).await.unwrap();
    assert_eq!(denied.reason, Some(ErrorReason::NoGrant), "it is for who asked alone");
}

#[tokio::test]
async fn an_approval_lifts_what_its_role_may_lift_and_no_more() {
    let place = Place::new().await;
    place.give(Role::Operator, vec![within("/reports")]).await;
    let outside = json!({"path": "/etc/passwd"});
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ArgumentCondition));
    // The grant does not allow it, with or without an approval: an admin may.
    let request = place.ask(&scout(), wanted(&outside)).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("admin", true));
    let refused = place.decide(&operator(), approval(&request)).await;
    assert_eq!(refusal(refused), (Kind::Denied, ErrorReason::RoleRequired));
    place.decide(&root(), approval(&request)).await.unwrap();
    let allowed = place.desk.authorize(&call(&outside), noon()).await.unwrap();
    assert_eq!((allowed.reason, allowed.grant_id), (None, None));
    assert_eq!(allowed.approval_id, Some(request.request_id));
    // An operator's approval serves no grant that asks for an admin's.
    let inside = json!({"path": "/reports/a.csv"});
    let request = place.ask(&scout(), wanted(&inside)).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    let verdict = Verdict { scope: wire::ApprovalScope::Tool, ..approval(&request) };
    place.decide(&operator(), verdict).await.unwrap();
    assert_eq!(place.decided_on(&inside).await, None);
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ArgumentCondition));
    place.give(Role::Admin, Vec::new()).await;
    assert_eq!(place.decided_on(&outside).await, Some(ErrorReason::ApprovalRequired));
}

#[tokio::test]
async fn where_no_grant_is_an_admins_approval_allows_and_nothing_else_does() {
    let place = Place::new().await;
    let arguments = json!({"n": 1});
    assert_eq!(place.decided_on(&arguments).await, Some(ErrorReason::NoGrant));
    let request = place.approved(&arguments, wire::ApprovalScope::Tool).await;
    let allowed = place.desk.authorize(&call(&arguments), noon()).await.unwrap();
    assert_eq!((allowed.reason, allowed.approval_id), (None, Some(request.request_id)));
    // What serves is answered, and not asked for again.
    let again = place.ask(&scout(), wanted(&json!({"n": 2}))).await.unwrap();
    assert_eq!((again.request_id, again.state.as_str()), (request.request_id, "approved"));
    disable(&place.database, "scout").await;
    assert_eq!(place.decided_on(&arguments).await, Some(ErrorReason::AgentDisabled));
}

#[tokio::test]
async fn a_service_asks_with_what_it_was_told_and_the_role_holds() {
    let place = Place::new().await;
    place.give(Role::Operator, Vec::new()).await;
    let arguments = json!({"password": "hunter2"});
    let executor = scout().through("executor");
    let new = NewAccessRequest {
        tool_digest: "d".into(),
        arguments_json: r#"{"password":"[redacted]"}"#.into(),
        arguments_digest: types::digest_json(&arguments).unwrap(),
        justification: String::new(),
        execution_id: Some(random()),
        approver_role: Some(Role::Operator),
        ..wanted(&json!({}))
    };
    for (wrong, expected) in [
        (NewAccessRequest { tool_digest: String::new(), ..new.clone() }, "tool_digest"),
        (NewAccessRequest { arguments_digest: "x".into(), ..new.clone() }, "arguments_digest"),
    ] {
        match place.ask(&executor, wrong).await {
            Err(Error::Invalid { field, .. }) => assert_eq!(field, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    let request = place.ask(&executor, new.clone()).await.unwrap();
    assert_eq!((request.approver_role.as_str(), request.is_grant), ("operator", false));
    assert_eq!((&request.agent_id, request.execution_id), (&"scout".to_owned(), new.execution_id));
    // The agent itself asks for the same, and says why.
    let own = place.ask(&scout(), wanted(&arguments)).await.unwrap();
    assert_eq!((own.request_id, own.justification.as_str()), (request.request_id, "the report"));
    place.decide(&operator(), approval(&request)).await.unwrap();
    assert_eq!(place.decided_on(&arguments).await, None);
}

#[tokio::test]
async fn what_is_over_ends_once_whoever_looks() {
    let place = Place::new().await;
    let waiting = place.ask(&scout(), wanted(&json!({}))).await.unwrap();
    let approved = place.approved(&json!({"n": 1}), wire::ApprovalScope::Tool).await;
    let before = place.events().await;
    let (late, another) = (noon() + TimeDelta::days(1), Teams::new(&place.database));
    let sweeps = [&*place.desk.teams, &another].into_iter().map(|teams| sweep(&place.database, teams, late));
    let ended: usize = futures(sweeps).await.into_iter().map(Result::unwrap).sum();
    assert_eq!((ended, place.events().await), (2, before + 2));
    assert_eq!(sweep(&place.database, &another, late).await.unwrap(), 0);
    for id in [waiting.request_id, approved.request_id] {
        assert_eq!(place.get(&root(), id, noon()).await.unwrap().state, "expired");
    }
}
