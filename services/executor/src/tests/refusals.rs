//! Calls that are not made: each is answered with its reason, and recorded.

use ::rpc::ErrorReason;
use proto::{
    audit::v1::{Action, Event, Result as AuditResult},
    executor::v1::ExecuteRequest,
    permissions::v1::{AuthorizeResponse, Quota},
    registry::v1::ToolDefinition,
};
use tonic::Code;
use tonic_types::StatusExt;

use super::{
    fakes::{Fakes, Mood},
    house::{House, posting, refused, request, until},
    upstream::Upstream,
};

/// The one event of a refusal, and proof that nothing ran.
async fn recorded(house: &House, upstream: &Upstream) -> Event {
    until(async || house.fakes.trail().len() == 1).await;
    assert_eq!((upstream.hits(), house.number("SELECT count(*) FROM executor.execution").await), (0, 0));
    assert!(house.fakes.settled().is_empty());
    house.fakes.trail().remove(0)
}

async fn house() -> (House, Upstream) {
    let (house, upstream) = (House::new().await, Upstream::well().await);
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"},"pin":{"writeOnly":true}},"required":["n"]}"#;
    house.add(ToolDefinition { input_schema_json: schema.into(), ..posting("tool", &upstream.url) });
    (house, upstream)
}

#[tokio::test]
async fn permissions_out_of_reach_means_denied() {
    let (house, upstream) = house().await;
    Fakes::set(&house.fakes.permissions, Mood::Down);
    let answer = house.execute(request("tool", r#"{"n":1}"#)).await;
    refused(answer, Code::Unavailable, ErrorReason::ServiceUnavailable);
    let event = recorded(&house, &upstream).await;
    assert_eq!((event.action(), event.result()), (Action::ErrorOccurred, AuditResult::Failure));
    assert_eq!((event.reason.as_str(), event.arguments_json.as_str()), ("SERVICE_UNAVAILABLE", r#"{"n":1}"#));
}

#[tokio::test]
async fn a_denial_carries_its_reason_and_is_recorded() {
    let (house, upstream) = house().await;
    let reset_time = Some(prost_types::Timestamp { seconds: chrono::Utc::now().timestamp() + 600, nanos: 0 });
    *house.fakes.denial.lock().unwrap() = Some(AuthorizeResponse {
        reason: "QUOTA_EXHAUSTED".into(),
        message: "5 of 5 calls an hour are used".into(),
        grant_id: "g".into(),
        quota: Some(Quota { limit: 5, used: 5, reset_time, ..Quota::default() }),
        ..AuthorizeResponse::default()
    });
    let answer = house.execute(request("tool", r#"{"n":1}"#)).await;
    let status = refused(answer, Code::ResourceExhausted, ErrorReason::QuotaExhausted);
    let wait = status.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!((590..=600).contains(&wait.as_secs()), "{wait:?}");
    let event = recorded(&house, &upstream).await;
    assert_eq!((event.action(), event.result()), (Action::PermissionChecked, AuditResult::Denied));
    assert_eq!(
        (event.reason.as_str(), event.message.as_str()),
        ("QUOTA_EXHAUSTED", "5 of 5 calls an hour are used")
    );
}

#[tokio::test]
async fn arguments_that_break_the_schema_never_reach_permissions_and_are_recorded_without_secrets() {
    let (house, upstream) = house().await;
    let answer = house.execute(request("tool", r#"{"n":"hunter2","pin":"9999"}"#)).await;
    let status = refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
    let violations = status.get_error_details().bad_request().unwrap().field_violations.clone();
    assert_eq!(violations.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(), ["arguments/n"]);
    let event = recorded(&house, &upstream).await;
    assert_eq!((event.action(), event.reason.as_str()), (Action::ErrorOccurred, "INVALID_ARGUMENTS"));
    assert!(!event.message.contains("hunter2") && !event.arguments_json.contains("9999"), "{event:?}");
    assert_eq!(house.fakes.authorized.load(std::sync::atomic::Ordering::Relaxed), 0);
    for not_an_object in ["[]", "{", "1"] {
        let answer = house.execute(request("tool", not_an_object)).await;
        refused(answer, Code::InvalidArgument, ErrorReason::InvalidArguments);
    }
    until(async || house.fakes.trail().len() == 4).await;
}

#[tokio::test]
async fn an_unknown_tool_is_recorded_and_names_like_it_are_offered() {
    let (house, upstream) = house().await;
    let answer = house.execute(request("toool", "{}")).await;
    let status = refused(answer, Code::NotFound, ErrorReason::ToolNotFound);
    assert!(status.message().contains("did you mean tool?"), "{status:?}");
    let event = recorded(&house, &upstream).await;
    assert_eq!((event.action(), event.tool_name.as_str()), (Action::ErrorOccurred, "toool"));
}

#[tokio::test]
async fn fields_that_audit_or_selector_would_refuse_are_refused_here() {
    let (house, _upstream) = house().await;
    let sound = || request("tool", r#"{"n":1}"#);
    for wrong in [
        ExecuteRequest { tool: "to\0ol".into(), ..sound() },
        ExecuteRequest { tool: "to\nol".into(), ..sound() },
        ExecuteRequest { tool: String::new(), ..sound() },
        ExecuteRequest { selection_id: "not-a-selection".into(), ..sound() },
        ExecuteRequest { request_id: "a\0b".into(), ..sound() },
        ExecuteRequest { task_id: "..".into(), ..sound() },
        ExecuteRequest { timeout_ms: -1, ..sound() },
    ] {
        refused(house.execute(wrong).await, Code::InvalidArgument, ErrorReason::InvalidRequest);
    }
}
