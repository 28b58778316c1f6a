//! Policies of a team, from the edge to the tool: what they deny and permit, what is told of them, and what they would
//! have done to calls of the past.

use proto::{
    audit::v1::{Action, Event, QueryTrailRequest, Result as AuditResult},
    executor::v1::ExecutionStatus,
    permissions::v1::{
        DryRunPolicyRequest, ListPoliciesRequest, Policy, PutPolicyRequest, RemovePolicyRequest, Role,
    },
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, refused};
use tonic::{Code, Status};

tests::scenarios! {
    a_forbid_on_arguments_denies_until_it_is_removed,
    a_permit_allows_what_no_grant_does,
    a_faulty_policy_is_told_by_line_and_column_and_the_old_one_stays,
    a_dry_run_tells_which_past_calls_would_have_been_denied,
    policies_are_for_admins_and_auditors_read_them,
}

async fn try_put(client: &Client, name: &str, text: &str) -> Result<Policy, Status> {
    let request = PutPolicyRequest { name: name.into(), text: text.into(), ..PutPolicyRequest::default() };
    client.permissions().put_policy(request).await.map(|answer| answer.into_inner().policy.unwrap())
}

async fn put(suite: &Suite, name: &str, text: &str) -> Policy {
    try_put(&suite.admin, name, text).await.unwrap()
}

async fn remove(suite: &Suite, name: &str) {
    let request = RemovePolicyRequest { name: name.into() };
    suite.admin.permissions().remove_policy(request).await.unwrap();
}

/// Letters by this tool go to the office only.
fn only_to_the_office(tool: &str) -> String {
    format!(
        "@message(\"Letters go to the office only.\")\n\
         forbid (principal, action == Action::\"call\", resource)\n\
         when {{ resource.name == \"{tool}\" }}\n\
         unless {{ context.arguments.texts.hasTag(\"/to\") && context.arguments.texts.getTag(\"/to\") == \"office\" }};"
    )
}

async fn a_forbid_on_arguments_denies_until_it_is_removed(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("letters", upstream.url("/echo"))).await;
    agent.call("letters", json!({"to": "home"})).await;
    let policy = put(suite, "letters", &only_to_the_office("letters")).await;
    assert_eq!((policy.version, policy.created_by.as_str()), (1, "admin"));
    for arguments in [json!({"to": "home"}), json!({"to": ["office"]}), json!({})] {
        let answer = agent.try_call("letters", arguments).await;
        let refusal = refused(answer, Code::PermissionDenied, ErrorReason::PolicyDenied);
        assert!(refusal.message.contains("Letters go to the office only."), "{refusal:?}");
    }
    assert_eq!(agent.call("letters", json!({"to": "office"})).await.status(), ExecutionStatus::Succeeded);
    assert_eq!(upstream.hits().len(), 2);
    remove(suite, "letters").await;
    agent.call("letters", json!({"to": "home"})).await;
    let denials = suite.trail_of(&agent).await;
    let is_denial = |event: &&Event| event.action() == Action::PermissionChecked;
    let denials: Vec<_> = denials.iter().filter(is_denial).collect();
    assert_eq!(denials.len(), 3);
    assert!(denials.iter().all(|event| event.reason == "POLICY_DENIED"), "{denials:?}");
    let filter = QueryTrailRequest { action: Action::PolicyChanged.into(), ..QueryTrailRequest::default() };
    let changes = suite.trail(filter).await;
    let changes: Vec<_> = changes.iter().filter(|event| event.message.contains("policy letters ")).collect();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(changes.iter().all(|event| event.result() == AuditResult::Success && event.agent_id == "admin"));
}

async fn a_permit_allows_what_no_grant_does(suite: &Suite) {
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("notices", upstream.url("/echo"))).await;
    let (agent, other) = (suite.agent("Herald").await, suite.agent("Visitor").await);
    refused(agent.try_call("notices", json!({})).await, Code::PermissionDenied, ErrorReason::NoGrant);
    let text = r#"permit (principal, action == Action::"call", resource)
                  when { resource.name == "notices" && principal.specialization == "Herald" };"#;
    put(suite, "heralds", text).await;
    assert_eq!(agent.call("notices", json!({})).await.status(), ExecutionStatus::Succeeded);
    refused(other.try_call("notices", json!({})).await, Code::PermissionDenied, ErrorReason::NoGrant);
    remove(suite, "heralds").await;
    refused(agent.try_call("notices", json!({})).await, Code::PermissionDenied, ErrorReason::NoGrant);
    assert_eq!(upstream.hits().len(), 1);
}

async fn a_faulty_policy_is_told_by_line_and_column_and_the_old_one_stays(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("parcels", upstream.url("/echo"))).await;
    put(suite, "parcels", &only_to_the_office("parcels")).await;
    let faulty = "forbid (principal, action, resource)\nwhen {\n  context.grnat.readOnly ||\n  context.now == \"noon\"\n};";
    let refusal = refused(
        try_put(&suite.admin, "parcels", faulty).await,
        Code::InvalidArgument,
        ErrorReason::InvalidRequest,
    );
    let violations = refusal.violations();
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(
        violations[0].1.starts_with("line 3, column 3: ") && violations[0].1.contains("grnat"),
        "{violations:?}"
    );
    assert!(violations[1].1.starts_with("line 4, column "), "{violations:?}");
    let answer = agent.try_call("parcels", json!({"to": "home"})).await;
    refused(answer, Code::PermissionDenied, ErrorReason::PolicyDenied);
    let listing = ListPoliciesRequest { name: "parcels".into(), include_removed: true };
    let listed = suite.admin.permissions().list_policies(listing).await.unwrap().into_inner();
    assert_eq!(listed.policies.len(), 1);
    assert!(listed.schema.contains("entity Agent"));
    remove(suite, "parcels").await;
}

async fn a_dry_run_tells_which_past_calls_would_have_been_denied(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("postcards", upstream.url("/echo"))).await;
    let mut outside = Vec::new();
    for to in ["office", "home", "friends"] {
        let execution = agent.call("postcards", json!({"to": to})).await;
        if to != "office" {
            outside.push(execution.id);
        }
    }
    suite.wait_until_delivered().await;
    let request = DryRunPolicyRequest {
        name: "postcards".into(),
        text: only_to_the_office("postcards"),
        ..DryRunPolicyRequest::default()
    };
    let report = suite.admin.permissions().dry_run_policy(request).await.unwrap().into_inner();
    let mut told: Vec<_> = report.changed.iter().map(|changed| changed.execution_id.clone()).collect();
    told.reverse();
    assert_eq!((report.newly_denied, report.newly_allowed, told), (2, 0, outside), "{report:?}");
    assert!(report.calls >= 3, "{report:?}");
    let changed = &report.changed[0];
    assert!(changed.was_allowed && !changed.would_be_allowed && changed.policy_ids == ["team/postcards"]);
    // It was only tried.
    agent.call("postcards", json!({"to": "home"})).await;
}

async fn policies_are_for_admins_and_auditors_read_them(suite: &Suite) {
    let (agent, auditor) = (suite.agent("").await, suite.member("", Role::Auditor).await);
    let operator = suite.member("", Role::Operator).await;
    for client in [&agent, &auditor, &operator] {
        let answer = try_put(client, "own", "permit (principal, action, resource);").await;
        refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
        let request = DryRunPolicyRequest { name: "own".into(), ..DryRunPolicyRequest::default() };
        let answer = client.permissions().dry_run_policy(request).await;
        refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
    }
    auditor.permissions().list_policies(ListPoliciesRequest::default()).await.unwrap();
    let answer = agent.permissions().list_policies(ListPoliciesRequest::default()).await;
    refused(answer, Code::PermissionDenied, ErrorReason::RoleRequired);
}
