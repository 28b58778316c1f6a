//! Who an agent is: keys with scopes that are rotated, tokens of an issuer that changes its keys, the end users that
//! agents act for; and who is nobody any more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use proto::{
    audit::v1::{Action, QueryTrailRequest},
    executor::v1::ExecutionStatus,
    permissions::v1::{
        ApiKey, IssueApiKeyRequest, ListApiKeysRequest, RotateApiKeyRequest, Scope, UpdateAgentRequest,
        WhoAmIRequest, WhoAmIResponse,
    },
};
use rpc::ErrorReason;
use serde_json::{Value, json};
use testkit::{KeyServer, SigningKey, SigningKeyKind};
use tests::{Client, HttpTool, Mode, Suite, Upstream, eventually, refused};
use tonic::Code;

tests::scenarios_alone! {
    a_token_opens_what_its_agent_may_until_the_agent_is_disabled,
    a_key_is_held_to_its_scopes_and_is_rotated_without_a_pause,
}

const ISSUER: &str = "https://id.example.com/";
const SAME: &str = "the API key or token is missing or not valid";

fn claims(agent: &str, changes: &Value) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut claims = json!({"iss": ISSUER, "aud": "crib", "sub": agent, "exp": now + 600, "jti": "j-1"});
    for (key, value) in changes.as_object().unwrap() {
        claims[key] = value.clone();
    }
    claims
}

async fn who(client: &Client) -> WhoAmIResponse {
    client.permissions().who_am_i(WhoAmIRequest {}).await.unwrap().into_inner()
}

async fn nobody(client: &Client) -> Option<()> {
    let answer = client.permissions().who_am_i(WhoAmIRequest {}).await;
    let status = answer.err()?;
    assert_eq!((status.code(), status.message()), (Code::Unauthenticated, SAME));
    Some(())
}

async fn a_token_opens_what_its_agent_may_until_the_agent_is_disabled(mode: Mode) {
    let (rsa, ec) =
        (SigningKey::new("one", SigningKeyKind::Rsa), SigningKey::new("two", SigningKeyKind::P256));
    let server = KeyServer::start(&[&rsa]);
    let issuer = json!({
        "name": "corporate", "issuer": ISSUER, "audiences": ["crib"], "jwks_url": server.url(), "team": "crew",
        "algorithms": ["RS256", "ES256"], "user_claim": "email", "scopes_claim": "scope",
    });
    let issuer = serde_json::from_value(issuer).unwrap();
    let suite = Suite::start_with(mode, |settings| settings.permissions.issuers = vec![issuer]).await;
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("told", upstream.url("/echo"))).await;
    let by = |token: &str| suite.stranger().with_key(&agent.agent, token);
    let told = |changes: Value| claims(&agent.agent, &changes);

    let ann =
        by(&rsa.sign(&told(json!({"email": "ann@example.com", "scope": "openid tools_read tools_call"}))));
    let me = who(&ann).await;
    assert_eq!((me.agent_id.as_str(), me.user.as_str()), (agent.agent.as_str(), "ann@example.com"));
    assert_eq!(me.scopes, [i32::from(Scope::ToolsRead), Scope::ToolsCall.into()]);
    assert_eq!(ann.call("told", json!({})).await.status(), ExecutionStatus::Succeeded);
    let other = ann.with_header("on-behalf-of", "bob@example.com");
    refused(other.try_call("told", json!({})).await, Code::PermissionDenied, ErrorReason::InvalidRequest);
    let reads = by(&rsa.sign(&told(json!({"scope": "tools_read"}))));
    refused(reads.try_call("told", json!({})).await, Code::PermissionDenied, ErrorReason::ScopeRequired);
    // An agent with a key says itself for whom it acts.
    assert_eq!(who(&agent.with_header("on-behalf-of", "eve")).await.user, "eve");

    // The issuer changes its keys; what it signs with the new one is taken within its gap of ten seconds.
    server.rotate(&[&ec]);
    let fresh = by(&ec.sign(&told(json!({}))));
    eventually("the new key is known", async || fresh.permissions().who_am_i(WhoAmIRequest {}).await.ok())
        .await;

    for wrong in [
        rsa.sign(&told(json!({}))),
        ec.sign(&told(json!({"aud": "another"}))),
        ec.sign(&told(json!({"exp": 1}))),
        ec.sign(&claims("nobody", &json!({}))),
        ec.sign_as(&json!({"alg": "none"}), &told(json!({}))),
    ] {
        assert!(nobody(&by(&wrong)).await.is_some(), "{wrong}");
    }
    eventually("the failures are in the trail", async || {
        let filter =
            QueryTrailRequest { action: Action::AuthenticationFailed.into(), ..QueryTrailRequest::default() };
        let events = suite.admin.audit().query_trail(filter).await.unwrap().into_inner().events;
        let has = |cause: &str| events.iter().any(|event| event.message.contains(cause));
        (has("audience") && has("ended") && has("no such agent") && has("not allowed")).then_some(())
    })
    .await;

    let disable =
        UpdateAgentRequest { agent_id: agent.agent.clone(), disabled: Some(true), ..Default::default() };
    suite.admin.permissions().update_agent(disable).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    for client in [&agent, &fresh] {
        assert!(nobody(client).await.is_some());
    }
    suite.stop().await;
}

async fn a_key_is_held_to_its_scopes_and_is_rotated_without_a_pause(mode: Mode) {
    let suite = Suite::start(mode).await;
    let request = IssueApiKeyRequest {
        agent_id: "admin".into(),
        scopes: vec![Scope::PermissionsRead.into(), Scope::PermissionsWrite.into(), Scope::ToolsRead.into()],
        note: "console".into(),
        ..IssueApiKeyRequest::default()
    };
    let issued = suite.admin.permissions().issue_api_key(request.clone()).await.unwrap().into_inner();
    let console = suite.stranger().with_key("admin", &issued.api_key);
    refused(
        console.try_call("python_sandbox", json!({})).await,
        Code::PermissionDenied,
        ErrorReason::ScopeRequired,
    );
    let whole = IssueApiKeyRequest { scopes: vec![], ..request };
    let refusal = console.permissions().issue_api_key(whole).await;
    let refusal = refused(refusal, Code::PermissionDenied, ErrorReason::ScopeRequired);
    assert!(
        refusal.message.contains("tools_call") && refusal.message.contains("permissions_write"),
        "{refusal:?}"
    );

    let rotate = RotateApiKeyRequest { key_id: issued.key_id.clone(), overlap_s: 2, ttl_s: 0 };
    let rotated = console.permissions().rotate_api_key(rotate.clone()).await.unwrap().into_inner();
    let renewed = suite.stranger().with_key("admin", &rotated.api_key);
    assert_eq!(who(&renewed).await.scopes.len(), 3);
    assert_eq!(who(&console).await.scopes.len(), 3, "both live");
    let again = renewed.permissions().rotate_api_key(rotate).await;
    let refusal = refused(again, Code::FailedPrecondition, ErrorReason::KeyNotRotatable);
    assert!(refusal.message.contains(&rotated.key_id), "{refusal:?}");
    eventually("the old key ends", async || nobody(&console).await).await;
    let key = eventually("the use is known", async || {
        let filter =
            ListApiKeysRequest { agent_id: "admin".into(), include_ended: true, ..Default::default() };
        let keys = renewed.permissions().list_api_keys(filter).await.unwrap().into_inner().api_keys;
        keys.into_iter().find(|key: &ApiKey| key.key_id == issued.key_id && key.last_use_time.is_some())
    })
    .await;
    assert_eq!((key.replaced_by, key.note.as_str()), (rotated.key_id, "console"));

    let away = UpdateAgentRequest { agent_id: "admin".into(), disabled: Some(true), ..Default::default() };
    let refusal = renewed.permissions().update_agent(away).await;
    refused(refusal, Code::FailedPrecondition, ErrorReason::LastAdmin);
    suite.stop().await;
}
