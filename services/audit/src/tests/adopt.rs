//! What older processes wrote, moved over.

use ::store::Database;
use proto::audit::v1::PayloadState;

use super::{event, journal, records, trail};
use crate::{adopt::adopt_some, append::Appended, payload::Draft, store};

/// As the version before wrote it: in the clear, with the next position.
pub(super) async fn write_old(database: &Database, draft: &Draft, message: &str) {
    let record = &draft.record;
    sqlx::query(
        "WITH head AS (
             INSERT INTO audit.head AS h (team_id, sequence) VALUES ($1, 1)
             ON CONFLICT (team_id) DO UPDATE SET sequence = h.sequence + 1 RETURNING sequence
         )
         INSERT INTO audit.event (
             team_id, id, sequence, event_time, action, result, agent_id, tool_name, tool_version, tool_digest,
             execution_id, task_id, trace_id, reason, message, arguments_json, arguments_digest, result_digest,
             duration_ms, cost_micro_usd, sensitivity)
         SELECT $1, $2, sequence, $3, $4, $5, $6, 'tool', '1.0.0', 'd', $7, '', '', '', $8, '{}', 'ad', 'rd', 1.2345,
             7, $9 FROM head",
    )
    .bind(&record.team_id)
    .bind(record.id)
    .bind(record.event_time)
    .bind(&record.action)
    .bind(&record.result)
    .bind(&record.agent_id)
    .bind(record.execution_id)
    .bind(message)
    .bind(&record.classification)
    .execute(database.pool().unwrap())
    .await
    .unwrap();
}

#[tokio::test]
async fn old_events_move_over_with_their_positions_and_nothing_of_them_stays() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let old: Vec<Draft> =
        (0..1_500).map(|n| event(if n % 3 == 0 { "other" } else { "team" }, "old")).collect();
    for draft in &old {
        write_old(&database, draft, "said").await;
    }
    // One that is sent again, and a new one, while the old ones wait.
    let resent = old[1].clone();
    let done = journal.append(vec![resent, event("team", "new")]).await.unwrap();
    assert_eq!(done, Appended { new: 1, duplicates: 1 });
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    let mut moved = 0;
    loop {
        match adopt_some(&mut connection, &journal.subjects).await.unwrap() {
            0 => break,
            some => moved += some,
        }
    }
    assert_eq!(moved, 1_500);
    let rows = records(&database, "team").await;
    assert_eq!((rows.len(), records(&database, "other").await.len()), (1_001, 500));
    let expected: Vec<_> = old.iter().filter(|draft| draft.record.team_id == "team").collect();
    assert!(rows.iter().zip(&expected).all(|(row, draft)| row.id == draft.record.id), "in their order");
    let event = trail(&database, &journal, "team").await.remove(0);
    assert_eq!((event.message.as_str(), event.arguments_digest.as_str()), ("said", "ad"));
    assert_eq!((event.payload_state(), event.duration_ms), (PayloadState::Kept, 1.235));
    assert_eq!((rows[0].classification.as_str(), rows[0].intent_time), ("internal", None));
    let left: (i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM audit.event),
            (SELECT sum(pg_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'audit.event'::regclass)",
    )
    .fetch_one(database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(left, (0, 0), "not even in pages");
    assert_eq!(journal.append(vec![old[2].clone()]).await.unwrap(), Appended { new: 0, duplicates: 1 });
}

/// Two versions were sent the same event at the same time: both gave it a position.
#[tokio::test]
async fn an_event_that_two_versions_took_keeps_both_positions() {
    let database = testkit::database(&[crate::schema()]).await;
    let journal = journal(&database);
    let (twice, other) = (event("team", "twice"), event("team", "other"));
    journal.append(vec![twice.clone()]).await.unwrap();
    write_old(&database, &twice, "").await;
    write_old(&database, &other, "").await;
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    assert_eq!(adopt_some(&mut connection, &journal.subjects).await.unwrap(), 2);
    let rows = records(&database, "team").await;
    assert_eq!(rows.iter().map(|row| row.agent_id.as_str()).collect::<Vec<_>>(), ["twice", "twice", "other"]);
    assert_ne!(rows[0].id, rows[1].id);
    assert_eq!(rows[0].id.as_bytes()[..6], rows[1].id.as_bytes()[..6], "in the same partition");
    trail(&database, &journal, "team").await;
    assert!(store::old_events_clear(&mut connection).await.unwrap());
}
