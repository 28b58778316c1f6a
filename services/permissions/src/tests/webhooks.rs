//! Webhooks against a real HTTP server that fails, hangs and answers late: told at least once, signed, and none of them
//! held up by another.

mod receiver;

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use proto::permissions::v1::{ListWebhooksRequest, PutWebhookRequest, RemoveWebhookRequest};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use self::receiver::{Answer, Receiver};
use super::{service::Suite, *};
use crate::{
    store::WebhookRow,
    webhooks::{self, Courier, Destinations, News, Seal, Subject, put_webhook},
};

/// Waited for after each failed attempt.
const RETRY: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(40)];

fn destinations(timeout: Duration) -> Destinations {
    Destinations::new(&["127.0.0.1".to_owned()], timeout, &reach::Authorities::default())
}

/// A process that sends; it ends with this value.
struct Process {
    courier: Courier,
    task: tokio::task::JoinHandle<()>,
}

impl Process {
    fn start(database: &Database, timeout: Duration) -> Self {
        let courier = Courier {
            database: database.clone(),
            seal: Seal::new([7; 32]),
            destinations: destinations(timeout),
            retry: RETRY.to_vec(),
        };
        let task = tokio::spawn(courier.clone().run(CancellationToken::new()));
        Self { courier, task }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn put(database: &Database, name: &str, url: &str) -> SecretString {
    let (seal, to) = (Seal::new([7; 32]), destinations(Duration::from_secs(1)));
    let root = caller("root", Role::Admin);
    put_webhook(database, &seal, &to, &root, (name, url), noon()).await.unwrap().1
}

async fn tell(database: &Database, news: News) -> Uuid {
    let (mut transaction, id) = (database.pool().unwrap().begin().await.unwrap(), random());
    let subject = Subject { id, team_id: "t", agent_id: "scout", tool_name: "shell", ..Subject::default() };
    webhooks::enqueue(&mut transaction, news, &subject, noon()).await.unwrap();
    transaction.commit().await.unwrap();
    id
}

async fn row(database: &Database, name: &str) -> WebhookRow {
    let listed = webhooks::list_webhooks(database, "t").await.unwrap();
    listed.into_iter().find(|webhook| webhook.name == name).unwrap()
}

/// Waits until this holds of a webhook.
async fn until(database: &Database, name: &str, holds: impl Fn(&WebhookRow) -> bool) -> WebhookRow {
    let wait = async {
        loop {
            let row = row(database, name).await;
            if holds(&row) {
                return row;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to hold")
}

/// Signed as Standard Webhooks has it, worked out here once more.
fn assert_signed(message: &receiver::Message, secret: &SecretString) {
    let key = STANDARD.decode(secret.expose_secret().strip_prefix("whsec_").unwrap()).unwrap();
    let sent = &message.headers["webhook-timestamp"];
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{}.{sent}.{}", message.id(), message.body).as_bytes());
    let signature = message.headers["webhook-signature"].strip_prefix("v1,").unwrap();
    mac.verify_slice(&STANDARD.decode(signature).unwrap()).unwrap();
    let age = Utc::now().timestamp() - sent.parse::<i64>().unwrap();
    assert!((0..60).contains(&age), "sent {age} s ago");
}

#[tokio::test]
async fn every_webhook_of_the_team_is_told_once_signed_and_of_no_arguments() {
    let database = team().await;
    people(&database, "other").await;
    let receiver = Receiver::start(|_, _| Answer::Status(204)).await;
    let secrets = [put(&database, "one", &receiver.url("/one")).await];
    put(&database, "two", &receiver.url("/two")).await;
    let process = Process::start(&database, Duration::from_secs(5));
    let id = tell(&database, News::Created).await;
    let message = receiver.wait_for("/one", 1).await.remove(0);
    receiver.wait_for("/two", 1).await;
    assert_signed(&message, &secrets[0]);
    let body: Value = serde_json::from_str(&message.body).unwrap();
    assert_eq!(body["type"], "access_request.created");
    assert_eq!(body["timestamp"], "2026-11-22T12:30:00.000Z");
    assert_eq!(body["data"]["id"], id.to_string());
    assert_eq!((&body["data"]["agent_id"], &body["data"]["tool_name"]), (&"scout".into(), &"shell".into()));
    assert!(!message.body.contains("argument"), "{}", message.body);
    let told = until(&database, "one", |webhook| webhook.waiting == 0).await;
    assert!(told.last_success_time.is_some() && told.last_error.is_empty() && told.given_up == 0);
    assert_eq!(receiver.messages("/one").len(), 1);

    // What is undone is told to nobody.
    let mut transaction = database.pool().unwrap().begin().await.unwrap();
    let subject = Subject { team_id: "t", ..Subject::default() };
    webhooks::enqueue(&mut transaction, News::Denied, &subject, noon()).await.unwrap();
    transaction.rollback().await.unwrap();
    tell(&database, News::Approved).await;
    let second = receiver.wait_for("/one", 2).await.remove(1);
    assert!(second.body.contains("access_request.approved"), "{}", second.body);
    assert_ne!(second.id(), message.id());
    drop(process);
}

#[tokio::test]
async fn one_that_fails_is_asked_again_under_the_same_id_until_it_takes_it_or_is_given_up() {
    let database = team().await;
    let receiver = Receiver::start(|path, number| match (path, number) {
        ("/recovers", 3) => Answer::Status(200),
        _ => Answer::Status(503),
    })
    .await;
    let secret = put(&database, "recovers", &receiver.url("/recovers")).await;
    put(&database, "fails", &receiver.url("/fails")).await;
    let _process = Process::start(&database, Duration::from_secs(5));
    tell(&database, News::Created).await;
    let recovered = until(&database, "recovers", |webhook| webhook.last_success_time.is_some()).await;
    assert_eq!((recovered.waiting, recovered.given_up, recovered.last_error.as_str()), (0, 0, ""));
    let failed = until(&database, "fails", |webhook| webhook.given_up == 1).await;
    assert_eq!((failed.waiting, failed.last_error.as_str()), (0, "answered 503"));
    for path in ["/recovers", "/fails"] {
        let messages = receiver.messages(path);
        assert_eq!(messages.len(), 1 + RETRY.len(), "{path}");
        assert!(messages.iter().all(|message| message.id() == messages[0].id()), "{path}");
        assert!(messages.iter().all(|message| message.body == messages[0].body), "{path}");
    }
    assert_signed(&receiver.messages("/recovers")[2], &secret);
}

#[tokio::test]
async fn one_that_says_when_to_come_again_is_left_alone_until_then_and_an_hour_at_most() {
    let database = team().await;
    let receiver = Receiver::start(|path, number| match (path, number) {
        (_, 2..) => Answer::Status(200),
        ("/soon", _) => Answer::Later(503, "90"),
        ("/never", _) => Answer::Later(429, "99999999999"),
        _ => Answer::Later(503, "tomorrow"),
    })
    .await;
    for name in ["soon", "never", "odd"] {
        put(&database, name, &receiver.url(&format!("/{name}"))).await;
    }
    let _process = Process::start(&database, Duration::from_secs(5));
    tell(&database, News::Created).await;
    until(&database, "odd", |webhook| webhook.last_success_time.is_some()).await;
    for (name, least, most) in [("soon", 60.0, 90.0), ("never", 3_500.0, 3_600.0)] {
        until(&database, name, |webhook| !webhook.last_error.is_empty()).await;
        let left: f64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM due_time - now())::float8 FROM permissions.delivery WHERE webhook = $1",
        )
        .bind(name)
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
        assert!((least..=most).contains(&left), "{name} is asked again in {left} s");
    }
    sqlx::query("UPDATE permissions.delivery SET due_time = now()")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    for name in ["soon", "never"] {
        until(&database, name, |webhook| webhook.last_success_time.is_some()).await;
        let messages = receiver.messages(&format!("/{name}"));
        assert_eq!((messages.len(), messages[0].id()), (2, messages[1].id()));
    }
}

#[tokio::test]
async fn one_that_hangs_or_answers_late_holds_up_no_other() {
    let database = team().await;
    let receiver = Receiver::start(|path, _| match path {
        "/hangs" => Answer::Hang,
        "/late" => Answer::Late(Duration::from_secs(2), 200),
        _ => Answer::Status(200),
    })
    .await;
    for name in ["hangs", "late", "well"] {
        put(&database, name, &receiver.url(&format!("/{name}"))).await;
    }
    let process = Process::start(&database, Duration::from_mins(1));
    for _ in 0..20 {
        tell(&database, News::Created).await;
    }
    receiver.wait_for("/well", 20).await;
    let well = until(&database, "well", |webhook| webhook.waiting == 0).await;
    assert!(well.last_error.is_empty());
    assert_eq!(row(&database, "hangs").await.waiting, 20, "it still holds what it was sent");
    drop(process);
    // One that answers after its time has not taken it.
    let hasty = Process::start(&database, Duration::from_millis(200));
    sqlx::query("UPDATE permissions.delivery SET due_time = now()")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    let late = until(&database, "late", |webhook| webhook.given_up > 0).await;
    assert_eq!(late.last_error, "did not answer within 0.2 s");
    drop(hasty);
}

#[tokio::test]
async fn what_a_dead_process_had_in_hand_is_sent_again_under_the_same_id() {
    let database = team().await;
    let receiver =
        Receiver::start(|_, number| if number == 1 { Answer::Hang } else { Answer::Status(200) }).await;
    put(&database, "ops", &receiver.url("/ops")).await;
    let dies = Process::start(&database, Duration::from_mins(1));
    tell(&database, News::Created).await;
    receiver.wait_for("/ops", 1).await;
    // It was sent, and nothing was written down of it.
    drop(dies);
    let lives = Process::start(&database, Duration::from_secs(5));
    let leased = "SELECT extract(epoch FROM due_time - now())::float8 FROM permissions.delivery";
    let left: f64 = sqlx::query_scalar(leased).fetch_one(database.pool().unwrap()).await.unwrap();
    assert!((60.0..=80.0).contains(&left), "held for {left} s more");
    assert_eq!(receiver.messages("/ops").len(), 1, "it is not sent twice while the first may live");
    sqlx::query("UPDATE permissions.delivery SET due_time = now()")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    let messages = receiver.wait_for("/ops", 2).await;
    assert_eq!(messages[0].id(), messages[1].id());
    assert_eq!(messages[0].body, messages[1].body);
    until(&database, "ops", |webhook| webhook.waiting == 0).await;
    drop(lives);
}

#[tokio::test]
async fn two_processes_send_each_message_once() {
    let database = team().await;
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    put(&database, "ops", &receiver.url("/ops")).await;
    let processes = [(); 2].map(|()| Process::start(&database, Duration::from_secs(5)));
    for _ in 0..60 {
        tell(&database, News::Created).await;
    }
    until(&database, "ops", |webhook| webhook.waiting == 0).await;
    let messages = receiver.messages("/ops");
    let ids: std::collections::HashSet<_> = messages.iter().map(receiver::Message::id).collect();
    assert_eq!((messages.len(), ids.len()), (60, 60));
    drop(processes);
}

#[tokio::test]
async fn one_that_is_gone_is_asked_no_more_until_it_is_put_again() {
    let database = team().await;
    let receiver =
        Receiver::start(|_, number| if number == 1 { Answer::Status(410) } else { Answer::Status(200) })
            .await;
    put(&database, "ops", &receiver.url("/ops")).await;
    tell(&database, News::Created).await;
    tell(&database, News::Approved).await;
    // One at a time, so that the second one still waits.
    sqlx::query("UPDATE permissions.delivery SET due_time = 'infinity' WHERE body LIKE '%approved%'")
        .execute(database.pool().unwrap())
        .await
        .unwrap();
    let _process = Process::start(&database, Duration::from_secs(5));
    let gone = until(&database, "ops", |webhook| webhook.given_up == 2).await;
    assert!(gone.last_error.contains("410") && gone.waiting == 0, "{gone:?}");
    tell(&database, News::Used).await;
    assert_eq!(row(&database, "ops").await.waiting, 0, "nothing waits for it");
    put(&database, "ops", &receiver.url("/ops")).await;
    assert_eq!(row(&database, "ops").await.last_error, "");
    tell(&database, News::Denied).await;
    assert!(receiver.wait_for("/ops", 2).await[1].body.contains("denied"));
}

#[tokio::test]
async fn redirects_are_not_followed_and_answers_are_not_read() {
    let database = team().await;
    let trap = Receiver::start(|_, _| Answer::Status(200)).await;
    let to = trap.url("/trap");
    let receiver = Receiver::start(move |path, _| match path {
        "/endless" => Answer::Endless,
        _ => Answer::Redirect(to.clone()),
    })
    .await;
    put(&database, "leads", &receiver.url("/leads")).await;
    put(&database, "endless", &receiver.url("/endless")).await;
    let _process = Process::start(&database, Duration::from_secs(10));
    tell(&database, News::Created).await;
    let leads = until(&database, "leads", |webhook| webhook.given_up == 1).await;
    assert_eq!(leads.last_error, "answered 302; redirects are not followed");
    until(&database, "endless", |webhook| webhook.last_success_time.is_some()).await;
    assert!(trap.messages("/trap").is_empty());
}

#[tokio::test]
async fn a_secret_is_shown_once_and_stands_nowhere_in_the_clear() {
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let database = team().await;
    let suite = Suite::start_with(database.clone(), |config| {
        config.webhook_private_hosts = vec!["127.0.0.1".into()];
    });
    let (mut client, root) = (suite.client.clone(), caller("root", Role::Admin));
    let put = |url: String| PutWebhookRequest { name: "ops".into(), url };
    let first = client.put_webhook(suite.as_agent(&root, put(receiver.url("/a?token=hunter2")))).await;
    let first = first.unwrap().into_inner();
    assert_eq!(first.webhook.unwrap().url, receiver.url("/a?token=hunter2"));
    let second =
        client.put_webhook(suite.as_agent(&root, put(receiver.url("/b")))).await.unwrap().into_inner();
    assert_ne!(first.secret, second.secret);
    let listed =
        client.list_webhooks(suite.as_agent(&root, ListWebhooksRequest {})).await.unwrap().into_inner();
    assert_eq!(listed.webhooks.len(), 1);
    assert!(!format!("{listed:?}").contains(&second.secret));
    let dump = "SELECT string_agg(w::text, '') || (SELECT string_agg(encode(payload, 'escape'), '')
                FROM permissions.outbox) FROM permissions.webhook w";
    let dump: String = sqlx::query_scalar(dump).fetch_one(database.pool().unwrap()).await.unwrap();
    let raw = STANDARD.decode(second.secret.strip_prefix("whsec_").unwrap()).unwrap();
    assert!(!dump.contains(&second.secret[6..]) && !dump.contains(&hex::encode(&raw)), "{dump}");
    assert!(dump.contains("webhook ops is told of access requests, at 127.0.0.1"), "{dump}");
    assert!(!dump.contains("hunter2"), "the address stands in the trail: {dump}");

    tell(&database, News::Created).await;
    let message = receiver.wait_for("/b", 1).await.remove(0);
    assert_signed(&message, &SecretString::from(second.secret));
    let remove = || RemoveWebhookRequest { name: "ops".into() };
    client.remove_webhook(suite.as_agent(&root, remove())).await.unwrap();
    let again = client.remove_webhook(suite.as_agent(&root, remove())).await.unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    suite.end().await;
}

#[tokio::test]
async fn an_address_that_may_not_be_asked_is_refused_and_names_the_setting() {
    let suite = Suite::start(team().await);
    let (mut client, root) = (suite.client.clone(), caller("root", Role::Admin));
    for (name, url, part) in [
        ("ops", "http://hooks.example.com/", "webhook_private_hosts"),
        ("ops", "https://127.0.0.1/", "not a public address"),
        ("ops", "no address", "is not an address"),
        ("Ops!", "https://hooks.example.com/", "must be 1 to"),
        ("", "https://hooks.example.com/", "must be 1 to"),
    ] {
        let request = PutWebhookRequest { name: name.into(), url: url.into() };
        let refused = client.put_webhook(suite.as_agent(&root, request)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{url}");
        assert!(refused.message().contains(part), "{refused:?}");
    }
    for number in 0..11 {
        let request =
            PutWebhookRequest { name: format!("ops-{number}"), url: "https://hooks.example.com/".into() };
        let answer = client.put_webhook(suite.as_agent(&root, request)).await;
        assert_eq!(answer.is_ok(), number < 10, "{answer:?}");
    }
    let scout = caller("scout", Role::Agent);
    let request = PutWebhookRequest { name: "x".into(), url: "https://hooks.example.com/".into() };
    let refused = client.put_webhook(suite.as_agent(&scout, request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    suite.end().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_opened_is_told_and_nothing_is_sent_unsigned() {
    let database = team().await;
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    put(&database, "ops", &receiver.url("/ops")).await;
    let other = Process::start(&database, Duration::from_secs(5));
    let courier = Courier { seal: Seal::new([8; 32]), ..other.courier.clone() };
    drop(other);
    let process = tokio::spawn(courier.run(CancellationToken::new()));
    tell(&database, News::Created).await;
    let failed = until(&database, "ops", |webhook| webhook.given_up == 1).await;
    assert!(failed.last_error.contains("caller_token_key"), "{failed:?}");
    assert!(receiver.messages("/ops").is_empty());
    process.abort();
}
