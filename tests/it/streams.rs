//! Calls and streams that are under way when their key is revoked.

use std::time::{Duration, Instant};

use futures_util::stream;
use proto::{
    executor::v1::ListExecutionsRequest,
    permissions::v1::{RevokeApiKeyRequest, WhoAmIRequest, WhoAmIResponse},
    registry::v1::{WatchToolsRequest, watch_tools_response::Event},
};
use rpc::ErrorReason;
use serde_json::json;
use tests::{Client, HttpTool, Suite, Upstream, eventually, refused, request};
use tokio::sync::oneshot;
use tonic::{Code, Request, Status, Streaming};

tests::scenarios! {
    a_revoked_key_ends_its_watches_at_once_and_no_others,
    a_call_whose_message_comes_after_its_key_was_revoked_is_refused,
}

/// The most that a revocation may take: it bites within a second, and a machine may be busy.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Another key of an agent, and its id.
async fn another_key(suite: &Suite, agent: &Client) -> (Client, String) {
    let (key, key_id) = suite.issue_key(&agent.agent).await;
    (suite.stranger().with_key(&agent.agent, &key), key_id)
}

async fn revoke(suite: &Suite, key_id: String) {
    suite.admin.permissions().revoke_api_key(RevokeApiKeyRequest { key_id }).await.unwrap();
}

/// A watch of the catalog, up to where nothing more is told.
async fn catalog(client: &Client) -> Streaming<proto::registry::v1::WatchToolsResponse> {
    let mut watched =
        client.registry().watch_tools(WatchToolsRequest { from_revision: 0 }).await.unwrap().into_inner();
    while !matches!(watched.message().await.unwrap().unwrap().event, Some(Event::SnapshotEnd(_))) {}
    watched
}

/// How a stream ends that may still say something.
async fn end<T>(mut watched: Streaming<T>) -> Status {
    let end = async {
        loop {
            match watched.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("it ends with an error"),
                Err(status) => return status,
            }
        }
    };
    tokio::time::timeout(Duration::from_mins(1), end).await.expect("it ends")
}

async fn a_revoked_key_ends_its_watches_at_once_and_no_others(suite: &Suite) {
    let upstream = Upstream::start().await;
    let agent = suite.agent_with(HttpTool::new("watched", upstream.url("/held"))).await;
    let (caller, _) = another_key(suite, &agent).await;
    let call = tokio::spawn(async move { caller.execute(request("watched", json!({}))).await });
    upstream.wait_for_hits(1).await;
    let (client, key_id) = another_key(suite, &agent).await;
    let id = client.executions(ListExecutionsRequest::default()).await[0].id.clone();
    let (tools, execution) = (catalog(&client).await, client.watch(&id, 0).await.unwrap());
    let mut others = agent.watch(&id, 0).await.unwrap();

    revoke(suite, key_id).await;
    let revoked = Instant::now();
    let (tools, execution) = tokio::join!(end(tools), end(execution));
    let after = revoked.elapsed();
    let words = refused(
        client.execute(request("watched", json!({}))).await,
        Code::Unauthenticated,
        ErrorReason::Unauthenticated,
    );
    for status in [tools, execution] {
        let ended = refused(Err::<(), _>(status), Code::Unauthenticated, ErrorReason::Unauthenticated);
        assert_eq!(ended.message, words.message);
    }
    assert!(after < AT_ONCE, "{after:?}");

    upstream.release();
    call.await.unwrap().unwrap();
    while others.message().await.unwrap().is_some() {}
}

async fn a_call_whose_message_comes_after_its_key_was_revoked_is_refused(suite: &Suite) {
    let agent = suite.agent("").await;
    let (client, key_id) = another_key(suite, &agent).await;
    let begin = || {
        let (go, message) = oneshot::channel::<()>();
        let messages = stream::once(async move {
            message.await.unwrap();
            WhoAmIRequest {}
        });
        let mut service = tonic::client::Grpc::new(client.service());
        let call = tokio::spawn(async move {
            service.ready().await.unwrap();
            let path = "/toolcrib.permissions.v1.PermissionsService/WhoAmI".parse().unwrap();
            let codec = tonic_prost::ProstCodec::<WhoAmIRequest, WhoAmIResponse>::default();
            service.client_streaming(Request::new(messages), path, codec).await
        });
        (go, call)
    };
    let ((first, taken), (second, late)) = (begin(), begin());
    // What is sent over the same connection after them is answered: they have reached the edge.
    for _ in 0..10 {
        client.permissions().who_am_i(WhoAmIRequest {}).await.unwrap();
        tokio::task::yield_now().await;
    }
    first.send(()).unwrap();
    assert_eq!(taken.await.unwrap().unwrap().into_inner().agent_id, agent.agent);

    revoke(suite, key_id).await;
    eventually("the key is nobody's", async || client.permissions().who_am_i(WhoAmIRequest {}).await.err())
        .await;
    second.send(()).unwrap();
    refused(late.await.unwrap(), Code::Unauthenticated, ErrorReason::Unauthenticated);
}
