//! A policy tried on past calls, against a trail and a registry that answer by the contracts.

use std::sync::Mutex;

use ::rpc::{Link, Outgoing, ServiceError, StackOptions, TokenKey, stack, status_with_reason};
use proto::{
    audit::v1::{
        Action, Event, QueryTrailRequest, QueryTrailResponse,
        audit_service_server::{AuditService, AuditServiceServer},
    },
    registry::v1::{
        GetToolRequest, GetToolResponse, Tool, ToolDefinition,
        get_tool_request::Key,
        registry_service_server::{RegistryService, RegistryServiceServer},
    },
    types::v1 as words,
};
use secrecy::SecretString;
use serde_json::{Value, json};
use tonic::{Request, Response, Status, service::Routes};
use types::Kind;

use super::*;
use crate::{
    dry_run::{DryRun, Proposal, Report},
    put_policy::{NewPolicy, put_policy},
    store::GrantRow,
};

const MAIL: &str = r#"forbid (principal, action == Action::"call", resource)
when { resource.name == "mail.send" }
unless { context.arguments.texts.hasTag("/to") && context.arguments.texts.getTag("/to") like "*@example.com" };"#;

/// A trail, newest first, in pages of two, and how often it was asked.
#[derive(Clone, Default)]
struct Trail {
    events: Arc<Mutex<Vec<Event>>>,
    asked: Arc<Mutex<Vec<QueryTrailRequest>>>,
    /// It answers so many times, and then it is away.
    answers: Arc<Mutex<Option<usize>>>,
    /// What is older was deleted.
    available_start_time: Arc<Mutex<Option<prost_types::Timestamp>>>,
}

#[tonic::async_trait]
impl AuditService for Trail {
    async fn query_trail(
        &self,
        request: Request<QueryTrailRequest>,
    ) -> Result<Response<QueryTrailResponse>, Status> {
        let request = request.into_inner();
        let from: usize = request.page_token.parse().unwrap_or(0);
        let asked = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(request);
            asked.len()
        };
        if self.answers.lock().unwrap().is_some_and(|answers| asked > answers) {
            return Err(status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, "away"));
        }
        let events = self.events.lock().unwrap();
        let page: Vec<_> = events.iter().skip(from).take(2).cloned().collect();
        let next_page_token = if from + 2 < events.len() { (from + 2).to_string() } else { String::new() };
        Ok(Response::new(QueryTrailResponse {
            events: page,
            next_page_token,
            available_start_time: *self.available_start_time.lock().unwrap(),
        }))
    }
}

/// Knows version 1.0.0 of the tools of `mail`, with the digest "d".
struct Shelf;

#[tonic::async_trait]
impl RegistryService for Shelf {
    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        let request = request.into_inner();
        let Some(Key::Name(name)) = request.key else { panic!("asked by name") };
        if !name.starts_with("mail.") || !["", "1.0.0"].contains(&request.version.as_str()) {
            return Err(status_with_reason(Kind::NotFound, ErrorReason::ToolNotFound, "there is none"));
        }
        let definition = ToolDefinition {
            name,
            effect: words::Effect::SideEffect.into(),
            sensitivity: words::Sensitivity::Internal.into(),
            ..ToolDefinition::default()
        };
        let tool = Tool { digest: "d".into(), definition: Some(definition), ..Tool::default() };
        Ok(Response::new(GetToolResponse { tool: Some(tool) }))
    }
}

struct Place {
    database: Database,
    desk: Desk,
    trail: Trail,
    links: [Link; 2],
    outgoing: Outgoing,
}

impl Place {
    /// Of a team whose `scout` may send mail.
    async fn new(events: Vec<Event>) -> Self {
        let key = TokenKey::new(&SecretString::from("s".repeat(32)));
        let trail = Trail { events: Arc::new(Mutex::new(events)), ..Trail::default() };
        let link = |routes| stack(routes, StackOptions { key: key.clone(), max_concurrent_requests: 64 });
        let links = [
            link(Routes::new(RegistryServiceServer::new(Shelf))),
            link(Routes::new(AuditServiceServer::new(trail.clone()))),
        ];
        let database = team().await;
        let mut transaction = database.pool().unwrap().begin().await.unwrap();
        let revision = store::revision_next(&mut transaction, "t", noon()).await.unwrap();
        let grant = GrantRow::plain("t", (Some("scout".into()), None), "mail.send", ("root", noon()));
        store::grant_add(&mut transaction, "t", &grant, revision).await.unwrap();
        transaction.commit().await.unwrap();
        let outgoing = Outgoing::new("permissions", key);
        Self { desk: desk(&database), database, trail, links, outgoing }
    }

    async fn put(&self, name: &str, text: &str) {
        let new =
            NewPolicy { name: name.into(), text: text.into(), validate_only: false, expected_version: 0 };
        put_policy(&self.database, &self.desk.teams, &caller("root", Role::Admin), new, noon())
            .await
            .unwrap();
    }

    async fn run(&self, proposal: Proposal) -> Result<Report, Error> {
        let [registry, audit] = &self.links;
        let run = DryRun {
            desk: &self.desk,
            registry,
            audit,
            outgoing: &self.outgoing,
            caller: &caller("root", Role::Admin),
            time_left: Duration::from_secs(30),
        };
        run.run(proposal, noon()).await
    }

    async fn counts(&self, name: &str, text: &str) -> [i64; 4] {
        let report = self.run(proposal(name, text)).await.unwrap();
        [report.calls, report.newly_denied, report.newly_allowed, report.undecided]
    }
}

fn proposal(name: &str, text: &str) -> Proposal {
    Proposal { name: name.into(), text: text.into(), start_time: None, max_calls: 0 }
}

fn event(action: Action, agent: &str, tool: &str, arguments: &Value) -> Event {
    let id = random().to_string();
    Event {
        execution_id: format!("of {id}"),
        id,
        time: Some(prost_types::Timestamp { seconds: noon().timestamp() - 60, nanos: 0 }),
        action: action.into(),
        agent_id: agent.into(),
        tool_name: tool.into(),
        tool_version: "1.0.0".into(),
        tool_digest: "d".into(),
        arguments_json: arguments.to_string(),
        ..Event::default()
    }
}

fn sent(to: &str) -> Event {
    event(Action::ToolInvoked, "scout", "mail.send", &json!({"to": to, "body": "[redacted]"}))
}

fn refused(agent: &str, reason: &str) -> Event {
    let arguments = json!({"to": "ann@example.com"});
    Event { reason: reason.into(), ..event(Action::PermissionChecked, agent, "mail.send", &arguments) }
}

#[tokio::test]
async fn calls_that_a_forbid_would_have_denied_are_told_newest_first() {
    let outside = sent("ann@example.org");
    let cached = Event { action: Action::CacheHit.into(), ..sent("bob@example.org") };
    let failed = Event { action: Action::ErrorOccurred.into(), ..sent("carl@example.org") };
    let events = vec![
        outside.clone(),
        sent("ann@example.com"),
        failed,
        cached.clone(),
        refused("scout", "QUOTA_EXHAUSTED"),
    ];
    let place = Place::new(events).await;
    let report = place.run(proposal("mail", MAIL)).await.unwrap();
    assert_eq!((report.calls, report.newly_denied, report.newly_allowed, report.undecided), (4, 2, 0, 0));
    let told: Vec<_> = report.changed.iter().map(|changed| changed.event_id.clone()).collect();
    assert_eq!(told, [outside.id, cached.id]);
    assert!(report.changed.iter().all(|changed| changed.was_allowed && changed.policies == ["team/mail"]));
    assert_eq!(report.changed[0].execution_id, outside.execution_id);
    // Nothing was written, and the trail was asked since seven days ago.
    assert!(place.desk.teams.policies("t").await.unwrap().is_empty());
    let start = place.trail.asked.lock().unwrap()[0].start_time.unwrap();
    assert_eq!(noon().timestamp() - start.seconds, 7 * 86_400);
}

#[tokio::test]
async fn only_what_the_change_of_the_policy_does_is_counted() {
    let place =
        Place::new(vec![sent("ann@example.org"), sent("ann@example.com"), refused("writer", "NO_GRANT")])
            .await;
    place.put("mail", MAIL).await;
    assert_eq!(place.counts("mail", MAIL).await, [3, 0, 0, 0], "as it is");
    assert_eq!(place.counts("other", MAIL).await, [3, 0, 0, 0], "denied already, if asked now");
    let all = "forbid (principal, action, resource);";
    assert_eq!(place.counts("mail", all).await, [3, 1, 0, 0]);
    // A grant that is gone since then allowed these.
    let orphan = event(Action::ToolInvoked, "writer", "mail.read", &json!({}));
    place.trail.events.lock().unwrap().push(orphan);
    assert_eq!(place.counts("other", all).await, [4, 2, 0, 0]);
}

#[tokio::test]
async fn what_a_forbid_denied_would_be_allowed_without_it_as_far_as_grants_go() {
    let denied = refused("scout", "POLICY_DENIED");
    let place = Place::new(vec![denied, refused("writer", "POLICY_DENIED")]).await;
    place.put("nobody", "forbid (principal, action, resource);").await;
    assert_eq!(place.counts("nobody", "").await, [2, 0, 1, 0], "writer has no grant");
    assert_eq!(place.counts("nobody", "permit (principal, action, resource);").await, [2, 0, 2, 0]);
    let missing = place.run(proposal("nothing", "")).await.unwrap_err();
    assert_eq!(missing.kind(), Kind::NotFound);
}

#[tokio::test]
async fn what_depends_on_what_is_not_kept_is_not_decided() {
    let hidden = sent("[redacted]");
    let huge = event(
        Action::ToolInvoked,
        "scout",
        "mail.send",
        &json!({"redacted": "too large to store", "bytes": 9}),
    );
    let other = event(Action::ToolInvoked, "scout", "mail.read", &json!({"to": "[redacted]"}));
    let retired = Event { tool_digest: "older".into(), ..sent("ann@example.org") };
    let unknown = event(Action::ToolInvoked, "scout", "gone", &json!({}));
    let stranger = event(Action::ToolInvoked, "nobody", "mail.send", &json!({}));
    let place = Place::new(vec![hidden, huge, other, retired, unknown, stranger]).await;
    // Of another tool than `mail.send` the recipient is not asked for.
    assert_eq!(place.counts("mail", MAIL).await, [6, 0, 0, 5]);
    let by_user = r#"forbid (principal, action, resource) when { context.user == "ann" };"#;
    assert_eq!(place.counts("users", by_user).await, [6, 0, 0, 6]);
    // What another policy asks for does not matter where this one decides.
    place.put("users", by_user).await;
    assert_eq!(place.counts("mail", "forbid (principal, action, resource);").await, [6, 3, 0, 3]);
}

#[tokio::test]
async fn it_looks_at_no_more_calls_than_it_was_told_and_tells_at_most_a_hundred() {
    let place = Place::new((0..150).map(|_| sent("ann@example.org")).collect()).await;
    let report = place.run(Proposal { max_calls: 5, ..proposal("mail", MAIL) }).await.unwrap();
    assert_eq!((report.calls, report.newly_denied, report.changed.len()), (5, 5, 5));
    let report = place.run(proposal("mail", MAIL)).await.unwrap();
    assert_eq!((report.calls, report.newly_denied, report.changed.len()), (150, 150, 100));
    for wrong in [
        Proposal { max_calls: -1, ..proposal("mail", MAIL) },
        Proposal { max_calls: 100_001, ..proposal("mail", MAIL) },
        Proposal { start_time: Some(noon()), ..proposal("mail", MAIL) },
        proposal("No Name", MAIL),
        proposal("mail", "forbid (principal"),
    ] {
        assert_eq!(place.run(wrong).await.unwrap_err().kind(), Kind::Invalid);
    }
}

#[tokio::test]
async fn when_the_trail_goes_away_midway_what_was_looked_at_is_told_and_how_far_it_is() {
    let mut events: Vec<Event> = (0..9).map(|_| sent("ann@example.org")).collect();
    for (event, seconds) in events.iter_mut().zip(1..) {
        event.time = Some(prost_types::Timestamp { seconds: noon().timestamp() - seconds, nanos: 0 });
    }
    let place = Place::new(events).await;
    *place.trail.answers.lock().unwrap() = Some(2);
    let report = place.run(proposal("mail", MAIL)).await.unwrap();
    assert_eq!((report.calls, report.newly_denied, report.changed.len()), (4, 4, 4));
    let why = report.incomplete.unwrap();
    assert!(why.contains("audit"), "{why}");
    assert_eq!(report.oldest, Some(noon() - TimeDelta::seconds(4)));
    // All that was asked for is complete, also where there is more.
    *place.trail.answers.lock().unwrap() = None;
    for (most, calls, oldest) in [(3, 3, 3), (4, 4, 4), (0, 9, 9)] {
        let report = place.run(Proposal { max_calls: most, ..proposal("mail", MAIL) }).await.unwrap();
        assert_eq!((report.calls, report.incomplete), (calls, None));
        assert_eq!(report.oldest, Some(noon() - TimeDelta::seconds(oldest)));
    }
    let kept_since = prost_types::Timestamp { seconds: noon().timestamp() - 86_400, nanos: 0 };
    *place.trail.available_start_time.lock().unwrap() = Some(kept_since);
    let report = place.run(proposal("mail", MAIL)).await.unwrap();
    let why = report.incomplete.unwrap();
    assert!(report.calls == 9 && why.contains("2026-11-21T12:30:00Z"), "{why}");
    // Nothing was looked at: that is a failure.
    place.trail.asked.lock().unwrap().clear();
    *place.trail.answers.lock().unwrap() = Some(0);
    assert_eq!(place.run(proposal("mail", MAIL)).await.unwrap_err().kind(), Kind::Unavailable);
}

#[tokio::test]
async fn without_the_trail_nothing_is_told() {
    let mut place = Place::new(vec![sent("ann@example.org")]).await;
    place.links[1] = ::rpc::later("audit").1;
    assert_eq!(place.run(proposal("mail", MAIL)).await.unwrap_err().kind(), Kind::Unavailable);
}
