//! What is written again and again finds its rows by their keys once the planner knows the tables, however they grow;
//! and what is listed by a rare status does not walk over all that went well.

use ::store::Kept;
use chrono::Utc;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use super::ledger::intent;
use crate::{
    events,
    outcome::{self, Finished, Reached, ToolError, ToolErrorCode},
    store::{self, Execution, Intent, OutboxEvent, Outcome, ProgressEvent},
};

/// Rows that are in every table at the end.
const FULL: usize = 4_000;

/// Fills every table up to so many rows: a third of the executions run.
async fn fill(pool: &PgPool, from: usize, to: usize) {
    let each = format!("FROM generate_series({}, {to}) n", from + 1);
    let execution = format!(
        "INSERT INTO executor.execution (team_id, id, tool_name, tool_version, tool_digest, effect, sensitivity,
             agent_id, task_id, request_id, selection_id, trace_id, arguments_json, arguments_digest, status,
             create_time, end_time, owner)
         SELECT 'team', (substr(executor.uuid_floor(now() - n * interval '1 s')::text, 1, 14) || '7'
                 || substr(gen_random_uuid()::text, 16))::uuid, 'tool', '1', '', '', '', 'agent', '', '', '', '', '{{}}',
             '', (ARRAY['succeeded', 'running', 'queued'])[1 + n % 3], now(), CASE WHEN n % 3 = 0 THEN now() END,
             gen_random_uuid() {each}"
    );
    let request = format!(
        "INSERT INTO executor.request (team_id, request_id, execution_id, body_digest)
         SELECT 'team', 'old' || n, gen_random_uuid(), '' {each}"
    );
    let job = format!(
        "INSERT INTO executor.job (team_id, id, tool_name, priority, not_before, owner, payload)
         SELECT 'team', gen_random_uuid(), 'tool', 0, now(), CASE WHEN n % 2 = 0 THEN gen_random_uuid() END, '' {each}"
    );
    let progress = format!(
        "INSERT INTO executor.progress (team_id, execution_id, sequence, kind, body_json, create_time)
         SELECT 'team', gen_random_uuid(), n, 'log', '{{}}', now() {each}"
    );
    let outbox = format!("INSERT INTO executor.outbox (destination, payload) SELECT 'audit', '' {each}");
    for statement in [execution, request, job, progress, outbox] {
        sqlx::query(AssertSqlSafe(statement)).execute(pool).await.unwrap();
    }
}

/// Whole tables read, and rows or index entries read, by statements on these tables.
async fn reads(connection: &mut PgConnection) -> (i64, i64) {
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_as(
        "SELECT sum(seq_scan)::bigint, sum(seq_tup_read + i.idx_tup_read)::bigint FROM pg_stat_user_tables t
         JOIN (SELECT relid, sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes GROUP BY 1) i
         USING (relid)
         WHERE schemaname = 'executor' AND relname ~ '^(execution|request|job|progress|outbox)'",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

fn intents() -> Vec<Intent> {
    let one = |n: usize| {
        let mut intent = intent(Uuid::new_v4(), &Uuid::new_v4().to_string());
        if n.is_multiple_of(2) {
            intent.execution.asynchronous = true;
            intent.job = Some("\\x00".into());
        }
        intent
    };
    (0..8).map(one).collect()
}

/// Half of them leave the queue, and the others give their request ids back.
fn outcomes(intents: &[Intent]) -> Vec<Outcome> {
    let held_back = || ToolError::new(ToolErrorCode::RateLimited, "later").having(Reached::No);
    let one = |execution: &Execution| {
        let finished = Finished::without_attempt(Err(held_back()));
        outcome::outcome(execution, &finished, String::new(), Utc::now())
    };
    intents.iter().map(|intent| one(&intent.execution)).collect()
}

/// Every statement of the ledger once.
async fn round(connection: &mut PgConnection) {
    let intents = intents();
    let written = store::intents_insert(connection, &intents.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(written.len(), 8);
    let said = |intent: &Intent| ProgressEvent {
        team_id: intent.execution.team_id.clone(),
        execution_id: intent.execution.id,
        sequence: crate::progress::EPOCH + 1,
        kind: "log".into(),
        body_json: "{}".into(),
        create_time: Utc::now(),
    };
    let said: Vec<_> = intents.iter().map(said).collect();
    store::progress_insert(connection, &said.iter().collect::<Vec<_>>()).await.unwrap();
    let outcomes = outcomes(&intents);
    let outcomes: Vec<_> = outcomes.iter().collect();
    assert_eq!(store::outcomes_update(connection, &outcomes).await.unwrap().len(), 8);
    assert_eq!(store::outcomes_recorded(connection, &outcomes).await.unwrap().len(), 8);
    let event = OutboxEvent { destination: events::AUDIT, payload: vec![1] };
    store::events_insert(connection, &[&event; 8]).await.unwrap();
}

async fn plans_stay_good(size: usize) {
    let database = testkit::database(&[crate::schema()]).await;
    let pool = database.pool().unwrap();
    // What looks after the tables would have the plans made anew, at a time of its own.
    sqlx::raw_sql(
        "DO $$ DECLARE name text; BEGIN
             FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'executor'::regnamespace AND relkind = 'r' LOOP
                 EXECUTE format('ALTER TABLE executor.%I SET (autovacuum_enabled = off)', name);
             END LOOP;
         END $$",
    )
    .execute(pool)
    .await
    .unwrap();
    fill(pool, 0, size).await;
    sqlx::raw_sql("ANALYZE").execute(pool).await.unwrap();
    let mut connection = Kept::relaxed(&database).take().await.unwrap();
    round(&mut connection).await;
    fill(pool, size, FULL).await;
    let before = reads(&mut connection).await;
    round(&mut connection).await;
    let after = reads(&mut connection).await;
    let left =
        sqlx::query_scalar::<_, i64>("SELECT count(*) FROM executor.job").fetch_one(pool).await.unwrap();
    assert_eq!((after.0 - before.0, usize::try_from(left).unwrap()), (0, FULL), "{size}");
    assert!(after.1 - before.1 < 500, "{size}: {} rows", after.1 - before.1);
}

#[tokio::test]
async fn plans_made_once_a_table_is_known_read_no_more_when_it_is_full() {
    // A plan of an earlier time walks over what there is until it is made anew: see `Kept`.
    for size in [300, 3_000] {
        plans_stay_good(size).await;
    }
}

#[tokio::test]
async fn a_rare_status_is_listed_without_a_walk_over_all_that_went_well() {
    let database = testkit::database(&[crate::schema()]).await;
    // One connection, so that its figures are all that there are.
    let options = (*database.pool().unwrap().connect_options()).clone();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect_with(options).await.unwrap();
    fill(&pool, 0, FULL).await;
    for statement in [
        "UPDATE executor.execution SET status = 'succeeded', end_time = now()",
        "UPDATE executor.execution SET status = 'dead_letter' WHERE id IN
             (SELECT id FROM executor.execution ORDER BY id LIMIT 3)",
        "VACUUM ANALYZE executor.execution",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let filter = store::Filter { status: Some("dead_letter".into()), ..store::Filter::default() };
    let before = reads(&mut pool.acquire().await.unwrap()).await;
    // Often enough for a connection to make up its mind about a plan.
    for _ in 0..20 {
        let found = store::execution_list(&pool, "team", &filter, None, 51).await.unwrap();
        assert_eq!(found.len(), 3);
    }
    let after = reads(&mut pool.acquire().await.unwrap()).await;
    assert!(after.1 - before.1 < 20 * 50, "{} rows", after.1 - before.1);
}
