//! Calls of a later time: no look for work walks over them, and each is found when its time has come.

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::ledger::intent;
use crate::store::{self, Claimed, Load};

/// Accepts a call that waits, due now.
async fn accept(pool: &PgPool) -> Uuid {
    let mut intent = intent(Uuid::nil(), "");
    (intent.execution.status, intent.execution.asynchronous) = ("queued".into(), true);
    intent.execution.max_deliveries = 5;
    intent.job = Some("\\x00".into());
    let mut transaction = store::begin(pool, true).await.unwrap();
    store::intents_insert(&mut transaction, &[&intent]).await.unwrap();
    transaction.commit().await.unwrap();
    intent.execution.id
}

/// Takes what is due, and tells how many rows of the queue that read. Nothing stays taken.
async fn claim(pool: &PgPool) -> (Vec<Uuid>, i64) {
    let mut transaction = store::begin(pool, true).await.unwrap();
    // The figures of a connection, with those of its earlier transactions that are not sent off yet.
    let figures = "SELECT (seq_tup_read + idx_tup_fetch)::bigint FROM pg_stat_xact_user_tables
                   WHERE schemaname = 'executor' AND relname = 'job'";
    let before: i64 = sqlx::query_scalar(figures).fetch_one(&mut *transaction).await.unwrap();
    let claimed = store::jobs_claim_in_txn(&mut transaction, Uuid::max(), &Load::default(), (10, 5)).await;
    let after: i64 = sqlx::query_scalar(figures).fetch_one(&mut *transaction).await.unwrap();
    let ids = claimed.unwrap().into_iter().map(|Claimed { execution, .. }| execution.id).collect();
    (ids, after - before)
}

#[tokio::test]
async fn a_hundred_thousand_calls_of_tomorrow_are_not_read_to_find_one_of_now() {
    let database = testkit::database(&[crate::schema()]).await;
    let pool = database.pool().unwrap();
    let due = accept(pool).await;
    sqlx::query(
        "INSERT INTO executor.job (team_id, id, tool_name, priority, not_before, payload)
         SELECT 'team', gen_random_uuid(), 'tool', 100, now() + interval '1 day', '' FROM generate_series(1, 100000)",
    )
    .execute(pool)
    .await
    .unwrap();
    let aside = async || store::jobs_set_aside(pool, Duration::from_secs(5), 20_000).await.unwrap();
    while aside().await > 0 {}
    let (found, read) = claim(pool).await;
    assert_eq!(found, [due]);
    assert!(read < 100, "{read} rows");
    // Its time comes: it is found, and the others still are not read.
    let next = accept(pool).await;
    let later = "UPDATE executor.job SET not_before = $2 WHERE id = $1";
    for (at, moved, expected) in [(600, 1, vec![due]), (-1, 1, vec![due, next])] {
        let at = chrono::Utc::now() + chrono::TimeDelta::seconds(at);
        sqlx::query(later).bind(next).bind(at).execute(pool).await.unwrap();
        assert_eq!(aside().await, moved);
        let (found, read) = claim(pool).await;
        assert_eq!(found, expected);
        assert!(read < 100, "{read} rows");
    }
}
