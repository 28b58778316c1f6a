//! Outcomes through the whole service: each counts once, whole or not at all, and turns the ranking.

use chrono::Utc;
use proto::selector::v1::Outcome;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{
    house::{House, outcome, task, tool, until},
    searchers,
};
use crate::learn;

#[tokio::test]
async fn history_decides_between_equals_and_each_outcome_counts_once() {
    let house = searchers().await;
    let good: Vec<_> = (0..10).map(|_| outcome("scout", "beta_search", true, 50.0)).collect();
    let bad: Vec<_> = (0..10).map(|_| outcome("scout", "alpha_search", false, 50.0)).collect();
    let twice = [good.clone(), bad, vec![good[0].clone()]].concat();
    assert_eq!(house.record(twice.clone()).await.unwrap(), 20);
    assert_eq!(house.record(twice).await.unwrap(), 0);
    let answer = house.select(task("search the web")).await.unwrap();
    let primary = answer.primary.unwrap();
    assert_eq!((primary.name.as_str(), primary.executions), ("beta_search", 10));
    assert!(primary.suitability_score > 0.6, "{primary:?}");
    assert!(primary.reason.starts_with("ahead of alpha_search by success"), "{}", primary.reason);
    assert!(primary.reason.contains("10 executions, 100 % succeeded"), "{}", primary.reason);
    assert!(answer.alternatives[0].suitability_score < 0.4);
}

#[tokio::test]
async fn another_agent_learns_from_the_team_but_more_from_itself() {
    let house = searchers().await;
    let teams = (0..10).map(|_| outcome("veteran", "alpha_search", true, 50.0));
    let own = (0..6).map(|_| outcome("scout", "alpha_search", false, 50.0));
    house.record(teams.chain(own).collect()).await.unwrap();
    let suitability = async |agent: &str| {
        let answer = house.select_as("team", agent, task("search the web")).await.unwrap();
        let tools = answer.primary.into_iter().chain(answer.alternatives);
        tools.into_iter().find(|tool| tool.name == "alpha_search").unwrap().suitability_score
    };
    let (veteran, newcomer, scout) =
        (suitability("veteran").await, suitability("newcomer").await, suitability("scout").await);
    assert!(veteran > newcomer && newcomer > scout, "{veteran} {newcomer} {scout}");
    assert!(scout < 0.5, "{scout}");
}

#[tokio::test]
async fn wrong_outcomes_are_refused_whole() {
    let house = searchers().await;
    let good = outcome("scout", "alpha_search", true, 1.0);
    for bad in [
        Outcome { event_id: "x".into(), ..good.clone() },
        Outcome { team_id: String::new(), ..good.clone() },
        Outcome { duration_ms: f64::NAN, ..good.clone() },
        Outcome { cost_micro_usd: -1, ..good.clone() },
    ] {
        let refusal = house.record(vec![good.clone(), bad]).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
    }
    let many = (0..1_001).map(|_| outcome("scout", "alpha_search", true, 1.0)).collect();
    assert_eq!(house.record(many).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(house.record(vec![good]).await.unwrap(), 1, "nothing of the refused was taken");
}

#[tokio::test]
async fn requests_that_share_a_statement_are_each_whole_or_nothing() {
    let house = House::new().await;
    let [first, shared, second, late] = [(); 4].map(|()| outcome("scout", "tool", true, 50.0));
    // PostgreSQL keeps no character of code 0 in a text.
    let bad = outcome("scout", "bad\0", true, 50.0);
    let beside = outcome("scout", "beside", true, 50.0);
    let answers = tokio::join!(
        house.record(vec![first, shared.clone()]),
        house.record(vec![beside, bad]),
        house.record(vec![shared.clone(), second]),
    );
    assert_eq!((answers.0.unwrap(), answers.2.unwrap()), (2, 1));
    assert_eq!(answers.1.unwrap_err().code(), Code::Internal);
    let answers = tokio::join!(house.record(vec![shared.clone()]), house.record(vec![late, shared]));
    assert_eq!((answers.0.unwrap(), answers.1.unwrap()), (0, 1));
    let executions: Vec<(String, i64)> = sqlx::query_as("SELECT tool_name, executions FROM selector.record")
        .fetch_all(house.database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(executions, [("tool".to_owned(), 4)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_with_the_same_outcomes_count_each_once() {
    let first = House::new().await;
    let second = House::on(first.database.clone()).await;
    let outcomes: Vec<_> =
        (0..3_000).map(|n| outcome(["a", "b", "c"][n % 3], ["one", "two"][n % 2], true, 50.0)).collect();
    let parts = |size| outcomes.chunks(size).map(<[_]>::to_vec).collect::<Vec<_>>();
    let send = async |house: &House, parts: Vec<Vec<_>>| {
        let mut recorded = 0;
        for part in parts {
            recorded += house.record(part).await.unwrap();
        }
        recorded
    };
    let backwards = parts(37).into_iter().rev().collect();
    let (front, back, middle) =
        tokio::join!(send(&first, parts(53)), send(&second, backwards), send(&second, parts(71)));
    assert_eq!(front + back + middle, 3_000);
    let counted: i64 = sqlx::query_scalar("SELECT sum(executions)::bigint FROM selector.record")
        .fetch_one(first.database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(counted, 3_000);
}

#[tokio::test]
async fn a_new_replica_knows_the_history_and_a_running_one_reads_it() {
    let first = searchers().await;
    let running = House::on(first.database.clone()).await;
    running.add(tool("alpha_search", "Searches the web for pages.", &["search"]));
    let executions =
        async |house: &House| house.select(task("search the web")).await.unwrap().primary.unwrap().executions;
    first.record(vec![outcome("scout", "alpha_search", true, 50.0)]).await.unwrap();
    let second = House::on(first.database.clone()).await;
    second.add(tool("alpha_search", "Searches the web for pages.", &["search"]));
    assert_eq!(executions(&second).await, 1);
    until(async || executions(&running).await == 1).await;
}

#[tokio::test]
async fn an_outcome_that_commits_late_is_still_read() {
    let house = searchers().await;
    let pool = house.database.pool().unwrap();
    let mut late = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO selector.record (team_id, tool_name, agent_id, category, executions, successes, weight,
             success_weight, duration_ms, cost_micro_usd, decay_time, changed_in)
         VALUES ('team', 'late', 'scout', 'custom', 1, 1, 1, 1, 5, 0, $1, pg_current_xact_id()::text::bigint)",
    )
    .bind(Utc::now())
    .execute(&mut *late)
    .await
    .unwrap();
    house.record(vec![outcome("scout", "early", true, 50.0)]).await.unwrap();
    let (learned, horizon) = learn::start(&house.database).await.unwrap();
    assert!(learned.team("team").contains_key("early"));
    late.commit().await.unwrap();
    let stop = CancellationToken::new();
    let follow = learn::follow(learned.clone(), house.database.clone(), horizon, stop.clone());
    let following = tokio::spawn(follow);
    until(async || learned.team("team").contains_key("late")).await;
    stop.cancel();
    following.await.unwrap();
}
