//! What the trail is told: with the change or not at all, at least once, and no more than it can bear.

use std::sync::Mutex;

use ::rpc::{Link, Outgoing, StackOptions, TokenKey, stack};
use proto::audit::v1::{
    AppendEventsRequest, AppendEventsResponse, Event,
    audit_service_server::{AuditService, AuditServiceServer},
};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, service::Routes};

use super::*;
use crate::{
    failed_authentications::{FailedAuthentications, Failure},
    trail::{self, Action},
};

/// An audit service that keeps what it takes, once it is there.
#[derive(Clone, Default)]
struct Audit {
    events: Arc<Mutex<Vec<Event>>>,
    is_away: Arc<std::sync::atomic::AtomicBool>,
}

#[tonic::async_trait]
impl AuditService for Audit {
    async fn append_events(
        &self,
        request: Request<AppendEventsRequest>,
    ) -> Result<Response<AppendEventsResponse>, Status> {
        if self.is_away.load(std::sync::atomic::Ordering::Acquire) {
            return Err(Status::unavailable("away"));
        }
        self.events.lock().unwrap().extend(request.into_inner().events);
        Ok(Response::new(AppendEventsResponse::default()))
    }
}

impl Audit {
    fn link(&self) -> (Link, Outgoing) {
        let key = TokenKey::new(&SecretString::from("s".repeat(32)));
        let routes = Routes::new(AuditServiceServer::new(self.clone()));
        let link = stack(routes, StackOptions { key: key.clone(), max_concurrent_requests: 16 });
        (link, Outgoing::new("permissions", key))
    }

    /// Waits until so many came of changes that the test made.
    async fn wait_for(&self, count: usize) -> Vec<Event> {
        let wait = async {
            loop {
                let mut events = self.events.lock().unwrap().clone();
                events.retain(|event| event.action() == Action::PermissionChanged);
                if events.len() >= count {
                    return events;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("events come")
    }
}

async fn record(database: &Database, message: &str, commit: bool) {
    let mut transaction = database.pool().unwrap().begin().await.unwrap();
    let event = trail::event(Action::PermissionChanged, &caller("root", Role::Admin), message);
    trail::record(&mut transaction, &event).await.unwrap();
    if commit { transaction.commit().await.unwrap() } else { transaction.rollback().await.unwrap() }
}

#[tokio::test]
async fn an_event_is_told_with_its_change_once_the_audit_service_is_there() {
    let (database, audit, stop) = (team().await, Audit::default(), CancellationToken::new());
    audit.is_away.store(true, std::sync::atomic::Ordering::Release);
    let (link, outgoing) = audit.link();
    let relay = tokio::spawn(trail::relay(database.clone(), link, outgoing, stop.clone()));
    record(&database, "undone", false).await;
    for number in 0..600 {
        record(&database, &format!("change {number}"), true).await;
    }
    assert!(audit.events.lock().unwrap().is_empty());
    audit.is_away.store(false, std::sync::atomic::Ordering::Release);
    let events = audit.wait_for(600).await;
    assert_eq!(events.len(), 600);
    let first = &events[0];
    assert_eq!((first.team_id.as_str(), first.agent_id.as_str()), ("t", "root"));
    assert_eq!((first.action(), first.message.as_str()), (Action::PermissionChanged, "change 0"));
    assert!(events.iter().all(|event| event.message.starts_with("change")));
    stop.cancel();
    relay.await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM permissions.outbox")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[test]
fn an_event_says_for_whom_and_is_no_longer_than_a_page() {
    let root = Caller { user: "jane@example.com".into(), ..caller("root", Role::Admin) };
    let event = trail::event(Action::IdentityChanged, &root, "agent x was made");
    assert_eq!((event.message.as_str(), event.user.as_str()), ("agent x was made", "jane@example.com"));
    let event = trail::event(Action::IdentityChanged, &root, "ä".repeat(10_000));
    assert_eq!(event.message.chars().count(), 2_000);
}

fn failure(team: &str, credential: &str) -> Failure {
    Failure {
        team: team.into(),
        agent: "scout".into(),
        cause: "expired",
        credential: credential.into(),
        peer: "203.0.113.9".into(),
    }
}

/// What was written of failures.
async fn written(database: &Database) -> Vec<Event> {
    use prost::Message;
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT payload FROM permissions.outbox ORDER BY id")
        .fetch_all(database.pool().unwrap())
        .await
        .unwrap();
    let events = rows.iter().map(|row| Event::decode(row.as_slice()).unwrap());
    events.filter(|event| event.action() == Action::AuthenticationFailed).collect()
}

#[tokio::test]
async fn the_same_failure_is_one_event_a_minute_with_how_often() {
    let (database, failures) = (team().await, FailedAuthentications::new());
    for _ in 0..10_000 {
        failures.note(failure("t", "key k1"));
    }
    failures.tell(&database, false).await.unwrap();
    let events = written(&database).await;
    assert_eq!(events.len(), 1);
    let told = "key k1 was presented from 203.0.113.9 and not taken, 10000 times: expired";
    assert_eq!(events[0].message, told);
    assert_eq!((events[0].action(), events[0].agent_id.as_str()), (Action::AuthenticationFailed, "scout"));
    assert_eq!(events[0].reason, "UNAUTHENTICATED");
    failures.note(failure("t", "key k1"));
    failures.tell(&database, false).await.unwrap();
    assert_eq!(written(&database).await.len(), 1, "within the minute");
    failures.tell(&database, true).await.unwrap();
    let events = written(&database).await;
    assert!(events[1].message.ends_with("once: expired"), "{}", events[1].message);
}

#[tokio::test]
async fn whoever_presents_much_fills_neither_the_trail_nor_the_memory() {
    let (database, failures) = (team().await, FailedAuthentications::new());
    for number in 0..20_000 {
        failures.note(failure("t", &format!("key {number}")));
        failures.note(failure("", &format!("key {number}\n\u{1b}[2J{}", "x".repeat(500))));
    }
    for team in 0..3_000 {
        failures.note(failure(&format!("team-{team}"), "key"));
    }
    assert!(failures.kept() <= 5_100, "{} are kept", failures.kept());
    failures.tell(&database, false).await.unwrap();
    let events = written(&database).await;
    let of_team: Vec<_> = events.iter().filter(|event| event.team_id == "t").collect();
    assert!((2..=51).contains(&of_team.len()), "{} events", of_team.len());
    let others = of_team.iter().find(|event| event.message.starts_with("many others")).unwrap();
    assert!(others.message.contains("19950 times"), "{}", others.message);
    assert!(events.iter().all(|event| !event.team_id.is_empty()), "a team that is not known has no trail");
}

#[tokio::test]
async fn what_cannot_be_written_is_told_later() {
    let (database, failures) = (team().await, FailedAuthentications::new());
    failures.note(failure("t", "key k1"));
    let rename = |from: &str, to: &str| {
        sqlx::query(sqlx::AssertSqlSafe(format!("ALTER TABLE permissions.{from} RENAME TO {to}")))
    };
    rename("outbox", "away").execute(database.pool().unwrap()).await.unwrap();
    assert!(failures.tell(&database, false).await.is_err());
    failures.note(failure("t", "key k1"));
    rename("away", "outbox").execute(database.pool().unwrap()).await.unwrap();
    failures.tell(&database, false).await.unwrap();
    assert!(written(&database).await[0].message.contains("2 times"));
}
