//! Use and costs: sums equal what an independent statement counts in the records themselves.

use ::store::Database;
use chrono::{TimeDelta, Utc};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use sqlx::Row;
use types::{Caller, Role};

use super::{
    event, journal,
    query::{auditor, event_at, pages},
    records,
};
use crate::{
    Error,
    costs::{self, Group},
    fold::fold,
    store::{CostRow, Grouping, Period, UseRow},
    usage,
};

/// Calls, refusals and more over nine days, folded in several turns.
async fn filled(database: &Database) {
    let (journal, mut random) = (journal(database), StdRng::seed_from_u64(3));
    for _ in 0..6 {
        let drafts = (0..80).map(|_| {
            let at = Utc::now() - TimeDelta::minutes(random.random_range(0..9 * 24 * 60));
            let mut draft = event_at("team", ["a", "b"].choose(&mut random).unwrap(), at);
            let (action, result) = *[
                ("tool_invoked", "success"),
                ("tool_invoked", "failure"),
                ("tool_invoked", "unknown"),
                ("cache_hit", "success"),
                ("cache_miss", "success"),
                ("retry_attempted", "failure"),
                ("fallback_used", "success"),
                ("permission_checked", "denied"),
                ("error_occurred", "failure"),
                ("access_decided", "success"),
            ]
            .choose(&mut random)
            .unwrap();
            let record = &mut draft.record;
            (record.action, record.result) = (action.into(), result.into());
            record.tool_name = (*["echo", "shell", "http"].choose(&mut random).unwrap()).into();
            record.classification = (*["public", "restricted"].choose(&mut random).unwrap()).into();
            record.task_id = (*["", "t 1", "t2", "t3"].choose(&mut random).unwrap()).into();
            record.duration_us = random.random_range(0..50_000);
            record.cost_micro_usd = random.random_range(0..900);
            if action == "error_occurred" && random.random_bool(0.5) {
                record.execution_id = None;
            }
            draft
        });
        journal.append(drafts.collect()).await.unwrap();
    }
    journal.append(vec![event("other", "a")]).await.unwrap();
    let all = records(database, "team").await;
    for part in all.chunks(137) {
        let mut transaction = database.pool().unwrap().begin().await.unwrap();
        fold(&mut transaction, "team", part).await.unwrap();
        transaction.commit().await.unwrap();
    }
}

fn all_time() -> Period {
    usage::period("", "").unwrap()
}

const IS_CALL: &str =
    "(action IN ('tool_invoked', 'cache_hit') OR action = 'error_occurred' AND execution_id IS NOT NULL)";

/// What the records say: calls, successes, failures, unknown, denials, hits, misses, duration, cost by this key.
async fn counted(database: &Database, key: &str, and: &str) -> Vec<(String, [i64; 9])> {
    let statement = format!(
        "SELECT {key} AS key, count(*) FILTER (WHERE {IS_CALL}),
                count(*) FILTER (WHERE {IS_CALL} AND result = 'success'),
                count(*) FILTER (WHERE {IS_CALL} AND result NOT IN ('success', 'unknown')),
                count(*) FILTER (WHERE {IS_CALL} AND result = 'unknown'),
                count(*) FILTER (WHERE action = 'permission_checked' AND result = 'denied'),
                count(*) FILTER (WHERE action = 'cache_hit'), count(*) FILTER (WHERE action = 'cache_miss'),
                coalesce(sum(duration_us) FILTER (WHERE {IS_CALL}), 0)::bigint,
                coalesce(sum(cost_micro_usd) FILTER (WHERE {IS_CALL}), 0)::bigint
         FROM audit.record WHERE team_id = 'team' AND {and}
           AND ({IS_CALL} OR action IN ('cache_miss', 'permission_checked'))
         GROUP BY 1 ORDER BY 1"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(statement)).fetch_all(database.pool().unwrap()).await.unwrap();
    rows.iter().map(|row| (row.get(0), std::array::from_fn(|column| row.get(column + 1)))).collect()
}

fn figures(row: &UseRow) -> [i64; 9] {
    [
        row.calls,
        row.successes,
        row.failures,
        row.unknown,
        row.denials,
        row.cache_hits,
        row.cache_misses,
        row.duration_us,
        row.cost_micro_usd,
    ]
}

/// Every row of use over pages of this size, and the total.
async fn used(database: &Database, period: &Period, by: Grouping, size: i32) -> (Vec<UseRow>, UseRow) {
    let (mut rows, mut token) = (Vec::new(), String::new());
    let (pages, caller) = (pages(), auditor("team"));
    loop {
        let page = (size, token.as_str());
        let asked = usage::get_usage(database, &pages, &caller, period.clone(), by, page);
        let got = asked.await.unwrap();
        rows.extend(got.rows);
        token = got.next_page_token;
        if token.is_empty() {
            return (rows, got.total);
        }
    }
}

#[tokio::test]
async fn use_by_any_key_is_what_the_records_say() {
    let database = testkit::database(&[crate::schema()]).await;
    filled(&database).await;
    let no = Grouping::default();
    let day = "to_char(event_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')";
    type Key = fn(&UseRow) -> String;
    let by: [(Grouping, String, Key); 5] = [
        (Grouping { day: true, ..no }, day.into(), |row| row.day.clone()),
        (Grouping { tool: true, ..no }, "tool_name".into(), |row| row.tool_name.clone()),
        (Grouping { classification: true, ..no }, "classification".into(), |row| row.classification.clone()),
        (Grouping { day: true, agent: true, ..no }, format!("{day} || agent_id"), |row| {
            format!("{}{}", row.day, row.agent_id)
        }),
        (no, "''".into(), |_| String::new()),
    ];
    for (grouping, key, of) in by {
        let (rows, total) = used(&database, &all_time(), grouping, 3).await;
        let got: Vec<_> = rows.iter().map(|row| (of(row), figures(row))).collect();
        assert_eq!(got, counted(&database, &key, "true").await, "{grouping:?}");
        assert_eq!(vec![(String::new(), figures(&total))], counted(&database, "''", "true").await);
    }
    let of_tool = Period { tool_name: Some("echo".into()), agent_id: Some("b".into()), ..all_time() };
    let (rows, _) = used(&database, &of_tool, no, 50).await;
    let expected = counted(&database, "''", "tool_name = 'echo' AND agent_id = 'b'").await;
    assert_eq!(vec![(String::new(), figures(&rows[0]))], expected);
}

/// Every row of costs over pages of this size.
async fn spent(database: &Database, period: &Period, group: Group, size: i32) -> (Vec<CostRow>, i64) {
    let (mut rows, mut token) = (Vec::new(), String::new());
    let (pages, caller) = (pages(), auditor("team"));
    loop {
        let page = (size, token.as_str());
        let asked = costs::get_costs(database, &pages, &caller, group, period.clone(), page);
        let got = asked.await.unwrap();
        rows.extend(got.rows);
        token = got.next_page_token;
        if token.is_empty() {
            return (rows, got.total_micro_usd);
        }
    }
}

#[tokio::test]
async fn costs_by_any_key_are_what_the_records_say_dearest_first() {
    let database = testkit::database(&[crate::schema()]).await;
    filled(&database).await;
    let day = "to_char(event_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')";
    for (group, key, and) in [
        (Group::Task, "task_id", "task_id <> ''"),
        (Group::Agent, "agent_id", "true"),
        (Group::Tool, "tool_name", "true"),
        (Group::Day, day, "true"),
    ] {
        let (rows, total) = spent(&database, &all_time(), group, 2).await;
        let mut expected: Vec<_> = counted(&database, key, and)
            .await
            .into_iter()
            .map(|(key, [calls, _, failures, .., cost])| (key, cost, calls, failures))
            .collect();
        if group != Group::Day {
            expected.sort_by_key(|(key, cost, ..)| (-cost, key.clone()));
        }
        assert_eq!(total, expected.iter().map(|(_, cost, ..)| cost).sum::<i64>());
        let got: Vec<_> =
            rows.iter().map(|row| (row.key.clone(), row.cost_micro_usd, row.calls, row.failures)).collect();
        assert_eq!(got, expected, "{group:?}");
        assert!(rows.iter().all(|row| row.first_time <= row.last_time));
    }
    let task = Period { task_id: Some("t 1".into()), ..all_time() };
    let (rows, total) = spent(&database, &task, Group::Agent, 50).await;
    assert_eq!(total, rows.iter().map(|row| row.cost_micro_usd).sum::<i64>());
    assert_eq!(rows.len(), 2, "of both agents");
}

#[tokio::test]
async fn an_agent_sees_its_own_and_a_task_is_not_told_by_day() {
    let database = testkit::database(&[crate::schema()]).await;
    filled(&database).await;
    let agent = Caller { agent: "a".into(), role: Role::Agent, ..auditor("team") };
    let page = (0, "");
    let by = Grouping { agent: true, ..Grouping::default() };
    let own = usage::get_usage(&database, &pages(), &agent, all_time(), by, page).await.unwrap();
    assert!(own.rows.iter().all(|row| row.agent_id == "a") && own.rows.len() == 1);
    let other = Period { agent_id: Some("b".into()), ..all_time() };
    let refused = costs::get_costs(&database, &pages(), &agent, Group::Task, other, page).await;
    assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "agent_id"));
    let task = Period { task_id: Some("t2".into()), ..all_time() };
    let refused = costs::get_costs(&database, &pages(), &auditor("team"), Group::Day, task, page).await;
    assert!(matches!(refused, Err(Error::Invalid { field, .. }) if field == "task_id"));
}
