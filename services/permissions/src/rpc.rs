//! The gRPC face of the permissions service: parse, call the use case, map. The one mapping of a grant,
//! a decision and an agent. An API key is read and written here and never formatted.

mod access_requests;
mod decisions;
mod erasure;
mod explain;
mod grants;
mod identities;
mod policies;
mod values;
mod webhooks;

use std::pin::Pin;

use ::rpc::{Call, Link, Outgoing, PageKey, status};
use ::store::Database;
use futures_util::Stream;
use proto::permissions::v1::{
    AuthenticateRequest, AuthenticateResponse, AuthorizeRequest, AuthorizeResponse, BatchAuthorizeRequest,
    BatchAuthorizeResponse, BatchSettleReservationsRequest, BatchSettleReservationsResponse,
    CreateAgentRequest, CreateAgentResponse, DecideAccessRequestRequest, DecideAccessRequestResponse,
    DryRunPolicyRequest, DryRunPolicyResponse, EraseUserRequest, EraseUserResponse, ExplainRequest,
    ExplainResponse, GetAccessRequestRequest, GetAccessRequestResponse, GetBudgetRequest, GetBudgetResponse,
    GetUsageReportRequest, GetUsageReportResponse, GrantPermissionRequest, GrantPermissionResponse,
    IssueApiKeyRequest, IssueApiKeyResponse, ListAccessRequestsRequest, ListAccessRequestsResponse,
    ListAgentsRequest, ListAgentsResponse, ListApiKeysRequest, ListApiKeysResponse, ListGrantsRequest,
    ListGrantsResponse, ListPoliciesRequest, ListPoliciesResponse, ListWebhooksRequest, ListWebhooksResponse,
    PutPolicyRequest, PutPolicyResponse, PutWebhookRequest, PutWebhookResponse, RemovePolicyRequest,
    RemovePolicyResponse, RemoveWebhookRequest, RemoveWebhookResponse, RequestAccessRequest,
    RequestAccessResponse, RevokeAccessRequest, RevokeAccessResponse, RevokeApiKeyRequest,
    RevokeApiKeyResponse, RevokePermissionRequest, RevokePermissionResponse, RotateApiKeyRequest,
    RotateApiKeyResponse, SetBudgetRequest, SetBudgetResponse, SettleReservationRequest,
    SettleReservationResponse, SettlementResult, ToolDecision, UpdateAgentRequest, UpdateAgentResponse,
    WatchAccessRequestsRequest, WatchAccessRequestsResponse, WhoAmIRequest, WhoAmIResponse,
    permissions_service_server::PermissionsService,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use types::Caller;

use crate::{
    Error, Keys,
    access_requests::{Decisions, Registry},
    authenticate::Authenticator,
    authorize::Desk,
    batch_authorize::batch_authorize,
    budget::{get_budget, set_budget},
    grant_permission::{grant_permission, revoke_permission},
    list_grants::list_grants,
    policies::ToolFacts,
    settle::{settle, settle_all},
    store::Settlement,
    webhooks::Courier,
};
use decisions::{asked, authorize_response, budget, quota, reason_name, settlement, tool_facts};
use grants::{grant, grant_filter, new_grant};
use values::{id, now, time, timestamp};

/// Decisions on access requests as they are made.
type Watch = Pin<Box<dyn Stream<Item = Result<WatchAccessRequestsResponse, Status>> + Send>>;

pub(crate) struct Service {
    pub database: Database,
    pub desk: Desk,
    pub keys: Keys,
    /// Knows who presents them.
    pub authenticator: Authenticator,
    pub pages: PageKey,
    pub registry: Link,
    pub audit: Link,
    pub outgoing: Outgoing,
    /// Tells webhooks.
    pub courier: Courier,
    /// Tells services of decisions on access requests.
    pub decisions: Decisions,
    /// Ends what is told without end.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl PermissionsService for Service {
    async fn authorize(
        &self,
        request: Request<AuthorizeRequest>,
    ) -> Result<Response<AuthorizeResponse>, Status> {
        let caller = caller_of(&request)?;
        let asked = asked(caller, request.into_inner()).map_err(|error| status(&error))?;
        let decision = self.desk.authorize(&asked, now()).await.map_err(|error| status(&error))?;
        Ok(Response::new(authorize_response(decision)))
    }

    async fn batch_authorize(
        &self,
        request: Request<BatchAuthorizeRequest>,
    ) -> Result<Response<BatchAuthorizeResponse>, Status> {
        let caller = caller_of(&request)?;
        let tools: Vec<ToolFacts> = request.into_inner().tools.into_iter().map(tool_facts).collect();
        let who = (caller.team.as_str(), caller.agent.as_str(), caller.user.as_str());
        let answers = batch_authorize(&self.database, &self.desk, who, &tools, now())
            .await
            .map_err(|error| status(&error))?;
        let decisions =
            answers.into_iter().map(|why| ToolDecision { allowed: why.is_none(), reason: reason_name(why) });
        Ok(Response::new(BatchAuthorizeResponse { decisions: decisions.collect() }))
    }

    async fn settle_reservation(
        &self,
        request: Request<SettleReservationRequest>,
    ) -> Result<Response<SettleReservationResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let settlement = Settlement {
            team_id: caller.team,
            decision_id: id("decision_id", &request.decision_id).map_err(|error| status(&error))?,
            committed: request.committed,
            cost_micro_usd: request.cost_micro_usd,
        };
        settle(&self.desk.ledger, settlement).await.map_err(|error| status(&error))?;
        Ok(Response::new(SettleReservationResponse {}))
    }

    async fn batch_settle_reservations(
        &self,
        request: Request<BatchSettleReservationsRequest>,
    ) -> Result<Response<BatchSettleReservationsResponse>, Status> {
        let settlements = request.into_inner().settlements.into_iter().map(settlement);
        let settlements = settlements.collect::<Result<_, _>>().map_err(|error| status(&error))?;
        let found = settle_all(&self.desk.ledger, settlements).await.map_err(|error| status(&error))?;
        let results = found.into_iter().map(|found| SettlementResult { found }).collect();
        Ok(Response::new(BatchSettleReservationsResponse { results }))
    }

    async fn grant_permission(
        &self,
        request: Request<GrantPermissionRequest>,
    ) -> Result<Response<GrantPermissionResponse>, Status> {
        let caller = caller_of(&request)?;
        let new = new_grant(request.into_inner()).map_err(|error| status(&error))?;
        let registry = Registry { link: &self.registry, outgoing: &self.outgoing };
        let made = grant_permission(&self.database, &self.desk.teams, &registry, &caller, new, now())
            .await
            .map_err(|error| status(&error))?;
        let revision = made.revision;
        Ok(Response::new(GrantPermissionResponse { grant: Some(grant(made)), revision }))
    }

    async fn revoke_permission(
        &self,
        request: Request<RevokePermissionRequest>,
    ) -> Result<Response<RevokePermissionResponse>, Status> {
        let caller = caller_of(&request)?;
        let named = id("grant_id", &request.into_inner().grant_id).map_err(|error| status(&error))?;
        let revoked = revoke_permission(&self.database, &self.desk.teams, &caller, named, now())
            .await
            .map_err(|error| status(&error))?;
        let revision = revoked.revision;
        Ok(Response::new(RevokePermissionResponse { grant: Some(grant(revoked)), revision }))
    }

    async fn list_grants(
        &self,
        request: Request<ListGrantsRequest>,
    ) -> Result<Response<ListGrantsResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let page = (request.page_size, request.page_token.as_str());
        let listed = list_grants(&self.database, &self.pages, &caller, grant_filter(&request), page, now());
        let (grants, next_page_token) = listed.await.map_err(|error| status(&error))?;
        let grants = grants.into_iter().map(grant).collect();
        Ok(Response::new(ListGrantsResponse { grants, next_page_token }))
    }

    async fn set_budget(
        &self,
        request: Request<SetBudgetRequest>,
    ) -> Result<Response<SetBudgetResponse>, Status> {
        let caller = caller_of(&request)?;
        let (daily, at) = (request.into_inner().daily_micro_usd, now());
        let set = set_budget(&self.database, &self.desk.teams, &caller, daily, at).await;
        let set = set.map_err(|error| status(&error))?;
        Ok(Response::new(SetBudgetResponse { budget: Some(budget(set, at)) }))
    }

    async fn get_budget(
        &self,
        request: Request<GetBudgetRequest>,
    ) -> Result<Response<GetBudgetResponse>, Status> {
        let (caller, at) = (caller_of(&request)?, now());
        let found = get_budget(&self.database, &caller.team, at).await.map_err(|error| status(&error))?;
        Ok(Response::new(GetBudgetResponse { budget: Some(budget(found, at)) }))
    }

    async fn erase_user(
        &self,
        request: Request<EraseUserRequest>,
    ) -> Result<Response<EraseUserResponse>, Status> {
        answer(erasure::erase(self, request.into_inner()).await)
    }

    async fn create_agent(
        &self,
        request: Request<CreateAgentRequest>,
    ) -> Result<Response<CreateAgentResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::create_agent(self, &call, request.into_inner()).await)
    }

    async fn issue_api_key(
        &self,
        request: Request<IssueApiKeyRequest>,
    ) -> Result<Response<IssueApiKeyResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::issue_key(self, &call, request.into_inner()).await)
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::revoke_key(self, &call, request.into_inner()).await)
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        let call = call_of(&request)?;
        answer(explain::explain(self, &call, request.into_inner()).await)
    }

    async fn get_usage_report(
        &self,
        request: Request<GetUsageReportRequest>,
    ) -> Result<Response<GetUsageReportResponse>, Status> {
        let call = call_of(&request)?;
        answer(explain::usage_report(self, &call, request.into_inner()).await)
    }

    async fn put_policy(
        &self,
        request: Request<PutPolicyRequest>,
    ) -> Result<Response<PutPolicyResponse>, Status> {
        let call = call_of(&request)?;
        answer(policies::put(self, &call, request.into_inner()).await)
    }

    async fn remove_policy(
        &self,
        request: Request<RemovePolicyRequest>,
    ) -> Result<Response<RemovePolicyResponse>, Status> {
        let call = call_of(&request)?;
        answer(policies::remove(self, &call, request.into_inner()).await)
    }

    async fn list_policies(
        &self,
        request: Request<ListPoliciesRequest>,
    ) -> Result<Response<ListPoliciesResponse>, Status> {
        let call = call_of(&request)?;
        answer(policies::list(self, &call, request.into_inner()).await)
    }

    async fn dry_run_policy(
        &self,
        request: Request<DryRunPolicyRequest>,
    ) -> Result<Response<DryRunPolicyResponse>, Status> {
        let call = call_of(&request)?;
        answer(policies::dry_run(self, &call, request.into_inner()).await)
    }

    async fn request_access(
        &self,
        request: Request<RequestAccessRequest>,
    ) -> Result<Response<RequestAccessResponse>, Status> {
        let call = call_of(&request)?;
        answer(access_requests::request(self, &call, request.into_inner()).await)
    }

    async fn get_access_request(
        &self,
        request: Request<GetAccessRequestRequest>,
    ) -> Result<Response<GetAccessRequestResponse>, Status> {
        let call = call_of(&request)?;
        answer(access_requests::get(self, &call, request.into_inner()).await)
    }

    async fn list_access_requests(
        &self,
        request: Request<ListAccessRequestsRequest>,
    ) -> Result<Response<ListAccessRequestsResponse>, Status> {
        let call = call_of(&request)?;
        answer(access_requests::list(self, &call, request.into_inner()).await)
    }

    async fn decide_access_request(
        &self,
        request: Request<DecideAccessRequestRequest>,
    ) -> Result<Response<DecideAccessRequestResponse>, Status> {
        let call = call_of(&request)?;
        answer(access_requests::decide(self, &call, request.into_inner()).await)
    }

    async fn revoke_access(
        &self,
        request: Request<RevokeAccessRequest>,
    ) -> Result<Response<RevokeAccessResponse>, Status> {
        let call = call_of(&request)?;
        answer(access_requests::revoke(self, &call, request.into_inner()).await)
    }

    async fn watch_access_requests(
        &self,
        _request: Request<WatchAccessRequestsRequest>,
    ) -> Result<Response<Watch>, Status> {
        Ok(Response::new(access_requests::watch(self)))
    }

    async fn put_webhook(
        &self,
        request: Request<PutWebhookRequest>,
    ) -> Result<Response<PutWebhookResponse>, Status> {
        let call = call_of(&request)?;
        answer(webhooks::put(self, &call, request.into_inner()).await)
    }

    async fn list_webhooks(
        &self,
        request: Request<ListWebhooksRequest>,
    ) -> Result<Response<ListWebhooksResponse>, Status> {
        let call = call_of(&request)?;
        answer(webhooks::list(self, &call, request.into_inner()).await)
    }

    async fn remove_webhook(
        &self,
        request: Request<RemoveWebhookRequest>,
    ) -> Result<Response<RemoveWebhookResponse>, Status> {
        let call = call_of(&request)?;
        answer(webhooks::remove(self, &call, request.into_inner()).await)
    }

    async fn update_agent(
        &self,
        request: Request<UpdateAgentRequest>,
    ) -> Result<Response<UpdateAgentResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::update_agent(self, &call, request.into_inner()).await)
    }

    async fn list_agents(
        &self,
        request: Request<ListAgentsRequest>,
    ) -> Result<Response<ListAgentsResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::list_agents(self, &call, request.into_inner()).await)
    }

    async fn rotate_api_key(
        &self,
        request: Request<RotateApiKeyRequest>,
    ) -> Result<Response<RotateApiKeyResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::rotate_key(self, &call, request.into_inner()).await)
    }

    async fn list_api_keys(
        &self,
        request: Request<ListApiKeysRequest>,
    ) -> Result<Response<ListApiKeysResponse>, Status> {
        let call = call_of(&request)?;
        answer(identities::list_keys(self, &call, request.into_inner()).await)
    }

    async fn authenticate(
        &self,
        request: Request<AuthenticateRequest>,
    ) -> Result<Response<AuthenticateResponse>, Status> {
        answer(identities::authenticate(self, request.into_inner()).await)
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(identities::who_am_i(caller_of(&request)?)))
    }
}

fn call_of<T>(request: &Request<T>) -> Result<Call, Status> {
    Call::of(request).map_err(|status| *status)
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| status(&error))
}

fn caller_of<T>(request: &Request<T>) -> Result<Caller, Status> {
    Call::of(request).map(|call| call.caller).map_err(|status| *status)
}
