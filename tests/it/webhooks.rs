//! Those who decide hear of access requests by webhook, and the trail tells who changed what.

use axum::{Router, extract::State, http::HeaderMap};
use proto::{
    audit::v1::{Action, QueryTrailRequest},
    permissions::v1::{
        ApprovalScope, DecideAccessRequestRequest, Grant, ListWebhooksRequest, PutWebhookRequest,
        RequestAccessRequest, Role,
    },
};
use serde_json::{Value, json};
use tests::{
    HttpTool, Mode, Suite, Upstream, block_on,
    chaos::{Crew, Plan},
    eventually,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

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

/// Takes messages: the first is never answered, and every other is taken. It ends with this value.
struct Receiver {
    url: String,
    /// Ids and bodies, in the order in which they came.
    messages: watch::Receiver<Vec<(String, String)>>,
    server: JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Self {
        let (seen, messages) = watch::channel(Vec::new());
        let take = async |State(seen): State<watch::Sender<Vec<(String, String)>>>,
                          headers: HeaderMap,
                          body| {
            seen.send_modify(|seen| seen.push((headers["webhook-id"].to_str().unwrap().to_owned(), body)));
            if seen.borrow().len() == 1 {
                std::future::pending::<()>().await;
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(take).with_state(seen);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, messages, server }
    }

    async fn wait_for(&self, count: usize) -> Vec<(String, String)> {
        let mut messages = self.messages.clone();
        let come = messages.wait_for(|messages| messages.len() >= count);
        tokio::time::timeout(tests::PATIENCE, come).await.expect("messages come").unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A real process, killed after it has sent and before it could note that.
#[test]
fn what_a_killed_process_had_sent_comes_again_under_the_same_id() {
    block_on(async {
        let crew = Crew::start(&Plan { executors: 1, ..Plan::default() }).await;
        let receiver = Receiver::start().await;
        let put = PutWebhookRequest { name: "ops".into(), url: receiver.url.clone() };
        crew.admin.permissions().put_webhook(put).await.unwrap();
        crew.admin.register(HttpTool::new("deploy", receiver.url.clone())).await;
        let agent = crew.agent("worker", &[], &Grant::default()).await.remove(0);
        let ask = RequestAccessRequest {
            tool_name: "deploy".into(),
            arguments_json: "{}".into(),
            justification: "the release waits".into(),
            ..RequestAccessRequest::default()
        };
        agent.permissions().request_access(ask).await.unwrap();
        let first = receiver.wait_for(1).await.remove(0);
        crew.edges[0].kill();
        assert_eq!(crew.number("SELECT count(*) FROM permissions.delivery WHERE attempts = 1").await, 1);
        // Else it were half a minute until the one that is dead is taken for it.
        sqlx::query("UPDATE permissions.delivery SET due_time = now()").execute(crew.pool()).await.unwrap();
        crew.edges[0].start();
        let messages = receiver.wait_for(2).await;
        assert_eq!(messages[1], first, "the same message under the same id");
        eventually("nothing waits for the webhook", async || {
            (crew.number("SELECT count(*) FROM permissions.delivery").await == 0).then_some(())
        })
        .await;
        assert_eq!(receiver.messages.borrow().len(), 2);
    });
}
