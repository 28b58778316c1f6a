//! Services hear of decisions as they are made, by whichever process.

use proto::permissions::v1::{
    DecideAccessRequestRequest, RequestAccessRequest, RevokeAccessRequest, WatchAccessRequestsRequest,
    WatchAccessRequestsResponse,
};
use tonic::{Code, Streaming};

use super::{super::service::Suite, *};

async fn watch(suite: &Suite) -> Streaming<WatchAccessRequestsResponse> {
    let request = suite.on_behalf(&Caller::service("executor"), WatchAccessRequestsRequest {});
    let mut told = suite.client.clone().watch_access_requests(request).await.unwrap().into_inner();
    assert_eq!(next(&mut told).await.unwrap().access_request_id, "", "it has begun");
    told
}

/// What is told next; `None`: it has ended.
async fn next(told: &mut Streaming<WatchAccessRequestsResponse>) -> Option<WatchAccessRequestsResponse> {
    tokio::time::timeout(Duration::from_secs(20), told.message()).await.expect("something is told").unwrap()
}

async fn asked(suite: &Suite, n: i64) -> wire::AccessRequest {
    let request = RequestAccessRequest {
        tool_name: TOOL.into(),
        arguments_json: json!({ "n": n }).to_string(),
        justification: "because".into(),
        ..RequestAccessRequest::default()
    };
    let asked = suite.client.clone().request_access(suite.as_agent(&scout(), request)).await;
    asked.unwrap().into_inner().access_request.unwrap()
}

async fn decide(suite: &Suite, request: &wire::AccessRequest, scope: Option<wire::ApprovalScope>) -> i64 {
    let decision = DecideAccessRequestRequest {
        id: request.id.clone(),
        approve: scope.is_some(),
        scope: scope.unwrap_or_default().into(),
        reason: "looked at".into(),
        arguments_digest: request.arguments_digest.clone(),
        ..DecideAccessRequestRequest::default()
    };
    let decided = suite.client.clone().decide_access_request(suite.as_agent(&root(), decision)).await;
    decided.unwrap().into_inner().revision
}

#[tokio::test]
async fn decisions_and_revocations_are_told_by_every_process_with_their_revision() {
    let database = team().await;
    let (first, second) = (Suite::start(database.clone()), Suite::start(database));
    let mut watches = [watch(&first).await, watch(&second).await];
    // The connection that listens is made in the background: what comes before it is heard by nobody.
    let heard = async {
        for n in 100.. {
            let (waiting, mut both) = (asked(&first, n).await, 0);
            decide(&first, &waiting, None).await;
            for told in &mut watches {
                let soon = tokio::time::timeout(Duration::from_millis(300), told.message()).await;
                both += usize::from(
                    soon.is_ok_and(|told| told.unwrap().unwrap().access_request_id == waiting.id),
                );
            }
            if both == 2 {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), heard).await.expect("both processes listen");
    let requests = [asked(&first, 1).await, asked(&first, 2).await, asked(&second, 3).await];
    let tool = wire::ApprovalScope::Tool;
    let revisions = [
        decide(&first, &requests[0], Some(wire::ApprovalScope::Once)).await,
        decide(&second, &requests[1], None).await,
        decide(&second, &requests[2], Some(tool)).await,
    ];
    let revoke = RevokeAccessRequest { id: requests[2].id.clone(), reason: "a mistake".into() };
    let revoked =
        first.client.clone().revoke_access(first.as_agent(&root(), revoke)).await.unwrap().into_inner();
    assert_eq!(revoked.access_request.unwrap().state(), wire::AccessRequestState::Revoked);
    let told = |n: usize, revision: i64, others: (&str, &str)| WatchAccessRequestsResponse {
        access_request_id: requests[n].id.clone(),
        team_id: "t".into(),
        revision,
        agent_id: others.0.into(),
        tool_name: others.1.into(),
    };
    let expected = [
        told(0, revisions[0], ("", "")),
        told(1, revisions[1], ("", "")),
        told(2, revisions[2], ("scout", TOOL)),
        told(2, revoked.revision, ("", "")),
    ];
    for watch in &mut watches {
        for expected in &expected {
            assert_eq!(next(watch).await.as_ref(), Some(expected));
        }
    }
    first.end().await;
    assert_eq!(next(&mut watches[0]).await, None, "it ends with its process");
    second.end().await;
}

#[tokio::test]
async fn only_services_are_told() {
    let suite = Suite::start(team().await);
    let request = suite.as_agent(&root(), WatchAccessRequestsRequest {});
    let refused = suite.client.clone().watch_access_requests(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    suite.end().await;
}
