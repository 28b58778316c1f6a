//! What a model's words come to in a selection: through the whole service, on a real PostgreSQL.

use proto::selector::v1::{SelectToolsRequest, SelectToolsResponse};
use serde_json::{Value, json};

use super::{Server, completion, config, server::answer};
use crate::{
    Config,
    tests::house::{self, House, task, tool},
};

/// A selector that is helped by a model: one that reads these capabilities out of every task and likes the last of the
/// tools, by name.
async fn helped(capabilities: &'static [&'static str]) -> (House, Server) {
    let server = Server::start(move |request| {
        let body: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let words = match body["response_format"]["json_schema"]["name"].as_str() {
            Some("requirements") => json!({"capabilities": capabilities, "category": "custom"}),
            Some("fits") => fits(&body),
            _ => json!({"reason": "It does."}),
        };
        answer("200 OK", &completion(&words.to_string()))
    });
    let server = server.await;
    let settings = Config { model: config(&server.url()), ..house::config() };
    (House::configured(testkit::database(&[crate::schema()]).await, settings).await, server)
}

fn fits(body: &Value) -> Value {
    let data: Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
    let tools = data["tools"].as_array().unwrap();
    let last = tools.iter().filter_map(|tool| tool["name"].as_str()).max();
    let fit = |tool: &Value| f64::from(u8::from(tool["name"].as_str() == last));
    let fits: Vec<Value> = tools.iter().map(|tool| json!({"id": tool["id"], "fit": fit(tool)})).collect();
    json!({ "fits": fits })
}

async fn searched(house: &House, explore: bool) -> SelectToolsResponse {
    let asked = SelectToolsRequest { explore, ..task("search the web") };
    house.select(asked).await.unwrap()
}

#[tokio::test]
async fn what_only_a_forbidden_tool_can_do_is_not_told_of() {
    let (house, _server) = helped(&["search", "scan_port", "crawl"]).await;
    house.add(tool("finder", "Searches the web.", &["search", "crawl"]));
    house.add(tool("scanner", "Searches the web for ports.", &["scan_port"]));
    assert_eq!(searched(&house, false).await.implied_capabilities, ["search", "scan_port", "crawl"]);
    house.refuse("scanner", "no");
    assert_eq!(searched(&house, false).await.implied_capabilities, ["search", "crawl"]);
}

#[tokio::test]
async fn a_model_is_told_of_the_commonest_capabilities_alone() {
    let (house, server) = helped(&["search"]).await;
    for number in 0..60 {
        let own = format!("own_{number:02}");
        house.add(tool(&format!("tool_{number}"), "Searches the web.", &[&own, "common"]));
    }
    searched(&house, false).await;
    let asked = server.requests().into_iter().find(|request| request.contains("requirements")).unwrap();
    assert!(asked.contains("common") && asked.contains("own_48") && !asked.contains("own_49"), "{asked}");
}

#[tokio::test]
async fn a_judgement_that_decided_is_named_and_an_exploration_is_not_judged() {
    let (house, _server) = helped(&[]).await;
    for name in ["search_a", "search_b"] {
        house.add(tool(name, "Searches the web.", &["search"]));
    }
    let judged = searched(&house, false).await;
    let first = judged.primary.unwrap();
    assert_eq!(first.name, "search_b");
    assert!(first.reason.contains("fit, most of all the model's judgement"), "{}", first.reason);
    assert_eq!(judged.model_help.unwrap().r#for, ["requirements", "fit", "reasoning"]);
    let explored = searched(&house, true).await;
    assert_eq!(explored.model_help.unwrap().r#for, ["requirements", "reasoning"]);
    assert!(!explored.primary.unwrap().signals.contains_key("model"));
}
