//! Access requests and the decisions on them: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    self as wire, AccessRequest, AccessRequestState, ApprovalScope, DecideAccessRequestRequest,
    DecideAccessRequestResponse, GetAccessRequestRequest, GetAccessRequestResponse,
    ListAccessRequestsRequest, ListAccessRequestsResponse, RequestAccessRequest, RequestAccessResponse,
    RevokeAccessRequest, RevokeAccessResponse, WatchAccessRequestsResponse,
};
use types::Role;

use futures_util::StreamExt;

use super::{Service, Watch, id, now, timestamp};
use crate::{
    Error,
    access_requests::{self, NewAccessRequest, Registry, Revocation, Verdict},
    condition,
    store::{AccessRequestFilter, AccessRequestRow, Decided},
};

pub(super) async fn request(
    service: &Service,
    call: &Call,
    request: RequestAccessRequest,
) -> Result<RequestAccessResponse, Error> {
    let approver_role = Option::<Role>::from(request.approver_role());
    let named = Some(request.execution_id.as_str()).filter(|id| !id.is_empty());
    let new = NewAccessRequest {
        execution_id: named.map(|text| id("execution_id", text)).transpose()?,
        tool_name: request.tool_name,
        tool_digest: request.tool_digest,
        arguments_json: request.arguments_json,
        arguments_digest: request.arguments_digest,
        justification: request.justification,
        ttl_s: request.ttl_s,
        approver_role,
    };
    let parts = (&service.database, &service.desk, registry(service));
    let row = access_requests::request(parts, &call.caller, new, now()).await?;
    Ok(RequestAccessResponse { access_request: Some(access_request(row)) })
}

pub(super) async fn get(
    service: &Service,
    call: &Call,
    request: GetAccessRequestRequest,
) -> Result<GetAccessRequestResponse, Error> {
    let named = id("id", &request.id)?;
    let row = access_requests::get(&service.database, &call.caller, named, now()).await?;
    Ok(GetAccessRequestResponse { access_request: Some(access_request(row)) })
}

pub(super) async fn list(
    service: &Service,
    call: &Call,
    request: ListAccessRequestsRequest,
) -> Result<ListAccessRequestsResponse, Error> {
    let state = request.state().as_str_name().trim_start_matches("ACCESS_REQUEST_STATE_").to_lowercase();
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let filter = AccessRequestFilter {
        state: (request.state() != AccessRequestState::Unspecified).then_some(state),
        agent_id: text(&request.agent_id),
        tool_name: text(&request.tool_name),
    };
    let page = (request.page_size, request.page_token.as_str());
    let listed =
        access_requests::list(&service.database, &service.pages, &call.caller, filter, page, now()).await?;
    let (rows, next_page_token) = listed;
    let access_requests = rows.into_iter().map(access_request).collect();
    Ok(ListAccessRequestsResponse { access_requests, next_page_token })
}

pub(super) async fn decide(
    service: &Service,
    call: &Call,
    request: DecideAccessRequestRequest,
) -> Result<DecideAccessRequestResponse, Error> {
    let verdict = Verdict {
        id: id("id", &request.id)?,
        approve: request.approve,
        scope: request.scope(),
        conditions: request.conditions,
        ttl_s: request.ttl_s,
        reason: request.reason,
        arguments_digest: request.arguments_digest,
    };
    let parts = (&service.database, &*service.desk.teams, registry(service));
    let (row, revision) = access_requests::decide(parts, &call.caller, verdict, now()).await?;
    Ok(DecideAccessRequestResponse { access_request: Some(access_request(row)), revision })
}

pub(super) async fn revoke(
    service: &Service,
    call: &Call,
    request: RevokeAccessRequest,
) -> Result<RevokeAccessResponse, Error> {
    let revocation = Revocation { id: id("id", &request.id)?, reason: request.reason };
    let parts = (&service.database, &*service.desk.teams);
    let (row, revision) = access_requests::revoke(parts, &call.caller, revocation, now()).await?;
    Ok(RevokeAccessResponse { access_request: Some(access_request(row)), revision })
}

pub(super) fn watch(service: &Service) -> Watch {
    let decided = service.decisions.watch(service.stop.clone());
    Box::pin(decided.map(|decided| Ok(decided.map(told).unwrap_or_default())))
}

fn told(decided: Decided) -> WatchAccessRequestsResponse {
    let (agent_id, tool_name) = decided.others.unwrap_or_default();
    WatchAccessRequestsResponse {
        access_request_id: decided.id.to_string(),
        team_id: decided.team,
        revision: decided.revision,
        agent_id,
        tool_name,
    }
}

fn registry(service: &Service) -> Registry<'_> {
    Registry { link: &service.registry, outgoing: &service.outgoing }
}

/// The one mapping of an access request.
fn access_request(row: AccessRequestRow) -> AccessRequest {
    let state = format!("ACCESS_REQUEST_STATE_{}", row.state.to_uppercase());
    let scope = row.scope.map(|word| format!("APPROVAL_SCOPE_{}", word.to_uppercase()));
    let scope = scope.and_then(|name| ApprovalScope::from_str_name(&name)).unwrap_or_default();
    AccessRequest {
        id: row.request_id.to_string(),
        agent_id: row.agent_id,
        user: row.end_user,
        tool_name: row.tool_name,
        tool_digest: row.tool_digest,
        arguments_digest: row.arguments_digest,
        arguments_json: row.arguments_json,
        justification: row.justification,
        approver_role: row.approver_role.parse::<Role>().map(wire::Role::from).unwrap_or_default().into(),
        state: AccessRequestState::from_str_name(&state).unwrap_or_default().into(),
        create_time: Some(timestamp(row.create_time)),
        expire_time: Some(timestamp(row.expire_time)),
        decided_by: row.decided_by.unwrap_or_default(),
        decide_time: row.decide_time.map(timestamp),
        decision_reason: row.decision_reason,
        scope: scope.into(),
        conditions: condition::to_wire(&row.conditions.0),
        execution_id: row.execution_id.map(|id| id.to_string()).unwrap_or_default(),
        revoked_by: row.revoked_by.unwrap_or_default(),
        revoke_time: row.revoke_time.map(timestamp),
        revoke_reason: row.revoke_reason,
    }
}
