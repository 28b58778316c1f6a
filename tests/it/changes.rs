//! Changes of tools, servers and credentials in the trail, as its readers find them: told with who made them, by
//! themselves once the audit service is back, and though the process dies that was about to tell them.

use node::{
    config::{Role, Roles},
    wire,
};
use proto::{
    audit::v1::{Action, Event, QueryTrailRequest, Result as AuditResult},
    registry::v1::{
        CredentialSecret, PutCredentialRequest, RevokeCredentialRequest, RotateCredentialRequest,
        SetToolStatusRequest, ToolStatus, credential_secret::Kind,
    },
};
use serde_json::json;
use tests::{Client, HttpTool, Installation, Mode, PATIENCE, Suite, Upstream, block_on, eventually};

tests::scenarios_alone! {
    what_becomes_of_a_tool_and_a_credential_is_told,
    what_is_changed_while_the_audit_service_is_away_is_told_later,
}

fn about(tool: &str) -> QueryTrailRequest {
    QueryTrailRequest {
        tool_name: tool.into(),
        action: Action::DefinitionChanged.into(),
        ..QueryTrailRequest::default()
    }
}

fn messages(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.message.as_str()).collect()
}

async fn disable(admin: &Client, tool: &str) {
    let set = SetToolStatusRequest { name: tool.into(), status: ToolStatus::Disabled.into() };
    admin.registry().set_tool_status(set).await.unwrap();
}

fn key(text: &str) -> CredentialSecret {
    CredentialSecret { kind: Some(Kind::ApiKey(text.into())) }
}

async fn what_becomes_of_a_tool_and_a_credential_is_told(mode: Mode) {
    let suite = Suite::start(mode).await;
    let upstream = Upstream::start().await;
    let tool = suite.register(HttpTool::new("told", upstream.url("/echo"))).await;
    let agent = suite.agent("").await;
    suite.grant(&agent, "told").await;
    agent.call("told", json!({})).await;
    disable(&suite.admin.with_header("on-behalf-of", "ada@example.com"), "told").await;
    let events = suite.trail(about("told")).await;
    let expected = ["its status was set to disabled; it was active", "version 1.0.0 was registered"];
    assert_eq!(messages(&events), expected);
    for event in &events {
        assert_eq!((event.agent_id.as_str(), event.result()), ("admin", AuditResult::Success));
        assert_eq!((event.tool_version.as_str(), &event.tool_digest), ("1.0.0", &tool.digest));
        assert_eq!(event.trace_id.len(), 32, "{event:?}");
    }
    assert_eq!(events[0].user, "ada@example.com");
    // What the installation came with is told too, in nobody's name.
    let seeded = suite.trail(about("echo")).await;
    assert_eq!((seeded.len(), seeded[0].agent_id.as_str()), (1, ""));

    let mut registry = suite.admin.registry();
    let (name, secret) = ("told-key".to_owned(), Some(key("put-canary-111")));
    let put = PutCredentialRequest { name: name.clone(), secret, ..PutCredentialRequest::default() };
    registry.put_credential(put).await.unwrap();
    let secret = Some(key("rotated-canary-222"));
    let rotate = RotateCredentialRequest { name: name.clone(), secret, ..RotateCredentialRequest::default() };
    registry.rotate_credential(rotate).await.unwrap();
    registry.revoke_credential(RevokeCredentialRequest { name, version: 0 }).await.unwrap();
    let rotated =
        QueryTrailRequest { action: Action::CredentialRotated.into(), ..QueryTrailRequest::default() };
    let events = suite.trail(rotated).await;
    let expected = [
        "credential told-key: every version of it was revoked",
        "credential told-key: version 2 is used from now on",
        "credential told-key: version 2 was given by a rotation (api_key)",
        "credential told-key: version 1 is used from now on",
        "credential told-key: version 1 was put (api_key)",
    ];
    assert_eq!(events.len(), expected.len(), "{events:?}");
    for (event, expected) in events.iter().zip(expected) {
        assert!(event.message.starts_with(expected), "{} and not {expected}", event.message);
        assert_eq!((event.agent_id.as_str(), event.trace_id.len()), ("admin", 32));
    }
    assert!(!format!("{events:?}").contains("canary"));
    suite.stop().await;
}

async fn what_is_changed_while_the_audit_service_is_away_is_told_later(mode: Mode) {
    if mode == Mode::AllInOne {
        // Its audit service is away where it is.
        return;
    }
    let mut suite = Suite::start(mode).await;
    let (_, address) = suite.addresses.iter().find(|(role, _)| *role == Role::Audit).copied().unwrap();
    suite.wait_until_delivered().await;
    suite.stop_role(Role::Audit).await;
    let upstream = Upstream::start().await;
    suite.register(HttpTool::new("unheard", upstream.url("/echo"))).await;
    disable(&suite.admin, "unheard").await;
    assert_eq!(suite.count("registry.outbox", "true").await, 2, "they wait");
    let mut settings = suite.settings.clone();
    settings.audit.listen = address;
    let audit = wire::start(&settings, &Roles([Role::Audit].into())).await.unwrap();
    let events = suite.trail(about("unheard")).await;
    let expected = ["its status was set to disabled; it was active", "version 1.0.0 was registered"];
    assert_eq!(messages(&events), expected);
    suite.stop().await;
    audit.stop(PATIENCE).await;
}

#[test]
fn a_process_that_dies_before_it_told_a_change_tells_it_when_it_is_back() {
    block_on(async {
        let mut installation = Installation::start().await;
        let upstream = Upstream::start().await;
        let names: Vec<String> = (0..20).map(|number| format!("orphan-{number}")).collect();
        for name in &names {
            let admin = installation.client();
            admin.register(HttpTool::new(name, upstream.url("/echo"))).await;
        }
        // The last of them were answered a moment ago, and are looked for once a second.
        installation.kill();
        installation.start_again().await;
        let admin = installation.client();
        for name in &names {
            let events = eventually("the change is told", async || {
                let page = admin.audit().query_trail(about(name)).await.unwrap().into_inner();
                (!page.events.is_empty()).then_some(page.events)
            })
            .await;
            assert_eq!(messages(&events), ["version 1.0.0 was registered"], "once, and {name} by {events:?}");
        }
        assert!(installation.stop().await.success());
    });
}
