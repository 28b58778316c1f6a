//! The ledger itself: many entries in one commit, each with its own fate.

use ::store::{Database, Error};
use chrono::Utc;
use uuid::Uuid;

use super::house::TEAM;
use crate::{
    ledger::Ledger,
    outcome::{self, Finished, Status},
    relay::Relays,
    store::{self, Execution, Intent, OutboxEvent},
};

/// The intent of an execution that `owner` runs.
pub(crate) fn intent(owner: Uuid, request_id: &str) -> Intent {
    let execution = Execution {
        team_id: TEAM.into(),
        id: types::new_id(),
        tool_name: "tool".into(),
        tool_version: "1.0.0".into(),
        effect: "side_effect".into(),
        sensitivity: "internal".into(),
        agent_id: "agent".into(),
        request_id: request_id.into(),
        decision_id: Some(types::new_id()),
        arguments_json: "{}".into(),
        status: Status::Running.as_str().into(),
        create_time: Utc::now(),
        owner,
        lease_epoch: 1,
        reserved: true,
        ..Execution::default()
    };
    Intent { execution, body_digest: "digest".into(), job: None }
}

/// A ledger with its writers, and its database.
pub(crate) async fn ledger() -> (Ledger, Database) {
    let database = testkit::database(&[crate::schema()]).await;
    (Ledger::start(&database, &Relays::new(&database)), database)
}

async fn count(database: &Database, query: &'static str) -> i64 {
    sqlx::query_scalar(query).fetch_one(database.pool().unwrap()).await.unwrap()
}

#[tokio::test]
async fn one_row_that_is_refused_does_not_fail_its_neighbours() {
    let (ledger, database) = ledger().await;
    let event = |destination| vec![OutboxEvent { destination, payload: vec![1] }];
    // One thread and no turn for the writer in between: the three stand in one batch.
    let (first, poison, last) = tokio::join!(
        ledger.events(event("audit")),
        ledger.events(event("no\0text")),
        ledger.events(event("selector"))
    );
    assert!(first.is_ok() && last.is_ok(), "{first:?} {last:?}");
    assert!(matches!(poison, Err(Error::Failed(_))), "{poison:?}");
    assert_eq!(count(&database, "SELECT count(*) FROM executor.outbox").await, 2);
}

#[tokio::test]
async fn of_two_intents_with_one_request_id_one_is_written() {
    let (ledger, database) = ledger().await;
    let owner = Uuid::new_v4();
    for durable in [true, false] {
        let id = format!("request-{durable}");
        let (one, other) = tokio::join!(
            ledger.intent(intent(owner, &id), durable),
            ledger.intent(intent(owner, &id), durable)
        );
        assert!(one.unwrap() ^ other.unwrap());
        assert!(!ledger.intent(intent(owner, &id), durable).await.unwrap());
    }
    assert_eq!(count(&database, "SELECT count(*) FROM executor.execution").await, 2);
}

#[tokio::test]
async fn an_outcome_sent_again_counts_as_written_and_tells_nothing_twice() {
    let (ledger, database) = ledger().await;
    let intent = intent(Uuid::new_v4(), "");
    assert!(ledger.intent(intent.clone(), true).await.unwrap());
    let ended = Ok("{}".to_owned());
    let outcome =
        outcome::outcome(&intent.execution, &Finished::without_attempt(ended), "{}".into(), Utc::now());
    assert!(ledger.outcome(outcome.clone(), true).await.unwrap());
    // As after a commit whose answer was lost.
    assert!(ledger.outcome(outcome.clone(), true).await.unwrap());
    // One for audit, one for the selector, and the end of the reservation.
    assert_eq!(count(&database, "SELECT count(*) FROM executor.outbox").await, 3);
    let stale = store::Outcome { lease_epoch: 0, ..outcome };
    assert!(!ledger.outcome(stale, true).await.unwrap());
}

#[tokio::test]
async fn large_outcomes_are_written_in_more_than_one_commit() {
    let (ledger, database) = ledger().await;
    let owner = Uuid::new_v4();
    let large = format!("\"{}\"", "x".repeat(3 << 20));
    let intents: Vec<_> = (0..6).map(|_| intent(owner, "")).collect();
    let written =
        futures_util::future::join_all(intents.iter().map(|intent| ledger.intent(intent.clone(), true)));
    assert!(written.await.into_iter().all(Result::unwrap));
    let outcomes = intents.iter().map(|intent| {
        let outcome = outcome::outcome(
            &intent.execution,
            &Finished::without_attempt(Ok(large.clone())),
            large.clone(),
            Utc::now(),
        );
        ledger.outcome(outcome, true)
    });
    assert!(futures_util::future::join_all(outcomes).await.into_iter().all(Result::unwrap));
    let commits = "SELECT count(DISTINCT xmin::text) FROM executor.execution";
    assert!(count(&database, commits).await >= 3);
}

#[tokio::test]
async fn a_month_whose_partition_cannot_be_made_does_not_stop_the_others() {
    let (_, database) = ledger().await;
    let pool = database.pool().unwrap();
    let now = Utc::now();
    let this = now.format("execution_%Y_%m").to_string();
    let next = (now + chrono::Months::new(1)).format("execution_%Y_%m").to_string();
    for statement in [
        format!("DROP TABLE executor.{this}"),
        format!("DROP TABLE executor.{next}"),
        // A row of this month in the default partition: PostgreSQL refuses the partition.
        format!(
            "INSERT INTO executor.execution (team_id, id, tool_name, tool_version, tool_digest, effect,
                 sensitivity, agent_id, task_id, request_id, selection_id, trace_id, arguments_json,
                 arguments_digest, status, create_time, owner)
             VALUES ('t', '{}', '', '', '', '', '', '', '', '', '', '', '', '', 'failed', now(), '{}')",
            types::new_id(),
            Uuid::new_v4()
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(pool).await.unwrap();
    }
    store::partitions_ensure(pool).await.unwrap();
    let exists = |name: String| async move {
        let query = "SELECT to_regclass('executor.' || $1) IS NOT NULL";
        sqlx::query_scalar::<_, bool>(query).bind(name).fetch_one(pool).await.unwrap()
    };
    assert!(exists(next).await && !exists(this).await);
}
