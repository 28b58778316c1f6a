//! How a run ends: each end has its status, and is recorded.

use ::rpc::Outgoing;
use proto::{
    executor::v1::{ExecuteRequest, ExecutionStatus, ListExecutionsRequest},
    registry::v1::ToolDefinition,
};

use super::{
    house::{House, agent, ended, execution, posting, request, until},
    ledger::intent,
    upstream::{Held, Upstream, json},
};
use crate::store::{self, Intent};

#[tokio::test]
async fn a_tool_that_takes_too_long_is_stopped_and_charged() {
    let (house, held) = (House::new().await, Held::new().await);
    house.add(posting("tool", &held.upstream.url));
    let asked = ExecuteRequest { timeout_ms: 300, ..request("tool", "{}") };
    let answer = house.execute(asked).await;
    let cost = answer.as_ref().unwrap().execution.as_ref().unwrap().cost_micro_usd;
    let (code, message) = ended(answer, ExecutionStatus::TimedOut);
    assert_eq!((code.as_str(), cost), ("TIMEOUT", 7));
    assert!(message.contains("300 ms"), "{message}");
    assert_eq!(house.statuses().await, ["timed_out"]);
    until(async || house.fakes.trail().len() == 1).await;
}

#[tokio::test]
async fn a_result_must_fit_be_json_and_keep_to_its_schema() {
    let house = House::with(|config| config.max_artifact_bytes = config.max_result_bytes).await;
    let large = format!("\"{}\"", "x".repeat(64 * 1024));
    let upstream = Upstream::new(move |seen| {
        let body = match seen.target.as_str() {
            "/large" => large.clone(),
            "/no-json" => "{no".into(),
            "/deep" => format!("{}1{}", "[".repeat(300), "]".repeat(300)),
            _ => r#"{"n":"not a number: hunter2"}"#.into(),
        };
        async move { json(200, &body) }
    })
    .await;
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
    for (path, schema, code) in [
        ("large", "", "RESULT_TOO_LARGE"),
        ("no-json", "", "INVALID_RESULT"),
        ("deep", "", "INVALID_RESULT"),
        ("wrong", schema, "INVALID_RESULT"),
    ] {
        let tool = posting(path, &format!("{}/{path}", upstream.url));
        house.add(ToolDefinition { output_schema_json: schema.into(), ..tool });
        let answer = house.execute(request(path, "{}")).await;
        let violations =
            answer.as_ref().unwrap().execution.as_ref().unwrap().error.as_ref().unwrap().violations.len();
        let (found, message) = ended(answer, ExecutionStatus::Failed);
        assert_eq!((found.as_str(), violations), (code, usize::from(path == "wrong")), "{message}");
    }
    assert_eq!(house.number("SELECT count(*) FROM executor.execution WHERE result_json <> ''").await, 0);
    assert_eq!(
        house.number("SELECT count(*) FROM executor.execution WHERE error_json LIKE '%hunter2%'").await,
        0
    );
}

#[tokio::test]
async fn numbers_arrive_as_they_were_sent() {
    let house = House::new().await;
    let upstream = Upstream::new(|seen| async move { json(200, &seen.body) }).await;
    house.add(posting("tool", &upstream.url));
    let text = r#"{"big":9007199254740993,"float":1.0,"negative":-9007199254740993}"#;
    assert_eq!(execution(house.execute(request("tool", text)).await).result_json, text);
}

#[tokio::test]
async fn a_listing_of_large_executions_is_a_message_that_clients_take() {
    let house = House::new().await;
    let intents: Vec<Intent> = (0..70).map(|_| intent(uuid::Uuid::new_v4(), "")).collect();
    let large = |mut intent: Intent| {
        intent.execution.arguments_json = format!("\"{}\"", "x".repeat(64 * 1024 - 2));
        intent
    };
    let intents: Vec<Intent> = intents.into_iter().map(large).collect();
    let mut transaction = store::begin(house.database.pool().unwrap(), false).await.unwrap();
    store::intents_insert(&mut transaction, &intents.iter().collect::<Vec<_>>()).await.unwrap();
    transaction.commit().await.unwrap();
    let outgoing = Outgoing::new("executor", ::rpc::TokenKey::new(&"s".repeat(32).into()));
    let (mut found, mut page_token, mut pages) = (std::collections::HashSet::new(), String::new(), 0);
    loop {
        let list = ListExecutionsRequest { page_size: 1_000, page_token, ..ListExecutionsRequest::default() };
        let list = outgoing.request(&agent("agent"), super::house::PATIENCE, list);
        let page = house.client.clone().list_executions(list).await.unwrap().into_inner();
        found.extend(page.executions.into_iter().map(|execution| execution.id));
        (page_token, pages) = (page.next_page_token, pages + 1);
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 70);
    assert!(pages > 1);
}
