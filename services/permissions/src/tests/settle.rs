//! Reservations taken and ended many at a time: each as if alone, and together in one statement.

use super::*;
use crate::{
    budget::set_budget,
    settle::{settle, settle_all, sweep},
    store::NewReservation,
};

fn end(decision_id: Uuid, committed: bool, cost_micro_usd: i64) -> Settlement {
    Settlement { team_id: "t".into(), decision_id, committed, cost_micro_usd }
}

/// A decision on each of so many calls.
async fn taken(desk: &Desk, calls: usize) -> Vec<Uuid> {
    let mut ids = Vec::new();
    for _ in 0..calls {
        let decision = desk.authorize(&asked("scout"), noon()).await.unwrap();
        assert!(decision.reserved);
        ids.push(decision.id);
    }
    ids
}

#[tokio::test]
async fn each_of_a_batch_ends_as_it_would_alone_and_the_unknown_are_told() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 10).await;
    set_budget(&database, &Teams::new(&database), &caller("root", Role::Admin), 1_000, noon()).await.unwrap();
    let desk = desk(&database);
    let mut ids = Vec::new();
    for _ in 0..5 {
        let call = Asked { cost_micro_usd: 100, ..asked("scout") };
        ids.push(desk.authorize(&call, noon()).await.unwrap().id);
    }
    settle(&desk.ledger, end(ids[4], true, 100)).await.unwrap();
    let of_another_team = Settlement { team_id: "other".into(), ..end(ids[3], false, 0) };
    let batch = vec![
        end(ids[0], true, 70),
        end(random(), true, 999),
        end(ids[1], false, 999),
        of_another_team,
        // Ended already, and twice in one batch: nothing more.
        end(ids[4], false, 0),
        end(ids[0], false, 0),
        end(ids[1], true, 5),
    ];
    let known = settle_all(&desk.ledger, batch).await.unwrap();
    assert_eq!(known, [true, false, true, false, true, true, true]);
    assert_eq!(used(&database, &granted, noon()).await, 4);
    let spend = store::spend_get(database.pool().unwrap(), "t", noon().date_naive()).await;
    assert_eq!(spend, (200, 170));
}

#[tokio::test]
async fn a_batch_is_one_statement_and_one_that_is_too_large_or_wrong_does_nothing() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 100).await;
    let desk = desk(&database);
    let ids = taken(&desk, 40).await;
    let (wrong, right) = (end(ids[39], true, -1), end(ids[0], false, 0));
    let refused = settle_all(&desk.ledger, vec![right, wrong]).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    let refused = settle_all(&desk.ledger, vec![end(ids[0], false, 0); 1_001]).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert_eq!(used(&database, &granted, noon()).await, 40);
    let known = settle_all(&desk.ledger, ids.iter().map(|&id| end(id, id != ids[3], 0)).collect()).await;
    assert_eq!(known.unwrap(), [true; 40]);
    assert_eq!(used(&database, &granted, noon()).await, 39);
    let transactions: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT xmin::text) FROM permissions.reservation")
            .fetch_one(database.pool().unwrap())
            .await
            .unwrap();
    assert_eq!(transactions, 1);
}

#[tokio::test]
async fn what_expired_and_was_made_counts_in_a_batch_unless_its_execution_took_a_place_anew() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 10).await;
    let desk = desk(&database);
    let calls = [asked("scout"), asked("scout"), asked("scout")];
    let mut first = Vec::new();
    for call in &calls {
        first.push(desk.authorize(call, noon()).await.unwrap().id);
    }
    assert_eq!(sweep(&database, noon() + TTL).await.unwrap(), 3);
    let anew = desk.authorize(&calls[1], noon() + TTL).await.unwrap().id;
    let batch =
        vec![end(first[0], true, 0), end(first[1], true, 0), end(first[2], false, 0), end(anew, true, 0)];
    assert_eq!(settle_all(&desk.ledger, batch).await.unwrap(), [true; 4]);
    assert_eq!(used(&database, &granted, noon()).await, 2);
}

#[tokio::test]
async fn calls_of_many_counters_at_once_get_the_places_of_their_own() {
    let database = team().await;
    let root = caller("root", Role::Admin);
    let mut grants = Vec::new();
    for limit in 1..=6 {
        let tool_name = format!("tool{limit}");
        let new = NewGrant { tool_name, ..new_grant(to_researchers(), limit) };
        grants.push(grant_permission(&database, &root, new, noon()).await.unwrap());
    }
    let desk = desk(&database);
    let calls = (0..120_usize).map(|n| {
        let desk = desk.clone();
        let mut call = asked(if n % 2 == 0 { "scout" } else { "second" });
        call.tool.name = format!("tool{}", 1 + n / 2 % 6);
        tokio::spawn(async move {
            let decision = desk.authorize(&call, noon()).await.unwrap();
            let used = decision.quota().unwrap().used;
            (call.agent, call.tool.name, decision.reason.is_none().then_some(used))
        })
    });
    let mut allowed = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        if let (agent, tool, Some(used)) = call.await.unwrap() {
            allowed.push((agent, tool, used));
        }
    }
    allowed.sort();
    let places = |agent: &'static str| {
        (1..=6)
            .flat_map(move |limit| (1..=limit).map(move |used| (agent.into(), format!("tool{limit}"), used)))
    };
    assert_eq!(allowed, places("scout").chain(places("second")).collect::<Vec<_>>());
    for (granted, limit) in grants.iter().zip(1..) {
        assert_eq!(used(&database, granted, noon()).await, 2 * limit);
    }
}

fn reservation(grant_id: Uuid, execution_id: Uuid) -> NewReservation {
    NewReservation {
        team_id: "t".into(),
        decision_id: random(),
        execution_id,
        grant_id,
        agent_id: "scout".into(),
        window_start: crate::authorize::window_start(noon()),
        tool_name: "python_sandbox".into(),
        tool_digest: "d".into(),
        arguments_digest: "a".into(),
        quota_limit: 1_000_000,
        day_start: noon(),
        day_limit: 0,
        total_limit: 0,
        approval_id: None,
        expire_time: noon() + TTL,
        day: None,
        cost_micro_usd: 0,
        budget_limit: 0,
    }
}

#[tokio::test]
async fn a_batch_in_which_one_holds_a_place_takes_nothing_by_the_short_way() {
    let database = team().await;
    let granted = grant(&database, to_agent("scout"), 9).await;
    let ids = taken(&desk(&database), 1).await;
    let held: Uuid =
        sqlx::query_scalar("SELECT execution_id FROM permissions.reservation WHERE decision_id = $1")
            .bind(ids[0])
            .fetch_one(database.pool().unwrap())
            .await
            .unwrap();
    let mut connection = database.pool().unwrap().acquire().await.unwrap();
    let grant_id = granted.grant.grant_id;
    let batch = [reservation(grant_id, random()), reservation(grant_id, held)];
    let rows = store::places_take(&mut connection, &[&batch[0], &batch[1]]).await.unwrap();
    assert!(rows.is_none());
    assert_eq!(used(&database, &granted, noon()).await, 1);
    let rows = store::places_take(&mut connection, &[&batch[0]]).await.unwrap().unwrap();
    assert_eq!((rows[0].granted, rows[0].before[0], rows[0].used.hour), (true, Some(1), 2));
    assert_eq!(used(&database, &granted, noon()).await, 2);
}

/// Whole tables read, and rows or index entries read, by statements on these tables.
async fn reads(connection: &mut store::Connection) -> (i64, i64) {
    sqlx::raw_sql("SELECT pg_stat_force_next_flush()").execute(&mut *connection).await.unwrap();
    sqlx::query_as(
        "SELECT sum(seq_scan)::bigint, sum(seq_tup_read + i.idx_tup_read)::bigint FROM pg_stat_user_tables t
         JOIN (SELECT relid, sum(idx_tup_read) AS idx_tup_read FROM pg_stat_user_indexes GROUP BY 1) i
         USING (relid)
         WHERE schemaname = 'permissions' AND relname IN ('reservation', 'counter', 'spend')",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

#[tokio::test]
async fn plans_made_for_small_tables_read_no_more_when_they_are_full() {
    plans_stay_good(false).await;
    // Now the planner knows how small they are.
    plans_stay_good(true).await;
}

async fn plans_stay_good(analyzed: bool) {
    let database = team().await;
    let mut kept = ::store::Kept::relaxed(&database);
    let mut connection = kept.take().await.unwrap();
    let grant_id = random();
    let with_day = NewReservation { day: Some(noon().date_naive()), ..reservation(grant_id, random()) };
    store::counters_make(&mut connection, &[&with_day]).await.unwrap();
    round(&mut connection, grant_id).await;
    if analyzed {
        sqlx::raw_sql("ANALYZE").execute(database.pool().unwrap()).await.unwrap();
        round(&mut connection, grant_id).await;
    }
    sqlx::raw_sql(
        "INSERT INTO permissions.reservation (team_id, decision_id, execution_id, state, grant_id, agent_id,
             window_start, tool_name, tool_digest, arguments_digest, used, quota_limit, expire_time)
         SELECT 't', gen_random_uuid(), gen_random_uuid(),
             (ARRAY['reserved', 'committed', 'expired'])[1 + n % 3],
             gen_random_uuid(), 'scout', now(), 'x', '', '', 1, 1, now() FROM generate_series(1, 5000) n;
         INSERT INTO permissions.counter
         SELECT 't', gen_random_uuid(), 'scout', now(), 1 FROM generate_series(1, 5000);
         INSERT INTO permissions.spend (team_id, day)
         SELECT 't' || n, now() FROM generate_series(1, 5000) n",
    )
    .execute(database.pool().unwrap())
    .await
    .unwrap();
    let before = reads(&mut connection).await;
    round(&mut connection, grant_id).await;
    let after = reads(&mut connection).await;
    assert_eq!(after.0, before.0, "{analyzed}");
    assert!(after.1 - before.1 < 1_000, "{analyzed} {}", after.1 - before.1);
}

/// Every statement of the ledger once: places taken and ended, with a budget and without, held ones too.
async fn round(connection: &mut store::Connection, grant_id: Uuid) {
    let short: Vec<_> = (0..8).map(|_| reservation(grant_id, random())).collect();
    let mut long: Vec<_> = (0..8).map(|_| reservation(grant_id, random())).collect();
    for (wanted, held) in long.iter_mut().zip(&short).skip(4) {
        wanted.execution_id = held.execution_id;
    }
    for wanted in &mut long[..2] {
        (wanted.day, wanted.cost_micro_usd, wanted.budget_limit) = (Some(noon().date_naive()), 1, 1_000);
    }
    let rows = store::places_take(connection, &short.iter().collect::<Vec<_>>()).await.unwrap().unwrap();
    assert!(rows.iter().all(|row| row.granted));
    let rows = store::reservations_insert(connection, &long.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(rows.iter().filter(|row| row.granted).count(), 4);
    assert_eq!(rows.iter().filter(|row| row.held.is_some()).count(), 4);
    sqlx::query(
        "UPDATE permissions.reservation SET state = 'expired' WHERE team_id = 't' AND decision_id = $1",
    )
    .bind(short[7].decision_id)
    .execute(&mut *connection)
    .await
    .unwrap();
    let ids = short.iter().chain(&long[..4]).map(|wanted| wanted.decision_id);
    let ends: Vec<_> = ids.enumerate().map(|(n, id)| end(id, n % 2 == 1, 1)).collect();
    let known = store::reservations_settle(connection, &ends.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(known, [true; 12]);
}
