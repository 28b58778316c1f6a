//! The trail as its readers meet it: followed, asked for a user, summed up, held.

use std::time::Duration;

use prost_types::FieldMask;
use proto::{
    audit::v1::{
        Action, CostGroup, Event, GetCostsRequest, GetUsageRequest, ListHoldsRequest, PlaceHoldRequest,
        QueryTrailRequest, ReleaseHoldRequest, Result as AuditResult, WatchTrailRequest,
    },
    executor::v1::ExecuteRequest,
    permissions::v1::{Role, SetBudgetRequest},
    types::v1::Sensitivity,
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{HttpTool, PATIENCE, Suite, Upstream, eventually, refused, request};
use tonic::Code;

tests::scenarios! {
    an_event_is_told_to_whoever_follows_within_a_second_and_found_by_its_user,
    use_and_costs_are_counted_and_the_budget_is_shown,
    holds_are_for_admins_and_named_once,
}

async fn an_event_is_told_to_whoever_follows_within_a_second_and_found_by_its_user(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("followed", upstream.url("/echo"))).await;
    let action = Action::ToolInvoked.into();
    let filter = QueryTrailRequest { tool_name: "followed".into(), action, ..QueryTrailRequest::default() };
    let follow = WatchTrailRequest { filter: Some(filter.clone()), after_sequence: 0 };
    let mut stream = suite.admin.audit().watch_trail(follow.clone()).await.unwrap().into_inner();
    let begun = stream.message().await.unwrap().unwrap();
    assert!(begun.events.is_empty(), "only what comes from now on");
    let of_ada = agent.with_header("on-behalf-of", "ada@example.com");
    of_ada.call("followed", json!({})).await;
    let called = tokio::time::Instant::now();
    let mut events = Vec::<Event>::new();
    while events.is_empty() {
        let step = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        assert!(step.events.iter().all(|event| event.sequence <= step.sequence));
        events.extend(step.events);
    }
    assert!(called.elapsed() < Duration::from_secs(5), "{:?}", called.elapsed());
    assert_eq!((events[0].action(), events[0].user.as_str()), (Action::ToolInvoked, "ada@example.com"));
    // A watch that begins before finds the same.
    let again = WatchTrailRequest { after_sequence: events[0].sequence - 1, ..follow.clone() };
    let mut again = suite.admin.audit().watch_trail(again).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap().events[..1], events[..1]);
    for (user, expected) in [("ada@example.com", 1), ("bob@example.com", 0)] {
        let found = suite.trail(QueryTrailRequest { user: user.into(), ..filter.clone() }).await;
        assert_eq!(found.len(), expected, "{user}");
    }
    let of_subject = QueryTrailRequest { subject_id: events[0].subject_id.clone(), ..filter.clone() };
    assert_eq!(suite.trail(of_subject).await[..1], events[..1]);
    let other = if events[0].sensitivity() == Sensitivity::Public {
        Sensitivity::Restricted
    } else {
        Sensitivity::Public
    };
    assert!(suite.trail(QueryTrailRequest { sensitivity: other.into(), ..filter }).await.is_empty());
    // Only auditors follow.
    refused(
        agent.audit().watch_trail(follow).await.map(drop),
        Code::PermissionDenied,
        ErrorReason::RoleRequired,
    );
}

async fn use_and_costs_are_counted_and_the_budget_is_shown(suite: &Suite) {
    let upstream = Upstream::start().await;
    let tool = HttpTool::new("counted", upstream.url("/echo")).costing(40_000);
    let agent = suite.agent_with(tool).await;
    let budget = SetBudgetRequest { daily_micro_usd: 100_000 };
    suite.admin.permissions().set_budget(budget).await.unwrap();
    for _ in 0..2 {
        let call = ExecuteRequest { task_id: "task-42".into(), ..request("counted", json!({})) };
        agent.execute(call).await.unwrap();
    }
    let over = agent.try_call("counted", json!({})).await;
    refused(over.map(drop), Code::ResourceExhausted, ErrorReason::BudgetExhausted);
    let question = GetUsageRequest {
        tool_name: "counted".into(),
        group_by: Some(FieldMask { paths: vec!["agent_id".into()] }),
        ..GetUsageRequest::default()
    };
    let row = eventually("the calls are counted", async || {
        let answer = suite.admin.audit().get_usage(question.clone()).await.unwrap().into_inner();
        answer.rows.into_iter().find(|row| row.calls == 2 && row.denials == 1)
    })
    .await;
    assert_eq!((row.agent_id.as_str(), row.successes, row.cost_micro_usd), (agent.agent.as_str(), 2, 80_000));
    let asked = GetCostsRequest { task_id: "task-42".into(), ..GetCostsRequest::default() };
    for client in [&suite.admin, &agent] {
        let costs = client.audit().get_costs(asked.clone()).await.unwrap().into_inner();
        assert_eq!((costs.rows.len(), costs.total_micro_usd), (1, 80_000));
        assert_eq!((costs.rows[0].key.as_str(), costs.rows[0].calls), ("task-42", 2));
        assert_eq!((costs.budgets[0].limit_micro_usd, costs.budgets[0].used_micro_usd), (100_000, 80_000));
    }
    let told = eventually("the thresholds are told", async || {
        let events = suite.trail(QueryTrailRequest {
            action: Action::PermissionChanged.into(),
            result: AuditResult::Success.into(),
            ..QueryTrailRequest::default()
        });
        let mut told: Vec<Event> = events.await;
        told.retain(|event| event.reason == "BUDGET_THRESHOLD");
        (told.len() >= 2).then_some(told)
    })
    .await;
    assert!(told.len() == 2 && told.iter().all(|event| event.agent_id.is_empty()), "{told:?}");
    let costs = suite
        .admin
        .audit()
        .get_costs(GetCostsRequest { group: CostGroup::Day.into(), ..asked.clone() })
        .await;
    refused(costs.map(drop), Code::InvalidArgument, ErrorReason::InvalidRequest);
    let costs = suite.admin.audit().get_costs(asked).await.unwrap().into_inner();
    assert_eq!(costs.budgets[0].threshold_percent, 80);
    suite.admin.permissions().set_budget(SetBudgetRequest { daily_micro_usd: 0 }).await.unwrap();
}

async fn holds_are_for_admins_and_named_once(suite: &Suite) {
    let auditor = suite.member("", Role::Auditor).await;
    let place = PlaceHoldRequest {
        name: "case-7".into(),
        reason: "Case 7".into(),
        user: "ada@example.com".into(),
        ..PlaceHoldRequest::default()
    };
    let denied = auditor.audit().place_hold(place.clone()).await;
    refused(denied.map(drop), Code::PermissionDenied, ErrorReason::RoleRequired);
    let placed = suite.admin.audit().place_hold(place.clone()).await.unwrap().into_inner().hold.unwrap();
    let again = suite.admin.audit().place_hold(place).await;
    refused(again.map(drop), Code::AlreadyExists, ErrorReason::AlreadyExists);
    let listed = auditor.audit().list_holds(ListHoldsRequest::default()).await.unwrap().into_inner().holds;
    assert_eq!(listed, [placed]);
    assert_eq!((listed[0].user.as_str(), listed[0].place_agent_id.as_str()), ("ada@example.com", "admin"));
    let release = ReleaseHoldRequest { name: "case-7".into(), reason: "it is over".into() };
    suite.admin.audit().release_hold(release.clone()).await.unwrap();
    let gone = suite.admin.audit().release_hold(release).await;
    refused(gone.map(drop), Code::NotFound, ErrorReason::NotFound);
    let events = suite
        .trail(QueryTrailRequest { action: Action::HoldChanged.into(), ..QueryTrailRequest::default() })
        .await;
    let told: Vec<&str> = events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(told, ["hold case-7 was released: it is over", "hold case-7 was placed: Case 7"]);
}
