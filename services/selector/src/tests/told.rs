//! What is told of what was learned: how each tool has done, and which does best; of no tool that the caller may not call.

use std::collections::HashMap;

use chrono::{TimeDelta, Utc};
use proto::{
    registry::v1::ToolDefinition,
    selector::v1::{
        GetEffectivenessRequest, ListRecommendationsRequest, Outcome, Recommendation, SelectToolsRequest,
        Trend,
    },
    types::v1::Category,
};
use tonic::{Code, Status};
use types::Role;

use super::{
    house::{House, outcome, tool, until},
    learning::{SCOUT, effectiveness, effectiveness_as, following, house, selection},
};

#[tokio::test]
async fn effectiveness_is_told_with_its_interval_its_trend_and_its_kinds_of_work() {
    let house = house().await;
    let files = selection(&house, "team", "scout", "file_io").await;
    let hour = |hours: i64| Utc::now() - TimeDelta::hours(hours);
    let at = |outcome: Outcome, hours: i64| Outcome {
        time: Some(prost_types::Timestamp { seconds: hour(hours).timestamp(), nanos: 0 }),
        ..outcome
    };
    let mut outcomes: Vec<Outcome> =
        (0..20).map(|_| at(outcome("scout", "alpha_search", true, 100.0), 30)).collect();
    outcomes.extend((0..20).map(|n| at(outcome("veteran", "alpha_search", n % 4 == 0, 1_000.0), 2)));
    outcomes.push(at(following(files, "scout", "alpha_search", true), 1));
    outcomes.push(outcome("scout", "beta_search", true, 10.0));
    house.record(outcomes).await.unwrap();
    until(async || effectiveness(&house, "alpha_search").await.trend() == Trend::Degrading).await;
    let told = effectiveness(&house, "alpha_search").await;
    assert_eq!((told.executions, told.successes, told.trend_of.as_str()), (41, 26, "success"));
    assert!(told.trend_p_value < 0.001 && told.p95_ms > 700.0 && told.p95_ms < 1_025.0, "{told:?}");
    assert!(told.success_rate_low < told.success_rate && told.success_rate < told.success_rate_high);
    assert!(
        told.average_ms > 100.0
            && told.average_ms < 1_000.0
            && (told.average_cost_micro_usd - 100.0).abs() < 0.1
    );
    let kinds: Vec<_> = told.categories.iter().map(|kind| (kind.category(), kind.executions)).collect();
    assert_eq!(kinds, [(Category::WebSearch, 40), (Category::FileIo, 1)]);
    // One agent, one kind.
    let request = GetEffectivenessRequest {
        agent_id: "scout".into(),
        category: Category::WebSearch.into(),
        ..GetEffectivenessRequest::default()
    };
    let (tools, _) = effectiveness_as(&house, SCOUT, request).await.unwrap();
    assert_eq!(tools.iter().map(|tool| tool.executions).collect::<Vec<_>>(), [20, 1]);
    assert!((tools[0].p95_ms - 100.0).abs() < 30.0 && tools[0].categories.is_empty(), "{tools:?}");
    // Page by page, and no page of another team's.
    let page = |token: &str| GetEffectivenessRequest {
        page_size: 1,
        page_token: token.into(),
        ..GetEffectivenessRequest::default()
    };
    let (first, token) = effectiveness_as(&house, SCOUT, page("")).await.unwrap();
    let (second, end) = effectiveness_as(&house, SCOUT, page(&token)).await.unwrap();
    assert_eq!((first[0].tool_name.as_str(), second[0].tool_name.as_str()), ("alpha_search", "beta_search"));
    assert!(end.is_empty());
    let foreign = ("other", "scout", Role::Agent);
    assert_eq!(
        effectiveness_as(&house, foreign, page(&token)).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    assert!(effectiveness_as(&house, foreign, page("")).await.unwrap().0.is_empty());
}

#[tokio::test]
async fn a_flood_of_one_agent_moves_the_95th_percentile_no_more_than_the_ranking() {
    let house = house().await;
    let some = |agent: &str, count: usize, ms: f64| -> Vec<Outcome> {
        (0..count).map(|_| outcome(agent, "alpha_search", true, ms)).collect()
    };
    for number in 0..25 {
        house.record(some(&format!("agent {number}"), 20, 50.0)).await.unwrap();
    }
    house.record(some("flood", 900, 30_000.0)).await.unwrap();
    // Its copy is read after all of that.
    let replica = House::on(house.database.clone()).await;
    until(async || effectiveness(&replica, "alpha_search").await.p95_ms > 0.0).await;
    let told = effectiveness(&replica, "alpha_search").await;
    assert!(told.p95_ms < 100.0 && told.average_ms > 1_000.0, "{told:?}");
    let searcher = tool("alpha_search", "Searches the web for pages.", &["search"]);
    replica.add(ToolDefinition { category: Category::WebSearch.into(), ..searcher });
    let quick = |max_latency_ms: i64| {
        let category = Category::WebSearch.into();
        SelectToolsRequest {
            max_latency_ms,
            available_time_ms: 200,
            category,
            ..SelectToolsRequest::default()
        }
    };
    let answer = async |ms: i64| replica.select(quick(ms)).await.unwrap();
    assert_eq!(answer(2_000).await.excluded, HashMap::new());
    assert_eq!(answer(500).await.excluded, [("latency".to_owned(), 1)].into());
}

#[tokio::test]
async fn an_agent_is_told_of_its_own_calls_and_of_tools_that_it_may_call() {
    let house = house().await;
    let calls = |agent: &str| {
        ["alpha_search", "beta_search", "gone"].map(|tool| outcome(agent, tool, true, 50.0)).to_vec()
    };
    house.record([calls("scout"), calls("veteran")].concat()).await.unwrap();
    house.refuse("beta_search", "NO_GRANT");
    let of = |agent: &str| GetEffectivenessRequest {
        agent_id: agent.into(),
        page_size: 1,
        ..GetEffectivenessRequest::default()
    };
    let told = async |caller, agent: &str| -> Result<Vec<(String, i64)>, Status> {
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let page = GetEffectivenessRequest { page_token, ..of(agent) };
            let (tools, next) = effectiveness_as(&house, caller, page).await?;
            all.extend(tools.into_iter().map(|tool| (tool.tool_name, tool.executions)));
            page_token = next;
            if page_token.is_empty() {
                return Ok(all);
            }
        }
    };
    let alpha = |executions| ("alpha_search".to_owned(), executions);
    assert_eq!(
        told(SCOUT, "").await.unwrap(),
        [alpha(2)],
        "beta is refused, and what is gone may not be called"
    );
    assert_eq!(told(SCOUT, "scout").await.unwrap(), [alpha(1)]);
    assert_eq!(told(SCOUT, "veteran").await.unwrap_err().code(), Code::InvalidArgument);
    let auditor = ("team", "eye", Role::Auditor);
    assert_eq!(told(auditor, "veteran").await.unwrap().len(), 3);
}

async fn recommendations(
    house: &House,
    request: ListRecommendationsRequest,
) -> Result<Vec<Recommendation>, Status> {
    let request = house.by("team", "scout", Role::Agent, request);
    house.client().list_recommendations(request).await.map(|answer| answer.into_inner().recommendations)
}

#[tokio::test]
async fn recommended_is_what_did_well_often_enough_and_may_be_called() {
    let house = house().await;
    let some = |tool: &str, count: usize, succeeded: bool| -> Vec<Outcome> {
        (0..count).map(|_| outcome("veteran", tool, succeeded, 50.0)).collect()
    };
    house.add(tool("hidden", "Searches, too.", &["search"]));
    let outcomes = [
        some("alpha_search", 6, false),
        some("beta_search", 6, true),
        some("gamma_search", 4, true),
        some("hidden", 9, true),
    ];
    house.record(outcomes.concat()).await.unwrap();
    house.refuse("hidden", "NO_GRANT");
    let best = recommendations(&house, ListRecommendationsRequest::default()).await.unwrap();
    let names: Vec<_> = best.iter().map(|it| (it.rank, it.tool_name.as_str(), it.category())).collect();
    assert_eq!(
        names,
        [(1, "beta_search", Category::WebSearch), (2, "alpha_search", Category::WebSearch)],
        "four executions are too few"
    );
    assert!(best[0].suitability_score > 0.5 && best[1].suitability_score < 0.5, "{best:?}");
    assert!(best[0].reason.starts_with("6 executions, 100 % succeeded lately"), "{}", best[0].reason);
    assert_eq!(house.fake.asked.lock().unwrap().len(), 1, "permission is asked for once");
    let first = ListRecommendationsRequest { per_category: 1, ..ListRecommendationsRequest::default() };
    assert_eq!(recommendations(&house, first).await.unwrap().len(), 1);
    let none = ListRecommendationsRequest {
        category: Category::FileIo.into(),
        ..ListRecommendationsRequest::default()
    };
    assert!(recommendations(&house, none).await.unwrap().is_empty());
    for wrong in [
        ListRecommendationsRequest { per_category: 21, ..ListRecommendationsRequest::default() },
        ListRecommendationsRequest { per_category: -1, ..ListRecommendationsRequest::default() },
        ListRecommendationsRequest { category: 99, ..ListRecommendationsRequest::default() },
    ] {
        assert_eq!(recommendations(&house, wrong).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn what_may_not_be_called_moves_no_recommendation() {
    let house = house().await;
    let some = |tool: &str, ms: f64| -> Vec<Outcome> {
        (0..6).map(|_| outcome("veteran", tool, true, ms)).collect()
    };
    house.record([some("alpha_search", 100.0), some("beta_search", 200.0)].concat()).await.unwrap();
    let all = ListRecommendationsRequest { category: Category::WebSearch.into(), ..Default::default() };
    let scores = async || -> Vec<f64> {
        let best = recommendations(&house, all).await.unwrap();
        best.iter().map(|told| told.suitability_score).collect()
    };
    let before = scores().await;
    for name in ["first", "second", "third"] {
        let hidden = tool(name, "Searches, too.", &["search"]);
        house.add(ToolDefinition { category: Category::WebSearch.into(), ..hidden });
        house.refuse(name, "NO_GRANT");
        house.record(some(name, 60_000.0)).await.unwrap();
    }
    let after = scores().await;
    assert_eq!((before.len(), after.len()), (2, 2));
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() < 1e-4, "{before} {after}");
    }
}
