//! The whole service against a real PostgreSQL, through the stack that stands around it.

mod house;

use std::collections::BTreeMap;

use ::rpc::{ErrorReason, TokenKey, reason_of};
use chrono::Utc;
use proto::{
    registry::v1::{ToolDefinition, ToolStatus},
    selector::v1::{RankedTool, SelectToolsRequest},
    types::v1::{Category, Sensitivity},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::{history::History, select, selections, store::SelectionRow};
use house::{Fake, House, outcome, seed, task, tool};

/// Two searchers that differ in name only, and a painter.
async fn searchers() -> House {
    let house = House::new().await;
    for name in ["alpha_search", "beta_search"] {
        house.add(tool(name, "Searches the web for pages.", &["search"]));
    }
    house.add(tool("painter", "Paints pictures of animals.", &["generate"]));
    house
}

fn names(first: Option<&RankedTool>, others: &[RankedTool]) -> Vec<String> {
    first.into_iter().chain(others).map(|tool| tool.name.clone()).collect()
}

#[tokio::test]
async fn the_best_comes_first_and_the_scores_add_up() {
    let house = searchers().await;
    let answer = house.select(task("search the web for whales")).await.unwrap();
    let names = names(answer.primary.as_ref(), &answer.alternatives);
    assert_eq!(names, ["alpha_search", "beta_search", "painter"], "equal scores go by name");
    assert_eq!(answer.candidate_count, 3);
    for tool in answer.primary.iter().chain(&answer.alternatives) {
        let matching = 0.5 * tool.capability_score + 0.5 * tool.text_score;
        assert!((tool.match_score - matching).abs() < 1e-9, "{tool:?}");
        let combined = 0.6 * tool.match_score + 0.4 * tool.suitability_score;
        assert!((tool.combined_score - combined).abs() < 1e-9, "{tool:?}");
        assert!((tool.suitability_score - 0.5).abs() < 1e-9, "no history is neutral: {tool:?}");
    }
    let reason = &answer.primary.unwrap().reason;
    assert!(reason.contains("by name") && reason.contains("\"web\""), "{reason}");
    let reason = &answer.alternatives[1].reason;
    assert!(reason.starts_with("behind alpha_search by") && reason.contains("lacks search"), "{reason}");
}

#[tokio::test]
async fn every_filter_leaves_out_and_counts() {
    let house = House::new().await;
    let good = ToolDefinition {
        category: Category::WebSearch.into(),
        sensitivity: Sensitivity::Internal.into(),
        cost_micro_usd: 10,
        ..tool("good", "Searches.", &["Search", "retrieve"])
    };
    let named = |name: &str| ToolDefinition { name: name.into(), ..good.clone() };
    house.add(good.clone());
    house.add(ToolDefinition { capabilities: vec!["retrieve".into()], ..named("incapable") });
    house.add(ToolDefinition { category: Category::FileIo.into(), ..named("files") });
    house.add(ToolDefinition { cost_micro_usd: 11, ..named("dear") });
    house.add(ToolDefinition { sensitivity: Sensitivity::Restricted.into(), ..named("secret") });
    house.add(named("slow"));
    house.add(named("forbidden"));
    house.add(named("spent"));
    house.add_to("team", ToolStatus::Disabled, named("disabled"));
    house.add_to("team", ToolStatus::Quarantined, named("changed"));
    house.add_to("other", ToolStatus::Active, named("theirs"));
    house
        .record(vec![outcome("anyone", "slow", true, 501.0), outcome("anyone", "good", true, 500.0)])
        .await
        .unwrap();
    house.refuse("forbidden", "NO_GRANT");
    house.refuse("spent", "QUOTA_EXHAUSTED");
    let request = SelectToolsRequest {
        required_capabilities: vec!["search".into()],
        category: Category::WebSearch.into(),
        max_cost_micro_usd: Some(10),
        max_sensitivity: Sensitivity::Internal.into(),
        max_latency_ms: 500,
        ..task("search")
    };
    let answer = house.select(request).await.unwrap();
    assert_eq!(names(answer.primary.as_ref(), &answer.alternatives), ["good"]);
    assert_eq!(answer.candidate_count, 1);
    let mut excluded: Vec<_> =
        answer.excluded.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
    excluded.sort_unstable();
    assert_eq!(
        excluded,
        [
            ("NO_GRANT", 1),
            ("QUOTA_EXHAUSTED", 1),
            ("capability", 1),
            ("category", 1),
            ("cost", 1),
            ("latency", 1),
            ("sensitivity", 1),
            ("status", 2)
        ]
    );
    let asked = house.fake.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "permission is asked for once, of the {} left", 3);
    let (caller, tools) = &asked[0];
    assert_eq!((caller.team.as_str(), caller.agent.as_str(), *tools), ("team", "scout", 3));
    assert_eq!(caller.service.as_deref(), Some("selector"));
}

#[tokio::test]
async fn nothing_left_names_the_nearest_misses() {
    let house = searchers().await;
    house.refuse("alpha_search", "NO_GRANT");
    house.refuse("beta_search", "QUOTA_EXHAUSTED");
    let request = SelectToolsRequest { required_capabilities: vec!["search".into()], ..task("search pages") };
    let refusal = house.select(request).await.unwrap_err();
    assert_eq!(refusal.code(), Code::NotFound);
    assert_eq!(reason_of(&refusal), Some(ErrorReason::NoSuitableTool));
    for part in ["alpha_search (not permitted: NO_GRANT)", "QUOTA_EXHAUSTED", "painter (lacks search)"] {
        assert!(refusal.message().contains(part), "{}", refusal.message());
    }
    let refusal = house.select_as("empty", "scout", task("search")).await.unwrap_err();
    assert_eq!(reason_of(&refusal), Some(ErrorReason::NoSuitableTool));
    assert!(refusal.message().contains("has no tools"), "{}", refusal.message());
}

#[tokio::test]
async fn a_wrong_request_is_refused_before_permission_is_asked() {
    let house = searchers().await;
    let wrong = [
        task("  "),
        SelectToolsRequest { alternatives: 21, ..task("x") },
        SelectToolsRequest { alternatives: -1, ..task("x") },
        SelectToolsRequest { category: 99, ..task("x") },
        SelectToolsRequest { max_latency_ms: -1, ..task("x") },
        SelectToolsRequest { max_cost_micro_usd: Some(-1), ..task("x") },
        SelectToolsRequest { required_capabilities: vec![" ".into()], ..task("x") },
        SelectToolsRequest { task_id: "a\0b".into(), ..task("x") },
        task(&"x".repeat(32_769)),
    ];
    for request in wrong {
        let refusal = house.select(request.clone()).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{request:?}");
        assert_eq!(reason_of(&refusal), Some(ErrorReason::InvalidRequest));
    }
    assert!(house.fake.asked.lock().unwrap().is_empty());
    let by_category =
        SelectToolsRequest { category: Category::Custom.into(), ..SelectToolsRequest::default() };
    house.select(by_category).await.unwrap();
}

#[tokio::test]
async fn without_permissions_nothing_is_offered() {
    let database = testkit::database(&[crate::schema()]).await;
    let key = TokenKey::new(&"a caller token key of enough bytes".into());
    // Port 1 is reserved (tcpmux) and nothing listens there.
    let nowhere = ::rpc::remote("permissions", "http://127.0.0.1:1").unwrap();
    let house = House::with(database, Fake::default(), nowhere, key).await;
    house.add(tool("alpha_search", "Searches.", &["search"]));
    let refusal = house.select(task("search")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(reason_of(&refusal), Some(ErrorReason::ServiceUnavailable));
}

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
    assert!(primary.reason.starts_with("ahead of alpha_search by history"), "{}", primary.reason);
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
async fn a_new_replica_knows_the_history_and_a_running_one_reads_it() {
    let first = searchers().await;
    let running = History::default();
    let horizon = running.read(&first.database, 0).await.unwrap();
    first.record(vec![outcome("scout", "alpha_search", true, 50.0)]).await.unwrap();
    sqlx::query("INSERT INTO selector.history VALUES ('team', 'old', 'scout', 1, 1, 1, 1, 5, 0, now(), 1)")
        .execute(first.database.pool().unwrap())
        .await
        .unwrap();
    running.read(&first.database, horizon).await.unwrap();
    assert_eq!(running.team("team")["alpha_search"].team.executions, 1);
    assert!(!running.team("team").contains_key("old"), "what is older than the horizon is not read again");
    let second = House::on(first.database.clone()).await;
    second.add(tool("alpha_search", "Searches the web for pages.", &["search"]));
    let answer = second.select(task("search the web")).await.unwrap();
    assert_eq!(answer.primary.unwrap().executions, 1);
}

#[tokio::test]
async fn an_outcome_that_commits_late_is_still_read() {
    let house = searchers().await;
    let pool = house.database.pool().unwrap();
    let mut late = pool.begin().await.unwrap();
    sqlx::query(
        "INSERT INTO selector.history VALUES
         ('team', 'late', 'scout', 1, 1, 1, 1, 5, 0, now(), pg_current_xact_id()::text::bigint)",
    )
    .execute(&mut *late)
    .await
    .unwrap();
    house.record(vec![outcome("scout", "early", true, 50.0)]).await.unwrap();
    let history = History::default();
    let horizon = history.read(&house.database, 0).await.unwrap();
    assert!(history.team("team").contains_key("early"));
    late.commit().await.unwrap();
    history.read(&house.database, horizon).await.unwrap();
    assert!(history.team("team").contains_key("late"));
}

#[tokio::test]
async fn wrong_outcomes_are_refused_whole() {
    let house = searchers().await;
    let good = outcome("scout", "alpha_search", true, 1.0);
    for bad in [
        proto::selector::v1::Outcome { event_id: "x".into(), ..good.clone() },
        proto::selector::v1::Outcome { team_id: String::new(), ..good.clone() },
        proto::selector::v1::Outcome { duration_ms: f64::NAN, ..good.clone() },
        proto::selector::v1::Outcome { cost_micro_usd: -1, ..good.clone() },
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
    let executions: Vec<(String, i64)> = sqlx::query_as("SELECT tool_name, executions FROM selector.history")
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
    let counted: i64 = sqlx::query_scalar("SELECT sum(executions)::bigint FROM selector.history")
        .fetch_one(first.database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(counted, 3_000);
}

#[tokio::test]
async fn a_deprecated_tool_stands_behind_its_equal() {
    let house = searchers().await;
    house.add_to(
        "team",
        ToolStatus::Deprecated,
        tool("a_search", "Searches the web for pages.", &["search"]),
    );
    let answer = house.select(task("search the web for pages")).await.unwrap();
    assert_eq!(answer.primary.unwrap().name, "alpha_search");
    let deprecated = &answer.alternatives[1];
    assert_eq!(deprecated.name, "a_search");
    assert!(deprecated.reason.contains("deprecated"), "{}", deprecated.reason);
    assert!((deprecated.suitability_score - 0.25).abs() < 1e-9);
}

#[tokio::test]
async fn a_change_of_the_catalog_is_in_the_next_answer() {
    let house = searchers().await;
    house.select(task("juggle")).await.unwrap();
    house.add(tool("juggler", "Juggles clubs.", &[]));
    let answer = house.select(task("juggling")).await.unwrap();
    assert_eq!(answer.primary.unwrap().name, "juggler");
    house.add_to("team", ToolStatus::Disabled, tool("juggler", "Juggles clubs.", &[]));
    let answer = house.select(task("juggling")).await.unwrap();
    assert_ne!(answer.primary.unwrap().name, "juggler");
    assert_eq!(answer.excluded["status"], 1);
}

#[tokio::test]
async fn a_selection_is_kept_without_its_task() {
    let house = searchers().await;
    let request =
        SelectToolsRequest { task_id: "t-1".into(), alternatives: 1, ..task("search for my diagnosis") };
    let answer = house.select(request).await.unwrap();
    house.stop().await;
    let row: String =
        sqlx::query_scalar("SELECT row_to_json(s)::text FROM selector.selection s WHERE team_id = 'team'")
            .fetch_one(house.database.pool().unwrap())
            .await
            .unwrap();
    let row: serde_json::Value = serde_json::from_str(&row).unwrap();
    assert_eq!(row["id"], answer.selection_id);
    assert_eq!(row["task_digest"], types::digest_bytes(b"search for my diagnosis"));
    assert_eq!((&row["task_length"], &row["candidate_count"]), (&23.into(), &3.into()));
    assert_eq!((&row["agent_id"], &row["task_id"]), (&"scout".into(), &"t-1".into()));
    assert_eq!(row["ranked"].as_array().unwrap().len(), 2);
    assert_eq!(row["ranked"][0]["name"], answer.primary.unwrap().name);
    assert!(!row.to_string().contains("diagnosis"), "{row}");
}

#[tokio::test]
async fn selections_that_wait_when_the_service_stops_are_written() {
    let database = testkit::database(&[crate::schema()]).await;
    let (selections, waiting) = selections::Selections::new();
    for _ in 0..300 {
        let selection = select::Selection {
            id: types::new_id(),
            choices: Vec::new(),
            candidate_count: 0,
            excluded: BTreeMap::new(),
        };
        let caller = types::Caller { team: "team".into(), ..types::Caller::service("") };
        selections.keep(SelectionRow::new(&caller, &select::Wanted::default(), &selection, Utc::now()));
    }
    let stop = CancellationToken::new();
    stop.cancel();
    selections::write(database.clone(), waiting, stop).await;
    let written: i64 = sqlx::query_scalar("SELECT count(*) FROM selector.selection")
        .fetch_one(database.pool().unwrap())
        .await
        .unwrap();
    assert_eq!(written, 300);
}

#[tokio::test]
async fn plain_tasks_find_the_seeded_tool_that_does_them() {
    let house = House::new().await;
    let seeds = [
        "brave_web_search",
        "google_web_search",
        "python_sandbox",
        "pandas_analyzer",
        "file_operations",
        "http_request",
    ];
    for name in seeds {
        house.add(seed(name));
    }
    let tasks = [
        ("Find recent news about the electric car market on the web", "web_search"),
        ("Search the internet for the opening hours of the Louvre", "web_search"),
        ("Look up with Google who won the 2022 chess olympiad", "google_web_search"),
        ("Compute the first 100 prime numbers with a short Python program", "python_sandbox"),
        ("Run this code and tell me what it prints", "python_sandbox"),
        ("Which columns of sales.csv correlate with revenue?", "pandas_analyzer"),
        ("Average price by region from this table, as a pivot table with a chart", "pandas_analyzer"),
        ("Write the report to notes/summary.md in the workspace", "file_operations"),
        ("List the files in the folder data and delete the empty ones", "file_operations"),
        ("Send a POST request with a JSON body to https://api.example.com/orders", "http_request"),
    ];
    for (words, expected) in tasks {
        let answer = house.select(task(words)).await.unwrap();
        let primary = answer.primary.unwrap();
        assert!(
            primary.name.ends_with(expected),
            "{words:?} was given {primary:#?}, then {:#?}",
            answer.alternatives
        );
    }
}
