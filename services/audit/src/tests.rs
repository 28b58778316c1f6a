//! The trail against a real PostgreSQL.

use std::collections::{BTreeSet, HashSet};

use ::store::Database;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{
    Error,
    append::{Appended, append},
    ledger::Ledger,
    store::{EventRow, Filter, event_list},
};

pub(crate) fn event(team: &str, agent: &str) -> EventRow {
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

/// A team's trail, oldest first; its positions must have no gap.
async fn trail(database: &Database, team: &str) -> Vec<EventRow> {
    let mut rows =
        event_list(database.pool().unwrap(), team, &Filter::default(), None, 100_000).await.unwrap();
    rows.reverse();
    let positions = rows.iter().map(|row| row.sequence);
    assert!(positions.eq(1..=i64::try_from(rows.len()).unwrap()), "the trail of {team} has a gap");
    rows
}

#[tokio::test]
async fn an_event_is_kept_once_and_positions_have_no_gap() {
    let database = testkit::database(&[crate::schema()]).await;
    let ledger = Ledger::start(&database);
    let events: Vec<_> = (0..5).map(|n| event(if n == 3 { "other" } else { "team" }, "a")).collect();
    let twice = [events.clone(), vec![events[0].clone()]].concat();
    assert_eq!(append(&ledger, twice).await.unwrap(), Appended { new: 5, duplicates: 1 });
    assert_eq!(append(&ledger, events.clone()).await.unwrap(), Appended { new: 0, duplicates: 5 });
    append(&ledger, vec![event("team", "b")]).await.unwrap();
    let mixed = vec![events[1].clone(), event("team", "c"), events[3].clone(), event("new", "c")];
    assert_eq!(append(&ledger, mixed).await.unwrap(), Appended { new: 2, duplicates: 2 });
    let rows = trail(&database, "team").await;
    let agents: Vec<&str> = rows.iter().map(|row| row.agent_id.as_str()).collect();
    assert_eq!(agents, ["a", "a", "a", "a", "b", "c"]);
    assert_eq!(EventRow { sequence: 0, ..rows[0].clone() }, events[0]);
    assert_eq!((trail(&database, "other").await.len(), trail(&database, "new").await.len()), (1, 1));
}

#[tokio::test]
async fn concurrent_writers_leave_no_gap_either() {
    let database = testkit::database(&[crate::schema()]).await;
    let writers = (0..8).map(|writer| {
        let ledger = Ledger::start(&database);
        tokio::spawn(async move {
            for _ in 0..10 {
                append(&ledger, vec![event("team", &writer.to_string()); 1]).await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    assert_eq!(trail(&database, "team").await.len(), 80);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_the_same_events_keep_each_once_and_leave_no_gap() {
    let database = testkit::database(&[crate::schema()]).await;
    let teams = ["one", "two", "three"];
    let events: Vec<EventRow> = (0..20_000).map(|n| event(teams[n % 3], &n.to_string())).collect();
    let mut tasks = Vec::new();
    for process in 0..2 {
        let ledger = Ledger::start(&database);
        for half in events.chunks(10_000) {
            // What the first sends from the front, the second sends from the back, in other parts.
            let (ledger, mut half) = (ledger.clone(), half.to_vec());
            if process == 1 {
                half.reverse();
            }
            tasks.push(tokio::spawn(async move {
                let mut new = 0;
                for part in half.chunks(if process == 0 { 97 } else { 131 }) {
                    new += append(&ledger, part.to_vec()).await.unwrap().new;
                }
                new
            }));
        }
    }
    let mut new = 0;
    for task in tasks {
        new += task.await.unwrap();
    }
    assert_eq!(new, 20_000, "each event was new to one process");
    let mut kept = HashSet::new();
    for team in teams {
        kept.extend(trail(&database, team).await.into_iter().map(|row| (row.team_id, row.id)));
    }
    assert_eq!(kept, events.into_iter().map(|event| (event.team_id, event.id)).collect());
}

#[tokio::test]
async fn requests_that_share_a_statement_are_each_whole_or_nothing() {
    let database = testkit::database(&[crate::schema()]).await;
    let ledger = Ledger::start(&database);
    let (first, second, shared) = (event("team", "first"), event("team", "second"), event("team", "shared"));
    // PostgreSQL keeps no character of code 0 in a text.
    let bad = EventRow { message: "\0".into(), ..event("team", "bad") };
    let answers = tokio::join!(
        append(&ledger, vec![first, shared.clone()]),
        append(&ledger, vec![event("team", "with the bad"), bad]),
        append(&ledger, vec![shared, second]),
    );
    assert_eq!(answers.0.unwrap(), Appended { new: 2, duplicates: 0 });
    assert!(matches!(answers.1, Err(Error::Store(::store::Error::Failed(_)))), "{:?}", answers.1);
    assert_eq!(answers.2.unwrap(), Appended { new: 1, duplicates: 1 });
    let agents: BTreeSet<String> =
        trail(&database, "team").await.into_iter().map(|row| row.agent_id).collect();
    assert_eq!(agents.iter().collect::<Vec<_>>(), ["first", "second", "shared"]);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_left_to_be_sent_again() {
    let database = testkit::database(&[crate::schema()]).await;
    let ledger = Ledger::start(&database);
    tokio::select! {
        biased;
        done = append(&ledger, vec![event("team", "gone")]) => panic!("{done:?} before the writer ran"),
        () = std::future::ready(()) => {}
    }
    append(&ledger, vec![event("team", "here")]).await.unwrap();
    assert_eq!(trail(&database, "team").await[0].agent_id, "here");
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_no_request() {
    let database = testkit::database(&[crate::schema()]).await;
    let ledger = Ledger::start(&database);
    append(&ledger, vec![event("team", "a")]).await.unwrap();
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%audit.head%'",
    )
    .fetch_one(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(killed, 1);
    assert_eq!(append(&ledger, vec![event("team", "b")]).await.unwrap(), Appended { new: 1, duplicates: 0 });
    assert_eq!(trail(&database, "team").await.len(), 2);
}

#[tokio::test]
async fn a_filter_narrows_and_another_team_is_never_seen() {
    let database = testkit::database(&[crate::schema()]).await;
    let ledger = Ledger::start(&database);
    append(&ledger, vec![event("team", "a"), event("team", "b"), event("other", "a")]).await.unwrap();
    let filter = Filter { agent_id: Some("a".into()), ..Filter::default() };
    let rows = event_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    let filter = Filter { action: Some("permission_checked".into()), ..Filter::default() };
    assert!(event_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap().is_empty());
}
