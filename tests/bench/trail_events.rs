//! Events into the trail at a steady rate for a minute: how many a second come under a signed checkpoint, and how long
//! each waits for it. An event's time is when it was due to be sent, so that a sender that falls behind hides nothing.

use std::{
    fmt::Write,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use node::{
    config::{Role, Roles, Settings},
    wire,
};
use prost_types::Timestamp;
use proto::audit::v1::{
    Action, AppendEventsRequest, Event, Result as AuditResult, audit_service_client::AuditServiceClient,
};
use rpc::{Link, Outgoing, TokenKey};
use secrecy::SecretString;
use store::Database;
use tokio::task::JoinSet;

use crate::stage::Ground;

/// Events of one request, as a relay sends them under load.
const EVENTS: u64 = 100;
/// Requests under way at once.
const SENDERS: u64 = 4;
/// How often the tree's size is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Fewest events a second, and longest 99th percentile of inclusion, that the project holds itself to.
const TARGETS: (f64, f64) = (3_000.0, 2_000.0);
const TEAM: &str = "crew";

/// Sends so many events a second for so many seconds, and prints what came of them.
pub async fn measure(rate: u64, seconds: u64) -> String {
    let ground = Ground::new().await;
    let url = ground.database("events").await;
    let database = Database::new(&url, 4).expect("the URL is well-formed");
    for schema in wire::schemas() {
        schema.migrate(database.pool().expect("just made")).await.expect("migrations run");
    }
    let settings = settings(ground.folder.path(), url);
    let node = wire::start(&settings, &Roles([Role::Audit].into())).await.expect("the audit service starts");
    let link = rpc::remote("audit", &format!("http://{}", node.addresses[&Role::Audit])).expect("an address");
    let key = TokenKey::new(settings.security.caller_token_key.as_ref().expect("set above"));
    let outgoing = Outgoing::new("executor", key);
    // Connections, plans and the first partitions.
    send(&link, &outgoing, (0..SENDERS).map(|_| Utc::now()).collect()).await;

    let sizes = Arc::<Mutex<Vec<(DateTime<Utc>, i64)>>>::default();
    let watching = tokio::spawn(watch(database.clone(), Arc::clone(&sizes)));
    let (begun, mut senders) = (Utc::now(), JoinSet::new());
    for sender in 0..SENDERS {
        let (link, outgoing) = (link.clone(), outgoing.clone());
        senders.spawn(async move {
            let requests = rate * seconds / EVENTS / SENDERS;
            for number in 0..requests {
                let first = (number * SENDERS + sender) * EVENTS;
                let due = |event| {
                    begun
                        + chrono::TimeDelta::microseconds(
                            i64::try_from(event * 1_000_000 / rate).unwrap_or(0),
                        )
                };
                let wait = (due(first + EVENTS) - Utc::now()).to_std().unwrap_or_default();
                tokio::time::sleep(wait).await;
                send(&link, &outgoing, (first..first + EVENTS).map(due).collect()).await;
            }
        });
    }
    while let Some(sender) = senders.join_next().await {
        sender.expect("a sender ends");
    }
    let told = told(&database, begun, &sizes).await;
    watching.abort();
    node.stop(Duration::from_secs(10)).await;
    told
}

async fn send(link: &Link, outgoing: &Outgoing, times: Vec<DateTime<Utc>>) {
    let events = times.into_iter().map(event).collect();
    let request = outgoing.own_request(Duration::from_secs(30), AppendEventsRequest { events });
    AuditServiceClient::new(link.clone()).append_events(request).await.expect("events are taken");
}

fn event(at: DateTime<Utc>) -> Event {
    let time = Timestamp {
        seconds: at.timestamp(),
        nanos: i32::try_from(at.timestamp_subsec_nanos()).unwrap_or_default(),
    };
    Event {
        id: types::new_id().to_string(),
        team_id: TEAM.to_owned(),
        time: Some(time),
        action: Action::ToolInvoked.into(),
        result: AuditResult::Success.into(),
        agent_id: "caller".to_owned(),
        tool_name: "echo".to_owned(),
        tool_version: "1.0.0".to_owned(),
        tool_digest: "0".repeat(64),
        execution_id: types::new_id().to_string(),
        task_id: "task".to_owned(),
        arguments_json: r#"{"text":"The quick brown fox jumps over the lazy dog."}"#.to_owned(),
        arguments_digest: "1".repeat(64),
        result_digest: "2".repeat(64),
        duration_ms: 1.5,
        cost_micro_usd: 7,
        sensitivity: proto::types::v1::Sensitivity::Internal.into(),
        decision_id: types::new_id().to_string(),
        user: format!("user-{}", at.timestamp_subsec_millis() % 100),
        intent_time: Some(time),
        result_summary_json: r#"{"text":"The quick brown fox jumps over the lazy dog."}"#.to_owned(),
        ..Event::default()
    }
}

/// Sizes of the tree, and when each was seen.
type Sizes = Arc<Mutex<Vec<(DateTime<Utc>, i64)>>>;

/// Notes whenever a larger tree has been signed.
async fn watch(database: Database, sizes: Sizes) {
    let mut known = 0;
    loop {
        let size = size(&database).await;
        if size > known {
            known = size;
            sizes.lock().unwrap_or_else(PoisonError::into_inner).push((Utc::now(), size));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn size(database: &Database) -> i64 {
    let size = sqlx::query_scalar("SELECT size FROM audit.tree WHERE team_id = $1").bind(TEAM);
    let size = size.fetch_optional(database.pool().expect("it is up")).await.expect("it answers");
    size.unwrap_or(0)
}

async fn told(database: &Database, begun: DateTime<Utc>, sizes: &Mutex<Vec<(DateTime<Utc>, i64)>>) -> String {
    let rows = "SELECT sequence, event_time FROM audit.record WHERE team_id = $1 AND event_time >= $2 ORDER BY sequence";
    let rows: Vec<(i64, DateTime<Utc>)> = sqlx::query_as(rows)
        .bind(TEAM)
        .bind(begun)
        .fetch_all(database.pool().expect("it is up"))
        .await
        .expect("it answers");
    let last = rows.last().map_or(0, |(sequence, _)| *sequence);
    while sizes.lock().unwrap_or_else(PoisonError::into_inner).last().is_none_or(|(_, size)| *size < last) {
        tokio::time::sleep(LOOK).await;
    }
    let sizes = sizes.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let signed_at = |sequence: i64| sizes[sizes.partition_point(|(_, size)| *size < sequence)].0;
    let mut waits: Vec<f64> =
        rows.iter().map(|(sequence, at)| (signed_at(*sequence) - *at).as_seconds_f64() * 1_000.0).collect();
    waits.sort_by(f64::total_cmp);
    let at = |per_mille: usize| waits.get((waits.len() * per_mille / 1_000).min(waits.len() - 1)).copied();
    let (p50, p99, worst) = (at(500).unwrap_or(0.0), at(990).unwrap_or(0.0), at(1_000).unwrap_or(0.0));
    let per_second = rows.len() as f64 / (signed_at(last) - begun).as_seconds_f64();
    let mut told = String::from("\n### Events into the trail, until they are under a signed checkpoint\n\n");
    let _ = writeln!(
        told,
        "| events | events/s | inclusion p50 ms | p99 ms | worst ms | checkpoints |\n|---:|---:|---:|---:|---:|---:|"
    );
    let _ = writeln!(
        told,
        "| {} | {per_second:.0} | {p50:.0} | {p99:.0} | {worst:.0} | {} |",
        rows.len(),
        sizes.len()
    );
    let held = if per_second >= TARGETS.0 && p99 <= TARGETS.1 { "held" } else { "missed" };
    let _ = writeln!(told, "\ntargets: {:.0} events/s, p99 {:.0} ms: {held}", TARGETS.0, TARGETS.1);
    told
}

/// The audit service alone, with keys of its own.
fn settings(folder: &Path, url: SecretString) -> Settings {
    let mut settings = Settings::load(None).expect("the defaults are sound");
    let (keys, signing) = (folder.join("audit.keys"), folder.join("audit-signing.key"));
    std::fs::write(&keys, format!("k1 {0}{0}\n", types::new_id().simple())).expect("a file");
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&keys, permissions).expect("a file");
    let key = trail::note::SigningKey::generate("toolcrib").expect("randomness");
    std::fs::write(&signing, key.private_key()).expect("a file");
    settings.database.url = Some(url);
    settings.security.caller_token_key = Some(format!("{0}{0}", types::new_id().simple()).into());
    settings.audit.listen = ([127, 0, 0, 1], 0).into();
    settings.audit.key_file = keys;
    settings.audit.signing_key_file = signing;
    settings
}
