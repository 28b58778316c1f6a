//! Patterns of use through the whole service: what outcomes leave behind, and what is told of it.

use chrono::{TimeDelta, Utc};
use prost_types::{Duration, Timestamp};
use proto::{
    registry::v1::ToolDefinition,
    selector::v1::{GetUsagePatternsRequest, GetUsagePatternsResponse, Outcome, suggestion::Kind},
    types::v1::Effect,
};
use tonic::{Code, Status};

use super::house::{House, outcome, task, tool};
use crate::store;

/// An outcome so many minutes ago.
fn ago(minutes: i64, of: Outcome) -> Outcome {
    let time = Utc::now() - TimeDelta::minutes(minutes);
    Outcome { time: Some(Timestamp { seconds: time.timestamp(), nanos: 0 }), ..of }
}

fn in_task(agent: &str, task: &str, tool: &str) -> Outcome {
    Outcome { task_id: task.into(), ..outcome(agent, tool, true, 50.0) }
}

/// What an agent does in some tasks: one tool after another.
fn tasks(agent: &str, names: &[&str], tools: [&str; 2]) -> Vec<Outcome> {
    let both =
        |name: &&str| [ago(20, in_task(agent, name, tools[0])), ago(10, in_task(agent, name, tools[1]))];
    names.iter().flat_map(both).collect()
}

async fn patterns(
    house: &House,
    team: &str,
    request: GetUsagePatternsRequest,
) -> Result<GetUsagePatternsResponse, Status> {
    let request = house.by_operator(team, request);
    house.client().get_usage_patterns(request).await.map(tonic::Response::into_inner)
}

async fn next_tools(house: &House, agent: &str) -> Vec<(String, i64)> {
    let answer = house.select_as("team", agent, task("search the web")).await.unwrap();
    assert_eq!(answer.primary.unwrap().name, "search");
    answer.next_tools.into_iter().map(|next| (next.name, next.count)).collect()
}

#[tokio::test]
async fn what_follows_what_is_learned_once_told_in_the_next_answer_and_known_after_a_restart() {
    let house = House::new().await;
    for (name, does) in
        [("search", "Searches the web."), ("read", "Opens a file."), ("mail", "Posts letters.")]
    {
        house.add(tool(name, does, &[name]));
    }
    let mut outcomes = tasks("scout", &["t-1", "t-2"], ["search", "read"]);
    house.record(outcomes.clone()).await.unwrap();
    assert!(next_tools(&house, "scout").await.is_empty(), "two cases are too few");
    outcomes.extend(tasks("scout", &["t-3", "t-3b"], ["search", "read"]));
    outcomes.extend(tasks("other", &["t-4", "t-5", "t-6"], ["search", "mail"]));
    assert_eq!(house.record(outcomes.clone()).await.unwrap(), 10, "four came before");
    assert_eq!(house.record(outcomes).await.unwrap(), 0);
    let expected = vec![("read".to_owned(), 4), ("mail".to_owned(), 3)];
    assert_eq!(next_tools(&house, "scout").await, expected);
    house.refuse("read", "NO_GRANT");
    assert_eq!(next_tools(&house, "scout").await, [("mail".to_owned(), 3)], "only what it may call");

    let told = patterns(&house, "team", GetUsagePatternsRequest::default()).await.unwrap();
    let steps: Vec<_> = told.transitions.iter().map(|it| (it.to_tool.as_str(), it.count)).collect();
    assert_eq!(steps, [("read", 4), ("mail", 3)]);
    assert!((told.transitions[0].probability - 0.5).abs() < 0.01, "{told:?}");
    let theirs = patterns(&house, "theirs", GetUsagePatternsRequest::default()).await.unwrap();
    assert_eq!(theirs, GetUsagePatternsResponse::default());

    let other = House::on(house.database.clone()).await;
    let told = patterns(&other, "team", GetUsagePatternsRequest::default()).await.unwrap();
    assert_eq!(told.transitions.len(), 2, "read at the start");
}

#[tokio::test]
async fn hours_failures_and_suggestions_are_told_of_the_period_that_is_asked_for() {
    let house = House::new().await;
    let definition = tool("lookup", "Looks things up.", &["retrieve"]);
    house.add(ToolDefinition { effect: Effect::ReadOnly.into(), ..definition });
    let call = |number: i64| {
        let of = Outcome {
            arguments_hash: format!("{}", number % 10),
            effect: Effect::ReadOnly.into(),
            timeout_ms: 30_000,
            ..outcome("scout", "lookup", true, 40.0)
        };
        // Of one day, whatever the time of the test is.
        Outcome { time: Some(Timestamp { seconds: Utc::now().timestamp(), nanos: 0 }), ..of }
    };
    let failed = |minutes: i64, agent: &str| {
        let of = outcome(agent, "lookup", false, 40.0);
        ago(minutes, Outcome { failure_reason: "UPSTREAM_AUTH".into(), ..of })
    };
    house.record((0..24).map(call).collect()).await.unwrap();
    let agents = ["scout", "other"];
    let failures = (0..6).map(|number| failed(number, agents[usize::try_from(number % 2).unwrap()]));
    house.record(failures.collect()).await.unwrap();
    let told = patterns(&house, "team", GetUsagePatternsRequest::default()).await.unwrap();
    let of_tool = &told.hourly[0];
    assert_eq!((of_tool.calls.len(), of_tool.calls.iter().sum::<i64>()), (24, 30));
    assert_eq!(of_tool.failures.iter().sum::<i64>(), 6);
    let cluster = &told.failures[0];
    assert_eq!((cluster.failure_reason.as_str(), cluster.count, cluster.agents), ("UPSTREAM_AUTH", 6, 2));
    assert!((cluster.share - 0.2).abs() < 0.1, "{cluster:?}");
    let cache = told.suggestions.iter().find(|it| it.kind() == Kind::CacheThis).unwrap();
    assert_eq!((cache.tool_name.as_str(), cache.calls), ("lookup", 14));
    assert!(cache.text.contains("toolcrib tools set lookup cache.enabled=true"), "{cache:?}");

    let one = GetUsagePatternsRequest { tool_name: "another".into(), ..GetUsagePatternsRequest::default() };
    assert_eq!(patterns(&house, "team", one).await.unwrap(), GetUsagePatternsResponse::default());
    sqlx::query("UPDATE selector.hour SET hour = hour - interval '10 days'")
        .execute(house.database.pool().unwrap())
        .await
        .unwrap();
    let told = patterns(&house, "team", GetUsagePatternsRequest::default()).await.unwrap();
    assert!(told.hourly.is_empty() && told.failures.is_empty(), "seven days by default: {told:?}");
    let period = Some(Duration { seconds: 14 * 86_400, nanos: 0 });
    let longer = GetUsagePatternsRequest { period, ..GetUsagePatternsRequest::default() };
    assert_eq!(patterns(&house, "team", longer).await.unwrap().hourly.len(), 1);
}

#[tokio::test]
async fn a_wrong_period_or_limit_is_refused() {
    let house = House::new().await;
    let period = |seconds, nanos| Some(Duration { seconds, nanos });
    let unset = GetUsagePatternsRequest::default();
    for wrong in [
        GetUsagePatternsRequest { period: period(0, 0), ..unset.clone() },
        GetUsagePatternsRequest { period: period(-5, 0), ..unset.clone() },
        GetUsagePatternsRequest { period: period(5, -1), ..unset.clone() },
        GetUsagePatternsRequest { period: period(30 * 86_400, 1), ..unset.clone() },
        GetUsagePatternsRequest { period: period(i64::MAX, 0), ..unset.clone() },
        GetUsagePatternsRequest { limit: 201, ..unset.clone() },
        GetUsagePatternsRequest { limit: -1, ..unset.clone() },
    ] {
        let status = patterns(&house, "team", wrong.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}: {status:?}");
    }
    let most = GetUsagePatternsRequest { period: period(30 * 86_400, 0), limit: 200, ..unset };
    assert!(patterns(&house, "team", most).await.is_ok());
}

#[tokio::test]
async fn of_past_days_calls_without_an_equal_become_one_row_and_their_number_stays() {
    let house = House::new().await;
    let pool = house.database.pool().unwrap();
    sqlx::query(
        "INSERT INTO selector.repeat (team_id, tool_name, day, arguments_hash, calls, cached, duration_ms)
         SELECT 'team', 'x', current_date - age, 'hash-' || n, CASE n WHEN 1 THEN 9 ELSE 1 END, 0, 5
         FROM generate_series(1, 50) AS n, unnest(ARRAY[0, 5, 40]) AS age",
    )
    .execute(pool)
    .await
    .unwrap();
    for _ in 0..2 {
        store::patterns::patterns_delete_expired(pool).await.unwrap();
    }
    let rows: Vec<(i32, i64, i64)> = sqlx::query_as(
        "SELECT current_date - day, count(*), sum(calls)::bigint FROM selector.repeat GROUP BY 1 ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert_eq!(rows, [(0, 50, 58), (5, 2, 58)], "and what is past its time is gone");
    let sums = store::patterns::repeats_read(pool, "team", (Utc::now() - TimeDelta::days(7)).date_naive());
    let sum = sums.await.unwrap().remove(0);
    assert_eq!((sum.calls, sum.repeated), (116, 16));
}
