//! Those who decide hear of access requests by webhook, and the trail tells who changed what.

use proto::{
    audit::v1::{Action, QueryTrailRequest},
    permissions::v1::{
        ApprovalScope, DecideAccessRequestRequest, ListWebhooksRequest, PutWebhookRequest,
        RequestAccessRequest, Role,
    },
};
use serde_json::{Value, json};
use tests::{HttpTool, Mode, Suite, Upstream, eventually};

tests::scenarios_alone! { a_request_is_told_of_by_webhook_and_every_change_stands_in_the_trail }

async fn a_request_is_told_of_by_webhook_and_every_change_stands_in_the_trail(mode: Mode) {
    let allow = |settings: &mut node::config::Settings| {
        settings.permissions.webhook_private_hosts = vec!["127.0.0.1".into()];
    };
    let (suite, receiver) = (Suite::start_with(mode, allow).await, Upstream::start().await);
    let put = PutWebhookRequest { name: "approvals".into(), url: receiver.url("/echo") };
    let made = suite.admin.permissions().put_webhook(put).await.unwrap().into_inner();
    assert!(made.secret.starts_with("whsec_"));
    suite.register(HttpTool::new("deploy", receiver.url("/echo")).posting()).await;
    let (agent, boss) = (suite.agent("").await, suite.member("", Role::Admin).await);

    let ask = RequestAccessRequest {
        tool_name: "deploy".into(),
        arguments_json: json!({ "password": "hunter2" }).to_string(),
        justification: "the release waits".into(),
        ..RequestAccessRequest::default()
    };
    let asked = agent.permissions().request_access(ask).await.unwrap().into_inner().access_request.unwrap();
    let told = told(&receiver, 1).await;
    assert_eq!(told[0]["type"], "access_request.created");
    assert_eq!((&told[0]["data"]["id"], &told[0]["data"]["tool_name"]), (&json!(asked.id), &json!("deploy")));
    assert_eq!(told[0]["data"]["justification"], "the release waits");
    assert!(!told[0].to_string().contains("hunter2"), "{}", told[0]);

    let approve = DecideAccessRequestRequest {
        id: asked.id.clone(),
        approve: true,
        scope: ApprovalScope::Once.into(),
        arguments_digest: asked.arguments_digest.clone(),
        ..DecideAccessRequestRequest::default()
    };
    boss.permissions().decide_access_request(approve).await.unwrap();
    let told = self::told(&receiver, 2).await;
    assert_eq!(told[1]["type"], "access_request.approved");
    assert_eq!(told[1]["data"]["decided_by"], json!(boss.agent));
    eventually("nothing waits for the webhook", async || {
        let listed =
            suite.admin.permissions().list_webhooks(ListWebhooksRequest {}).await.unwrap().into_inner();
        let webhook = &listed.webhooks[0];
        (webhook.waiting == 0 && webhook.last_success_time.is_some()).then_some(())
    })
    .await;

    for (action, part) in [
        (Action::PolicyChanged, "webhook approvals"),
        (Action::IdentityChanged, boss.agent.as_str()),
        (Action::AccessDecided, asked.id.as_str()),
    ] {
        let filter = QueryTrailRequest { action: action.into(), ..QueryTrailRequest::default() };
        let events = suite.trail(filter).await;
        assert!(events.iter().any(|event| event.message.contains(part)), "{part}: {events:?}");
        assert!(!format!("{events:?}").contains("hunter2") && !format!("{events:?}").contains(&made.secret));
    }
    suite.stop().await;
}

/// The messages, once there are so many.
async fn told(receiver: &Upstream, count: usize) -> Vec<Value> {
    receiver.wait_for_hits(count).await;
    receiver.hits().iter().map(|hit| serde_json::from_str(&hit.body).unwrap()).collect()
}
