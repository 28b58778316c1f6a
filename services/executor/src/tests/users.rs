//! For whom a call is made, and when it was recorded: told of every call, kept through the queue, and part of what makes
//! two requests the same.

use ::rpc::ErrorReason;
use proto::{
    audit::v1::{Action, Event},
    executor::v1::{CallOptions, ExecuteRequest, ExecutionStatus, GetExecutionRequest, Source},
    registry::v1::CacheSettings,
};
use tonic::Code;
use types::Caller;

use super::{
    cache::{counting, house, keeping, read_only},
    house::{House, PATIENCE, agent, ended, execution, posting, refused, request, until},
    queue::later,
    upstream::{Upstream, json},
};

fn of(user: &str) -> Caller {
    Caller { user: user.into(), ..agent("agent") }
}

/// The events of a tool, once there are so many.
async fn told(house: &House, tool: &str, number: usize) -> Vec<Event> {
    let of_tool =
        || house.fakes.trail().into_iter().filter(|event| event.tool_name == tool).collect::<Vec<_>>();
    until(async || of_tool().len() >= number).await;
    let events = of_tool();
    assert_eq!(events.len(), number, "{events:?}");
    events
}

#[tokio::test]
async fn an_event_says_for_whom_when_it_was_meant_and_what_came_of_it() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let done = execution(house.execute_as(&of("ada"), PATIENCE, request("tool", "{}")).await);
    assert_eq!(done.user, "ada");
    let event = told(&house, "tool", 1).await.remove(0);
    assert_eq!((event.user.as_str(), event.intent_time), ("ada", done.create_time));
    assert_eq!((event.result_summary_json, done.result_json.is_empty()), (done.result_json, false));
    let read = house.asking(&agent("agent"), GetExecutionRequest { id: done.id });
    let read = house.client.clone().get_execution(read).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(read.user, "ada");
}

#[tokio::test]
async fn a_long_result_is_cut_to_a_kilobyte_and_no_secret_is_cut_in_half() {
    let house = House::new().await;
    let secret = format!("ghp_{}", "a1B2".repeat(9));
    let text = format!("{}{secret}{}", "ä ".repeat(320), "x ".repeat(2_000));
    let answer = serde_json::json!({ "text": text }).to_string();
    let upstream = Upstream::new(move |_| {
        let answer = answer.clone();
        async move { json(200, &answer) }
    })
    .await;
    house.add(posting("tool", &upstream.url));
    ended(house.execute(request("tool", "{}")).await, ExecutionStatus::Succeeded);
    let summary = told(&house, "tool", 1).await.remove(0).result_summary_json;
    assert!((900..1_200).contains(&summary.len()), "{} bytes", summary.len());
    let read: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert!(read["begins"].as_str().unwrap().contains("ä ä ä") && read["bytes"].as_u64().unwrap() > 4_000);
    assert!(!summary.contains("ghp_"), "{summary}");
}

#[tokio::test]
async fn a_refusal_says_for_whom() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    house.execute_as(&of("ada"), PATIENCE, request("toool", "{}")).await.unwrap_err();
    assert_eq!(told(&house, "toool", 1).await[0].user, "ada");
}

#[tokio::test]
async fn another_user_of_the_same_agent_gets_no_answer_that_is_not_theirs() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let named = || ExecuteRequest { request_id: "r".into(), ..request("tool", "{}") };
    ended(house.execute_as(&of("ada"), PATIENCE, named()).await, ExecutionStatus::Succeeded);
    for user in ["bob", ""] {
        let other = house.execute_as(&of(user), PATIENCE, named()).await;
        refused(other, Code::FailedPrecondition, ErrorReason::RequestIdReused);
    }
    assert!(house.execute_as(&of("ada"), PATIENCE, named()).await.unwrap().replayed);
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test]
async fn a_queued_call_keeps_its_user() {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    house.add(posting("tool", &upstream.url));
    let asked = house.asking(&of("ada"), later("tool", "{}"));
    let accepted = house.client.clone().start_execution(asked).await.unwrap().into_inner().execution.unwrap();
    assert_eq!(accepted.user, "ada");
    let event = told(&house, "tool", 1).await.remove(0);
    assert_eq!((event.user.as_str(), event.intent_time), ("ada", accepted.create_time));
}

#[tokio::test]
async fn a_cache_that_has_no_answer_is_told_of_and_one_that_was_not_asked_is_not() {
    let house = house().await;
    let upstream = counting().await;
    house.add_with(read_only(posting("tool", &upstream.url)), keeping(CacheSettings::default()));
    house.add(read_only(posting("plain", &upstream.url)));
    let call = async |request: ExecuteRequest| execution(house.execute(request).await);
    let first = call(request("tool", "{}")).await;
    until(async || call(request("tool", r#"{"n":1}"#)).await.source() == Source::Cache).await;
    let skips = CallOptions { skip_cache: true, ..CallOptions::default() };
    call(ExecuteRequest { options: Some(skips), ..request("tool", r#"{"n":2}"#) }).await;
    call(request("plain", "{}")).await;
    let plain = told(&house, "plain", 1).await;
    assert_eq!(plain[0].action(), Action::ToolInvoked);
    let events: Vec<_> =
        house.fakes.trail().into_iter().filter(|event| event.execution_id == first.id).collect();
    let actions: Vec<Action> = events.iter().map(Event::action).collect();
    assert_eq!(actions, [Action::CacheMiss, Action::ToolInvoked]);
    assert!(events[0].intent_time.is_some() && events[0].arguments_json.is_empty());
    let misses = house.fakes.trail().into_iter().filter(|event| event.tool_name == "tool");
    let misses = misses.filter(|event| event.action() == Action::CacheMiss).count();
    let invoked = house.fakes.trail().into_iter().filter(|event| event.tool_name == "tool");
    let invoked = invoked.filter(|event| event.action() == Action::ToolInvoked).count();
    assert_eq!(invoked, misses + 1, "the one that skipped the cache was no miss");
}
