//! Thresholds of budgets: each is told once a day, by whichever process and way it is seen first.

use std::collections::BTreeMap;

use prost::Message;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    budget::{get_budget, set_budget},
    budget_alerts::{Witness, keep_told, sweep},
    trail::Event,
};

async fn team_with(daily: i64) -> Database {
    let database = team().await;
    let root = caller("root", Role::Admin);
    set_budget(&database, &Teams::new(&database), &root, daily, noon()).await.unwrap();
    database
}

/// What the trail is told of thresholds: how often each.
async fn told(database: &Database) -> BTreeMap<String, usize> {
    let payloads: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT payload FROM permissions.outbox WHERE destination = 'audit'")
            .fetch_all(database.pool().unwrap())
            .await
            .unwrap();
    let events = payloads.iter().map(|payload| Event::decode(payload.as_slice()).unwrap());
    let mut told = BTreeMap::new();
    for event in events.filter(|event| event.reason == "BUDGET_THRESHOLD") {
        assert_eq!((event.team_id.as_str(), event.agent_id.as_str()), ("t", ""));
        let (threshold, _) = event.message.split_once(' ').unwrap();
        *told.entry(threshold.to_owned()).or_default() += 1;
    }
    told
}

fn each_once(thresholds: &[&str]) -> BTreeMap<String, usize> {
    thresholds.iter().map(|threshold| ((*threshold).to_owned(), 1)).collect()
}

fn costing(cost_micro_usd: i64) -> Asked {
    Asked { cost_micro_usd, ..asked("scout") }
}

#[tokio::test]
async fn what_a_call_costs_in_the_end_passes_thresholds_too_and_each_is_told_once_a_day() {
    let database = team_with(1_000).await;
    grant(&database, to_agent("scout"), 0).await;
    let webhook = "INSERT INTO permissions.webhook (team_id, name, url, secret, create_time)
                   VALUES ('t', 'w', 'https://example.com', '', now())";
    sqlx::query(webhook).execute(database.pool().unwrap()).await.unwrap();
    let call = authorize(&database, &costing(100), noon()).await.unwrap();
    assert_eq!(sweep(&database, noon()).await.unwrap(), 0);
    settle_at(&database, "t", call.id, true, 600).await.unwrap();
    assert_eq!(sweep(&database, noon() + hour()).await.unwrap(), 1);
    assert_eq!(get_budget(&database, "t", noon()).await.unwrap().threshold_percent, 50);
    assert_eq!(sweep(&database, noon() + hour()).await.unwrap(), 0);
    // A call of yesterday that ends today.
    let call = authorize(&database, &costing(100), noon()).await.unwrap();
    settle_at(&database, "t", call.id, true, 450).await.unwrap();
    assert_eq!(sweep(&database, noon() + TimeDelta::days(1)).await.unwrap(), 2);
    assert_eq!(told(&database).await, each_once(&["50", "80", "100"]));
    let next_day = noon() + TimeDelta::days(1);
    assert_eq!(get_budget(&database, "t", next_day).await.unwrap().threshold_percent, 0);
    authorize(&database, &costing(500), next_day).await.unwrap();
    assert_eq!(sweep(&database, next_day).await.unwrap(), 1, "the next day begins anew");
    let bodies: Vec<String> =
        sqlx::query_scalar("SELECT body FROM permissions.delivery ORDER BY delivery_id")
            .fetch_all(database.pool().unwrap())
            .await
            .unwrap();
    let body: serde_json::Value = serde_json::from_str(&bodies[0]).unwrap();
    assert_eq!((bodies.len(), body["type"].as_str()), (4, Some("budget.threshold")));
    let expected = serde_json::json!({
        "team_id": "t", "day": "2026-11-22", "threshold_percent": 50, "used_micro_usd": 600, "limit_micro_usd": 1_000
    });
    assert_eq!(body["data"], expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_calls_at_once_over_two_processes_tell_each_threshold_once() {
    let url = testkit::database_url().await;
    let processes = [Database::new(&url, 8).unwrap(), Database::new(&url, 8).unwrap()];
    crate::schema().migrate(processes[0].pool().unwrap()).await.unwrap();
    people(&processes[0], "t").await;
    let root = caller("root", Role::Admin);
    set_budget(&processes[0], &Teams::new(&processes[0]), &root, 100, noon()).await.unwrap();
    grant(&processes[0], to_agent("scout"), 0).await;
    let stop = CancellationToken::new();
    let desks = processes.clone().map(|database| {
        let (witness, passed) = Witness::new();
        tokio::spawn(keep_told(database.clone(), passed, stop.clone()));
        Desk { ledger: Ledger::start_telling(&database, witness), ..desk(&database) }
    });
    let calls = (0..100).map(|n| {
        let desk = desks[n % 2].clone();
        tokio::spawn(async move { desk.authorize(&costing(1), Utc::now()).await.unwrap().reason })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), None);
    }
    let all = each_once(&["50", "80", "100"]);
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while told(&processes[0]).await != all {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", told(&processes[0]).await);
        tokio::task::yield_now().await;
    }
    for database in &processes {
        assert_eq!(sweep(database, Utc::now()).await.unwrap(), 0);
    }
    assert_eq!(told(&processes[0]).await, all);
    stop.cancel();
}
