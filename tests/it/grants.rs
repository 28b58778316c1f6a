//! Grants of every kind, as callers meet them.

use proto::{
    executor::v1::ExecutionStatus,
    permissions::v1::{
        AllowedHours, ArgumentCondition, Grant, GrantPermissionRequest, HoursWindow, ListGrantsRequest,
        NumberRange, TextSet, argument_condition::Test, grant::Grantee,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use tests::{Client, HttpTool, Suite, Upstream, refused};
use tonic::Code;

tests::scenarios! {
    arguments_are_held_to_their_conditions,
    a_pattern_opens_the_tools_below_it_and_those_that_come_later,
    limits_of_a_day_and_in_all_hold_and_are_shown,
    hours_are_those_of_the_wall_clock,
    a_grant_names_what_is_there,
}

fn condition(pointer: &str, test: Test) -> ArgumentCondition {
    ArgumentCondition { pointer: pointer.to_owned(), test: Some(test) }
}

fn texts(values: &[&str]) -> TextSet {
    TextSet { values: values.iter().map(|value| (*value).to_owned()).collect() }
}

/// An agent that may call a new tool within the limits of this grant.
async fn agent_with(suite: &Suite, name: &str, upstream: &Upstream, limits: Grant) -> Client {
    suite.register(HttpTool::new(name, upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    suite.grant_with(&agent, name, limits).await;
    agent
}

async fn succeeds(agent: &Client, tool: &str, arguments: Value) {
    let execution = agent.call(tool, arguments).await;
    assert_eq!(execution.status(), ExecutionStatus::Succeeded, "{execution:?}");
}

async fn arguments_are_held_to_their_conditions(suite: &Suite) {
    let upstream = Upstream::start().await;
    let conditions = vec![
        condition("/path", Test::Within(texts(&["/reports"]))),
        condition("/to/*", Test::UrlHost(texts(&["*.example.org"]))),
        condition("/n", Test::Range(NumberRange { min: Some(1.0), max: Some(5.0) })),
    ];
    let agent = agent_with(suite, "conditional", &upstream, Grant { conditions, ..Grant::default() }).await;
    let met = json!({"path": "/reports/2026/q1.csv", "to": ["https://a.example.org/x"], "n": 5});
    succeeds(&agent, "conditional", met.clone()).await;
    for (pointer, value) in [
        ("/path", json!("/reports/../etc/hunter2")),
        ("/path", json!("/reports/%2e%2e/etc/hunter2")),
        ("/to", json!(["https://a.example.org", "https://hunter2@a.example.org/"])),
        ("/to", json!([])),
        ("/n", json!(6)),
        ("/n", json!("5")),
    ] {
        let mut arguments = met.clone();
        *arguments.pointer_mut(pointer).unwrap() = value;
        let answer = agent.try_call("conditional", arguments).await;
        let refusal = refused(answer, Code::PermissionDenied, ErrorReason::ArgumentCondition);
        assert!(refusal.message.contains(pointer), "{refusal:?}");
        assert!(!refusal.message.contains("hunter2"), "{refusal:?}");
    }
    assert_eq!(upstream.connections(), 1);
}

async fn a_pattern_opens_the_tools_below_it_and_those_that_come_later(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("group.one", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    suite.grant_with(&agent, "group.*", Grant::default()).await;
    suite.register(HttpTool::new("group.later", upstream.url("/echo"))).await;
    suite.register(HttpTool::new("groups.other", upstream.url("/echo"))).await;
    succeeds(&agent, "group.one", json!({})).await;
    succeeds(&agent, "group.later", json!({})).await;
    let answer = agent.try_call("groups.other", json!({})).await;
    refused(answer, Code::PermissionDenied, ErrorReason::NoGrant);
}

async fn limits_of_a_day_and_in_all_hold_and_are_shown(suite: &Suite) {
    let upstream = Upstream::start().await;
    let limits = Grant { max_per_day: 9, max_total: 3, ..Grant::default() };
    let agent = agent_with(suite, "thrice", &upstream, limits).await;
    let calls = (0..12).map(|n| {
        let agent = agent.clone();
        tokio::spawn(async move { agent.try_call("thrice", json!({"n": n})).await.is_ok() })
    });
    let mut made = 0;
    for call in calls.collect::<Vec<_>>() {
        made += usize::from(call.await.unwrap());
    }
    assert_eq!(made, 3);
    let answer = agent.try_call("thrice", json!({})).await;
    let refusal = refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
    assert!(refusal.message.contains("3 calls") && refusal.message.contains("in all"), "{refusal:?}");
    let filter = ListGrantsRequest { agent_id: agent.agent.clone(), ..ListGrantsRequest::default() };
    let grants = suite.admin.permissions().list_grants(filter).await.unwrap().into_inner().grants;
    assert_eq!((grants[0].max_per_day, grants[0].max_total, grants[0].used_total), (9, 3, 3));
}

async fn hours_are_those_of_the_wall_clock(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("timely", upstream.url("/echo"))).await;
    let of = |start: &str, end: &str, days: Vec<i32>| {
        let window = HoursWindow { days, start: start.into(), end: end.into() };
        let hours = Some(AllowedHours { time_zone: "Australia/Lord_Howe".into(), windows: vec![window] });
        Grant { hours, ..Grant::default() }
    };
    let (always, never_today) = (suite.agent("").await, suite.agent("").await);
    suite.grant_with(&always, "timely", of("00:00", "24:00", Vec::new())).await;
    succeeds(&always, "timely", json!({})).await;
    // Four days from now it is another day of the week, whatever the time zone.
    let days = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() / 86_400;
    // 1970 began on a Thursday.
    let other = i32::try_from((days + 4 + 3) % 7).unwrap() + 1;
    suite.grant_with(&never_today, "timely", of("00:00", "24:00", vec![other])).await;
    let answer = never_today.try_call("timely", json!({})).await;
    let refusal = refused(answer, Code::PermissionDenied, ErrorReason::OutsideHours);
    assert!(refusal.message.contains("Australia/Lord_Howe only; they begin next at"), "{refusal:?}");
}

async fn a_grant_names_what_is_there(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("named", upstream.url("/echo"))).await;
    let agent = suite.agent("Namer").await;
    let to_agent = |name: &str| Some(Grantee::AgentId(name.to_owned()));
    let specialization = |name: &str| Some(Grantee::Specialization(name.to_owned()));
    let grant = async |grantee: Option<Grantee>, tool: &str| {
        let grant = Grant { grantee, tool_name: tool.to_owned(), ..Grant::default() };
        suite.admin.permissions().grant_permission(GrantPermissionRequest { grant: Some(grant) }).await
    };
    for (grantee, tool, named) in [
        (to_agent("nobody-here"), "named", "nobody-here"),
        (specialization("Nobody Here"), "named", "Nobody Here"),
        (to_agent(&agent.agent), "no-such-tool", "no-such-tool"),
        (to_agent(&agent.agent), "no-such.*", "no-such.*"),
    ] {
        let refusal = refused(grant(grantee, tool).await, Code::NotFound, ErrorReason::NotFound);
        assert!(refusal.message.contains(named), "{refusal:?}");
    }
    grant(specialization("Namer"), "named").await.unwrap();
    succeeds(&agent, "named", json!({})).await;
}
