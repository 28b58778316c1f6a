//! The trail against a real PostgreSQL.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    append::{Appended, append},
    store::{EventRow, Filter, event_list},
};

fn event(team: &str, agent: &str) -> EventRow {
    EventRow {
        id: types::new_id(),
        team_id: team.into(),
        sequence: 0,
        event_time: DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap(),
        action: "tool_invoked".into(),
        result: "success".into(),
        agent_id: agent.into(),
        tool_name: "http_request".into(),
        tool_version: "1.0.0".into(),
        tool_digest: "d".into(),
        execution_id: Some(Uuid::now_v7()),
        task_id: String::new(),
        trace_id: String::new(),
        reason: String::new(),
        message: String::new(),
        arguments_json: r#"{"n":9007199254740993}"#.into(),
        arguments_digest: String::new(),
        result_digest: String::new(),
        duration_ms: 1.5,
        cost_micro_usd: 7,
        sensitivity: "internal".into(),
        decision_id: None,
    }
}

#[tokio::test]
async fn an_event_is_kept_once_and_positions_have_no_gap() {
    let database = testkit::database(&[crate::schema()]).await;
    let events: Vec<_> = (0..5).map(|n| event(if n == 3 { "other" } else { "team" }, "a")).collect();
    let twice = [events.clone(), vec![events[0].clone()]].concat();
    assert_eq!(append(&database, twice).await.unwrap(), Appended { new: 5, duplicates: 1 });
    assert_eq!(append(&database, events.clone()).await.unwrap(), Appended { new: 0, duplicates: 5 });
    append(&database, vec![event("team", "b")]).await.unwrap();
    let rows = event_list(database.pool().unwrap(), "team", &Filter::default(), None, 100).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.sequence).collect::<Vec<_>>(), [5, 4, 3, 2, 1]);
    assert_eq!(EventRow { sequence: 0, ..rows[4].clone() }, events[0]);
}

#[tokio::test]
async fn concurrent_writers_leave_no_gap_either() {
    let database = testkit::database(&[crate::schema()]).await;
    let writers = (0..8).map(|writer| {
        let database = database.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                append(&database, vec![event("team", &writer.to_string()); 1]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let rows = event_list(database.pool().unwrap(), "team", &Filter::default(), None, 1_000).await.unwrap();
    let positions: Vec<i64> = rows.iter().map(|row| row.sequence).collect();
    assert_eq!(positions, (1..=80).rev().collect::<Vec<i64>>());
}

#[tokio::test]
async fn a_filter_narrows_and_another_team_is_never_seen() {
    let database = testkit::database(&[crate::schema()]).await;
    append(&database, vec![event("team", "a"), event("team", "b"), event("other", "a")]).await.unwrap();
    let filter = Filter { agent_id: Some("a".into()), ..Filter::default() };
    let rows = event_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    let filter = Filter { action: Some("permission_checked".into()), ..Filter::default() };
    assert!(event_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap().is_empty());
}
