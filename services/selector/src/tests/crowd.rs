//! Selections among more tools than permission is asked for at once, and among tools that work however little they fit.

use proto::selector::v1::{PinToolRequest, SelectToolsRequest, SelectToolsResponse};

use super::house::{House, outcome, task, tool};

/// Tools that permission is asked for at first.
const AT_FIRST: usize = 256;
const CROWD: usize = 400;

/// Many painters, and one that tells the weather.
async fn crowd() -> House {
    let house = House::new().await;
    for number in 0..CROWD {
        house.add(tool(&format!("painter_{number:03}"), "Paints pictures of animals.", &["generate"]));
    }
    house.add(tool("weather", "Tells the weather of a city.", &["search"]));
    house
}

/// How many tools each question to the permissions service named.
fn asked(house: &House) -> Vec<usize> {
    house.fake.asked.lock().unwrap().drain(..).map(|(_, tools)| tools).collect()
}

fn first(answer: &SelectToolsResponse) -> &str {
    answer.primary.as_ref().map_or("", |tool| tool.name.as_str())
}

#[tokio::test]
async fn of_many_tools_permission_is_asked_for_those_that_fit_best() {
    let house = crowd().await;
    let answer = house.select(task("the weather in this city")).await.unwrap();
    assert_eq!((first(&answer), asked(&house)), ("weather", vec![AT_FIRST]));
    assert_eq!(answer.candidate_count, 256);
    assert_eq!(answer.excluded, [("limit".to_owned(), 145)].into(), "the others are counted");
}

#[tokio::test]
async fn where_the_best_may_not_be_called_it_is_asked_for_the_others() {
    let house = crowd().await;
    for number in 0..CROWD - 1 {
        house.refuse(&format!("painter_{number:03}"), "NO_GRANT");
    }
    let answer = house.select(task("paint pictures of animals")).await.unwrap();
    assert_eq!((first(&answer), asked(&house)), ("painter_399", vec![AT_FIRST, 401 - AT_FIRST]));
    assert_eq!((answer.candidate_count, answer.excluded["NO_GRANT"]), (2, 399), "{:?}", answer.excluded);
    // Nobody may call any: every tool was asked for, and no more.
    house.refuse("painter_399", "NO_GRANT");
    house.refuse("weather", "NO_GRANT");
    let answer = house.select(task("paint pictures of animals")).await.unwrap();
    assert!(answer.primary.is_none() && answer.nearest_misses[0].name.starts_with("painter"), "{answer:?}");
    assert_eq!(asked(&house).iter().sum::<usize>(), 401);
}

#[tokio::test]
async fn what_may_not_be_called_moves_no_score_among_many_either() {
    let (with, without) = (crowd().await, crowd().await);
    for number in 0..50 {
        let definition =
            tool(&format!("oracle_{number}"), "Tells the weather and the future of a city.", &[]);
        with.refuse(&definition.name, "NO_GRANT");
        with.add(definition);
    }
    let words = task("tell the weather of the city");
    let scores = async |house: &House| {
        let primary = house.select(words.clone()).await.unwrap().primary.unwrap();
        (primary.name, primary.semantic_score.to_bits(), primary.combined_score.to_bits())
    };
    assert_eq!(scores(&with).await, scores(&without).await);
}

#[tokio::test]
async fn a_pinned_tool_is_told_though_hundreds_fit_better() {
    let house = crowd().await;
    let pin = PinToolRequest { tool_name: "weather".into(), ..PinToolRequest::default() };
    house.client().pin_tool(house.by_operator("team", pin)).await.unwrap();
    let answer = house.select(task("paint pictures of animals")).await.unwrap();
    assert_eq!(answer.pinned.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["weather"]);
    assert_eq!(asked(&house), [AT_FIRST + 1]);
    house.refuse("weather", "NO_GRANT");
    assert!(house.select(task("paint pictures of animals")).await.unwrap().pinned.is_empty());
}

#[tokio::test]
async fn where_the_task_says_nothing_those_that_did_well_are_asked_for() {
    let house = crowd().await;
    house.record((0..8).map(|_| outcome("scout", "painter_390", true, 50.0)).collect()).await.unwrap();
    let request = SelectToolsRequest {
        required_capabilities: vec!["generate".into()],
        ..SelectToolsRequest::default()
    };
    let answer = house.select(request).await.unwrap();
    assert_eq!((first(&answer), asked(&house)), ("painter_390", vec![AT_FIRST]));
}

#[tokio::test]
async fn a_tool_that_always_works_is_not_the_answer_to_everything() {
    let house = crowd().await;
    house.add(tool("echo", "Says again what it is told.", &[]));
    for agent in ["scout", "other", "third"] {
        let outcomes = (0..40).map(|_| outcome(agent, "echo", true, 1.0)).collect();
        house.record(outcomes).await.unwrap();
    }
    let answer = house.select(task("tell the weather in this city")).await.unwrap();
    assert_eq!(first(&answer), "weather", "{:?}", answer.alternatives);
    let unknown = answer.primary.unwrap();
    assert!(unknown.suitability_score >= 0.5, "what was never called is not behind what works: {unknown:?}");
    // One that fits nearly as well comes first for what it did.
    house.add(tool("forecast", "Tells the weather of a city.", &["search"]));
    house.add(tool("almanac", "Tells the weather of a city.", &["search"]));
    for tool in ["weather", "almanac"] {
        let failed = (0..12).map(|_| outcome("other", tool, false, 50.0)).collect();
        house.record(failed).await.unwrap();
    }
    let answer = house.select(task("tell the weather in this city")).await.unwrap();
    assert_eq!(first(&answer), "forecast", "{:?}", answer.alternatives);
}
