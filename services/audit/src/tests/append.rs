//! Events on their way in: once each, without a gap, whole requests or nothing.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, Utc};
use proto::audit::v1::PayloadState;
use uuid::Uuid;

use super::{event, event_of, journal, records, trail};
use crate::{
    Error,
    append::Appended,
    payload::Draft,
    store::{Filter, RecordRow, record_list},
};

#[tokio::test]
async fn an_event_is_kept_once_and_positions_have_no_gap() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let events: Vec<_> = (0..5).map(|n| event(if n == 3 { "other" } else { "team" }, "a")).collect();
    let twice = [events.clone(), vec![events[0].clone()]].concat();
    assert_eq!(journal.append(twice).await.unwrap(), Appended { new: 5, duplicates: 1 });
    assert_eq!(journal.append(events.clone()).await.unwrap(), Appended { new: 0, duplicates: 5 });
    journal.append(vec![event("team", "b")]).await.unwrap();
    let mixed = vec![events[1].clone(), event("team", "c"), events[3].clone(), event("new", "c")];
    assert_eq!(journal.append(mixed).await.unwrap(), Appended { new: 2, duplicates: 2 });
    let rows = records(&database, "team").await;
    let agents: Vec<&str> = rows.iter().map(|row| row.agent_id.as_str()).collect();
    assert_eq!(agents, ["a", "a", "a", "a", "b", "c"]);
    let kept = RecordRow { sequence: 0, payload_hmac: Vec::new(), payload: None, ..rows[0].clone() };
    assert!(kept == events[0].record, "{kept:?}");
    let shown = &trail(&database, &journal, "team").await[0];
    assert_eq!(shown.arguments_json, events[0].payload.arguments_json);
    assert_eq!((shown.payload_state(), shown.duration_ms), (PayloadState::Kept, 1.5));
    assert!(shown.intent_time.is_some() && shown.subject_id.is_empty());
    assert_eq!((records(&database, "other").await.len(), records(&database, "new").await.len()), (1, 1));
}

/// Twenty at once over two processes, some of them with users that nobody knows yet.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writers_leave_no_gap_either() {
    let database = testkit::database(&[crate::schema()]).await;
    let processes = [journal(&database), journal(&database)];
    let writers = (0..20).map(|writer| {
        let journal = processes[writer % 2].clone();
        tokio::spawn(async move {
            for number in 0..10 {
                let user = format!("user {}", number % 3);
                let request = vec![event("team", &writer.to_string()), event_of("team", &user)];
                assert_eq!(journal.append(request).await.unwrap().new, 2);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let shown = trail(&database, &processes[0], "team").await;
    assert_eq!(shown.len(), 400);
    let pseudonyms: BTreeSet<(&str, &str)> =
        shown.iter().map(|event| (event.user.as_str(), event.subject_id.as_str())).collect();
    assert_eq!(pseudonyms.len(), 4, "one for each user, and none: {pseudonyms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_the_same_events_keep_each_once_and_leave_no_gap() {
    let database = testkit::database(&[crate::schema()]).await;
    let teams = ["one", "two", "three"];
    let events: Vec<Draft> = (0..20_000).map(|n| event(teams[n % 3], &n.to_string())).collect();
    let mut tasks = Vec::new();
    for process in 0..2 {
        let journal = journal(&database);
        for half in events.chunks(10_000) {
            // What the first sends from the front, the second sends from the back, in other parts.
            let (journal, mut half) = (journal.clone(), half.to_vec());
            if process == 1 {
                half.reverse();
            }
            tasks.push(tokio::spawn(async move {
                let mut new = 0;
                for part in half.chunks(if process == 0 { 97 } else { 131 }) {
                    new += journal.append(part.to_vec()).await.unwrap().new;
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
        kept.extend(records(&database, team).await.into_iter().map(|row| (row.team_id, row.id)));
    }
    assert_eq!(kept, events.into_iter().map(|event| (event.record.team_id, event.record.id)).collect());
}

#[tokio::test]
async fn requests_that_share_a_statement_are_each_whole_or_nothing() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    // From here on nothing is waited for before the ledger.
    journal.subjects.digest("team", "").await.unwrap();
    let (first, second, shared) = (event("team", "first"), event("team", "second"), event("team", "shared"));
    // PostgreSQL keeps no character of code 0 in a text.
    let bad = event("team", "\0");
    let answers = tokio::join!(
        journal.append(vec![first, shared.clone()]),
        journal.append(vec![event("team", "with the bad"), bad]),
        journal.append(vec![shared, second]),
    );
    assert_eq!(answers.0.unwrap(), Appended { new: 2, duplicates: 0 });
    assert!(matches!(answers.1, Err(Error::Store(::store::Error::Failed(_)))), "{:?}", answers.1);
    assert_eq!(answers.2.unwrap(), Appended { new: 1, duplicates: 1 });
    let agents: BTreeSet<String> =
        records(&database, "team").await.into_iter().map(|row| row.agent_id).collect();
    assert_eq!(agents.iter().collect::<Vec<_>>(), ["first", "second", "shared"]);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_is_left_to_be_sent_again() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    tokio::select! {
        biased;
        done = journal.append(vec![event("team", "gone")]) => panic!("{done:?} before the writer ran"),
        () = std::future::ready(()) => {}
    }
    journal.append(vec![event("team", "here")]).await.unwrap();
    assert_eq!(records(&database, "team").await[0].agent_id, "here");
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_no_request() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    journal.append(vec![event("team", "a")]).await.unwrap();
    let killed: i64 = sqlx::query_scalar(
        "SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%audit.head%'",
    )
    .fetch_one(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(killed, 1);
    assert_eq!(journal.append(vec![event("team", "b")]).await.unwrap(), Appended { new: 1, duplicates: 0 });
    assert_eq!(records(&database, "team").await.len(), 2);
}

#[tokio::test]
async fn a_filter_narrows_and_another_team_is_never_seen() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    journal.append(vec![event("team", "a"), event("team", "b"), event("other", "a")]).await.unwrap();
    let filter = Filter { agent_id: Some("a".into()), ..Filter::default() };
    let rows = record_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap();
    assert_eq!(rows.len(), 1);
    let filter = Filter { action: Some("permission_checked".into()), ..Filter::default() };
    assert!(record_list(database.pool().unwrap(), "team", &filter, None, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_event_without_an_intent_is_refused_with_an_alarm_and_nothing_of_its_request_is_taken() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let mut bad = event("team", "without");
    bad.record.intent_time = None;
    bad.record.execution_id = Some(Uuid::new_v4());
    let mut young = event("team", "young");
    young.record.intent_time = None;
    young.record.execution_id = Some(made_at(young.record.event_time + chrono::TimeDelta::seconds(301)));
    let mut nameless = event("team", "nameless");
    nameless.record.execution_id = None;
    let mut later = event("team", "later");
    later.record.intent_time = Some(later.record.event_time + chrono::TimeDelta::seconds(301));
    for (draft, told) in [
        (&bad, "no intent_time"),
        (&nameless, "no execution_id"),
        (&later, "after its time"),
        (&young, "after its time"),
        (&bad, "no intent_time"),
    ] {
        let refused = journal.append(vec![event("team", "good"), draft.clone()]).await.unwrap_err();
        let Error::NoIntent { index, id, .. } = refused else { panic!("{refused}") };
        assert_eq!((index, id), (1, draft.record.id));
        let told_instead = refused.to_string();
        assert!(told_instead.contains(told) && told_instead.contains(&id.to_string()), "{told_instead}");
        assert_eq!(::rpc::status(&refused).code(), tonic::Code::FailedPrecondition);
    }
    assert!(records(&database, "team").await.is_empty());
    let found: Vec<(String, String)> =
        sqlx::query_as("SELECT kind, message FROM audit.finding WHERE resolve_time IS NULL ORDER BY id")
            .fetch_all(database.pool().unwrap())
            .await
            .unwrap();
    assert_eq!(found.len(), 4, "one for each execution: {found:?}");
    assert!(found.iter().all(|(kind, _)| kind == "INTENT_MISSING"));
    assert!(found[0].1.contains(&bad.record.id.to_string()), "{found:?}");
    // Within the skew of clocks, and of what needs none.
    let mut skewed = event("team", "skewed");
    skewed.record.intent_time = Some(skewed.record.event_time + chrono::TimeDelta::seconds(299));
    let mut refusal = bad.clone();
    refusal.record.action = "permission_checked".into();
    journal.append(vec![skewed, refusal]).await.unwrap();
    let rows = records(&database, "team").await;
    let intents: HashMap<&str, bool> =
        rows.iter().map(|row| (row.action.as_str(), row.intent_time.is_some())).collect();
    // A refusal may tell of what was never begun.
    assert_eq!(intents, HashMap::from([("tool_invoked", true), ("permission_checked", false)]));
}

/// A UUIDv7 (RFC 9562, 5.7) of this time.
fn made_at(at: DateTime<Utc>) -> Uuid {
    let millis = u128::try_from(at.timestamp_millis()).unwrap();
    Uuid::from_u128(millis << 80 | Uuid::now_v7().as_u128() & ((1 << 80) - 1))
}

#[tokio::test]
async fn an_event_of_an_older_executor_has_the_time_of_its_execution_and_is_no_finding() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let actions = ["tool_invoked", "cache_hit", "cache_miss", "retry_attempted", "fallback_used"];
    let old = actions.map(|action| {
        let mut old = event("team", action);
        let intent = old.record.event_time - chrono::TimeDelta::milliseconds(1_234);
        old.record.action = action.into();
        (old.record.intent_time, old.record.execution_id) = (None, Some(made_at(intent)));
        old
    });
    assert_eq!(journal.append(old.to_vec()).await.unwrap().new, 5);
    // Its own time counts where it is said.
    let said = event("team", "said");
    journal.append(vec![said.clone()]).await.unwrap();
    let rows = records(&database, "team").await;
    let expected = Some(old[0].record.event_time - chrono::TimeDelta::milliseconds(1_234));
    assert!(rows[..5].iter().all(|row| row.intent_time == expected), "{rows:?}");
    assert_eq!(rows[5].intent_time, said.record.intent_time);
    let found: i64 = sqlx::query_scalar("SELECT count(*) FROM audit.finding")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(found, 0);
}
