//! Selections through the whole service: what is offered, in which order, and what is left out.

use std::time::Duration;

use ::rpc::{ErrorReason, Outgoing, TokenKey, reason_of};
use catalog::Catalog;
use proto::{
    registry::v1::{ServerState, ToolDefinition, ToolStatus},
    selector::v1::{
        GetSelectorHealthRequest, ListRecommendationsRequest, PinToolRequest, SelectToolsRequest,
    },
    types::v1::{Category, Sensitivity},
};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use types::Role;

use super::{
    house::{self, Fake, House, outcome, seed, task, tool},
    names, searchers,
};

#[tokio::test]
async fn the_best_comes_first_and_the_scores_add_up() {
    let house = searchers().await;
    let answer = house.select(task("search the web for whales")).await.unwrap();
    let names = names(answer.primary.as_ref(), &answer.alternatives);
    assert_eq!(names, ["alpha_search", "beta_search", "painter"], "equal scores go by name");
    assert_eq!(answer.candidate_count, 3);
    for tool in answer.primary.iter().chain(&answer.alternatives) {
        let matching = 0.5 * tool.capability_score + 0.5 * tool.semantic_score;
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
    house.add_of_server("unreachable", ServerState::Unavailable, named("unreachable"));
    house.add(named("lengthy"));
    house.add(named("forbidden"));
    house.add(named("spent"));
    house.add_to("team", ToolStatus::Disabled, named("disabled"));
    house.add_to("team", ToolStatus::Quarantined, named("changed"));
    house.add_to("other", ToolStatus::Active, named("theirs"));
    house
        .record(
            [("slow", 501.0), ("good", 100.0), ("lengthy", 450.0)]
                .into_iter()
                .flat_map(|(tool, ms)| (0..6).map(move |_| outcome("anyone", tool, true, ms)))
                .collect(),
        )
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
        available_time_ms: 400,
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
            ("health", 1),
            ("latency", 1),
            ("sensitivity", 1),
            ("status", 2),
            ("time", 1)
        ]
    );
    let asked = house.fake.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1, "permission is asked for once, of the {} left", 3);
    let (caller, tools) = &asked[0];
    assert_eq!((caller.team.as_str(), caller.agent.as_str(), *tools), ("team", "scout", 3));
    assert_eq!(caller.service.as_deref(), Some("selector"));
}

#[tokio::test]
async fn without_permissions_nothing_is_offered() {
    let database = testkit::database(&[crate::schema()]).await;
    let key = TokenKey::new(&"a caller token key of enough bytes".into());
    // Port 1 is reserved (tcpmux) and nothing listens there.
    let nowhere = ::rpc::remote("permissions", "http://127.0.0.1:1").unwrap();
    let house = House::with(database, Fake::default(), nowhere, key, house::config()).await;
    house.add(tool("alpha_search", "Searches.", &["search"]));
    let refusal = house.select(task("search")).await.unwrap_err();
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(reason_of(&refusal), Some(ErrorReason::ServiceUnavailable));
}

#[tokio::test]
async fn while_the_tools_are_not_read_nothing_is_said_of_them_and_that_is_told() {
    let database = testkit::database(&[crate::schema()]).await;
    let key = TokenKey::new(&"a caller token key of enough bytes".into());
    let nowhere = ::rpc::remote("registry", "http://127.0.0.1:1").unwrap();
    let outgoing = Outgoing::new("selector", key.clone());
    // Its feed is held and never run.
    let (catalog, _feed) =
        Catalog::new(nowhere.clone(), outgoing, Duration::from_hours(1), CancellationToken::new());
    let house = House::of(database, (Fake::default(), nowhere, key), house::config(), catalog).await;
    let mut client = house.client();
    let mut selecting = house.by("team", "scout", Role::Agent, task("search"));
    let mut recommending = house.by("team", "scout", Role::Agent, ListRecommendationsRequest::default());
    let mut pinning =
        house.by_operator("team", PinToolRequest { tool_name: "x".into(), ..Default::default() });
    selecting.set_timeout(Duration::from_secs(1));
    recommending.set_timeout(Duration::from_secs(1));
    pinning.set_timeout(Duration::from_secs(1));
    let refusals = [
        client.select_tools(selecting).await.unwrap_err(),
        client.list_recommendations(recommending).await.unwrap_err(),
        client.pin_tool(pinning).await.unwrap_err(),
    ];
    for refusal in refusals {
        assert_eq!(refusal.code(), Code::Unavailable, "{refusal:?}");
        assert_eq!(reason_of(&refusal), Some(ErrorReason::ServiceUnavailable));
        assert!(refusal.message().contains("not read from the registry yet"), "{refusal:?}");
    }
    let asked = house.by("team", "scout", Role::Agent, GetSelectorHealthRequest {});
    assert!(client.get_selector_health(asked).await.unwrap().into_inner().tools_loading);
}

#[tokio::test]
async fn a_task_without_words_is_of_no_kind_by_the_names_of_tools() {
    let house = House::new().await;
    for name in ["a", "b", "c"] {
        let category = Category::FileIo.into();
        house.add(ToolDefinition { category, ..tool(name, "Searches.", &["search"]) });
    }
    let asked = SelectToolsRequest { required_capabilities: vec!["search".into()], ..task("") };
    assert_eq!(house.select(asked.clone()).await.unwrap().task_category(), Category::Unspecified);
    let told = SelectToolsRequest { task: "search".into(), ..asked };
    assert_eq!(house.select(told).await.unwrap().task_category(), Category::FileIo);
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
    assert!(!names(answer.primary.as_ref(), &answer.alternatives).contains(&"juggler".to_owned()));
    assert_eq!(answer.excluded["status"], 1);
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

#[tokio::test]
async fn a_tool_of_a_degraded_server_is_offered_and_that_is_said() {
    let house = House::new().await;
    house.add_of_server("shaky", ServerState::Degraded, tool("shaky.search", "Searches the web.", &[]));
    let primary = house.select(task("search the web")).await.unwrap().primary.unwrap();
    assert_eq!(primary.name, "shaky.search");
    assert!(primary.reason.contains("degraded"), "{}", primary.reason);
}

#[tokio::test]
async fn exploration_is_logged_with_its_chance_and_changes_nothing_when_it_is_not_asked_for() {
    let house = searchers().await;
    let asked = SelectToolsRequest { explore: true, ..task("search the web") };
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..40 {
        firsts.insert(house.select(asked.clone()).await.unwrap().primary.unwrap().name);
        assert_eq!(house.select(task("search the web")).await.unwrap().primary.unwrap().name, "alpha_search");
    }
    assert!(firsts.len() > 1, "two equals without history take turns: {firsts:?}");
    house.stop().await;
    let (explored, low, high, usual): (i64, f64, f64, f64) = sqlx::query_as(
        "SELECT count(*), min(propensity), max(propensity), avg(propensity)
         FROM selector.selection WHERE explored",
    )
    .fetch_one(house.database.pool().unwrap())
    .await
    .unwrap();
    assert_eq!(explored, 40);
    // Each of the two equals is first about half of the time; the third tool may be now and then.
    assert!(low > 0.0 && high < 0.8 && usual > 0.3, "{low} {high} {usual}");
}
