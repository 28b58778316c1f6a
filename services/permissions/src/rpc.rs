//! The gRPC face of the permissions service: parse, call the use case, map. The one mapping of a grant,
//! a decision and an agent. An API key is read and written here and never formatted.

mod access_requests;
mod explain;
mod identities;
mod policies;
mod webhooks;

use ::rpc::{Call, ErrorReason, Link, Outgoing, PageKey, status};
use ::store::Database;
use chrono::{DateTime, SubsecRound, Utc};
use proto::{
    permissions::v1::{
        self as wire, AuthenticateRequest, AuthenticateResponse, AuthorizeRequest, AuthorizeResponse,
        BatchAuthorizeRequest, BatchAuthorizeResponse, BatchSettleReservationsRequest,
        BatchSettleReservationsResponse, CreateAgentRequest, CreateAgentResponse, DecideAccessRequestRequest,
        DecideAccessRequestResponse, DryRunPolicyRequest, DryRunPolicyResponse, ExplainRequest,
        ExplainResponse, GetAccessRequestRequest, GetAccessRequestResponse, GetBudgetRequest,
        GetBudgetResponse, GetUsageReportRequest, GetUsageReportResponse, GrantPermissionRequest,
        GrantPermissionResponse, IssueApiKeyRequest, IssueApiKeyResponse, ListAccessRequestsRequest,
        ListAccessRequestsResponse, ListAgentsRequest, ListAgentsResponse, ListApiKeysRequest,
        ListApiKeysResponse, ListGrantsRequest, ListGrantsResponse, ListPoliciesRequest,
        ListPoliciesResponse, ListWebhooksRequest, ListWebhooksResponse, PutPolicyRequest, PutPolicyResponse,
        PutWebhookRequest, PutWebhookResponse, RemovePolicyRequest, RemovePolicyResponse,
        RemoveWebhookRequest, RemoveWebhookResponse, RequestAccessRequest, RequestAccessResponse,
        RevokeApiKeyRequest, RevokeApiKeyResponse, RevokePermissionRequest, RevokePermissionResponse,
        RotateApiKeyRequest, RotateApiKeyResponse, SetBudgetRequest, SetBudgetResponse,
        SettleReservationRequest, SettleReservationResponse, SettlementResult, ToolDecision,
        UpdateAgentRequest, UpdateAgentResponse, WhoAmIRequest, WhoAmIResponse, grant,
        permissions_service_server::PermissionsService,
    },
    types::v1::{Effect, Sensitivity},
};
use secrecy::{ExposeSecret, SecretString};
use tonic::{Request, Response, Status};
use types::{Caller, Role};
use uuid::Uuid;

use crate::{
    Error, Keys,
    authenticate::authenticate,
    authorize::{Asked, Decision, Desk, Quota, next_day},
    batch_authorize::batch_authorize,
    budget::{get_budget, set_budget},
    create_agent::create_agent,
    grant_permission::{Grantee, NewGrant, grant_permission, revoke_permission},
    issue_key::{issue_key, revoke_key},
    list_grants::list_grants,
    names,
    policies::ToolFacts,
    settle::{settle, settle_all},
    store::{AgentRow, Budget, GrantFilter, ListedGrant, Settlement},
};

pub(crate) struct Service {
    pub database: Database,
    pub desk: Desk,
    pub keys: Keys,
    pub pages: PageKey,
    pub registry: Link,
    pub audit: Link,
    pub outgoing: Outgoing,
    pub seal: [u8; 32],
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
        let answers = batch_authorize(&self.database, &self.desk, &caller.team, &caller.agent, &tools, now())
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
        let made = grant_permission(&self.database, &self.desk.teams, &caller, new, now())
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
        let revoked = revoke_permission(&self.database, &self.desk.teams, &caller.team, named, now())
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
        let set = set_budget(&self.database, &self.desk.teams, &caller.team, daily, at).await;
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

    async fn create_agent(
        &self,
        request: Request<CreateAgentRequest>,
    ) -> Result<Response<CreateAgentResponse>, Status> {
        let caller = caller_of(&request)?;
        let asked = request.into_inner().agent.unwrap_or_default();
        let role = Option::<Role>::from(asked.role()).unwrap_or(Role::Agent);
        let wanted = (asked.id.as_str(), asked.specialization.as_str(), role);
        let made = create_agent(&self.database, &self.desk.teams, &caller.team, wanted, now())
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(CreateAgentResponse { agent: Some(agent(made)) }))
    }

    async fn issue_api_key(
        &self,
        request: Request<IssueApiKeyRequest>,
    ) -> Result<Response<IssueApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let request = request.into_inner();
        let owner = (caller.team.as_str(), request.agent_id.as_str());
        let issued = issue_key(&self.database, &self.keys, owner, request.ttl_s, &caller.agent, now()).await;
        let issued = issued.map_err(|error| status(&error))?;
        Ok(Response::new(IssueApiKeyResponse {
            api_key: issued.key.expose_secret().to_owned(),
            key_id: issued.key_id,
            expire_time: issued.expire_time.map(timestamp),
        }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<RevokeApiKeyRequest>,
    ) -> Result<Response<RevokeApiKeyResponse>, Status> {
        let caller = caller_of(&request)?;
        let key_id = request.into_inner().key_id;
        revoke_key(&self.database, &caller.team, &key_id, now()).await.map_err(|error| status(&error))?;
        Ok(Response::new(RevokeApiKeyResponse {}))
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
        let key = SecretString::from(request.into_inner().credential);
        let owner =
            authenticate(&self.database, &self.keys, &key, now()).await.map_err(|error| status(&error))?;
        Ok(Response::new(AuthenticateResponse {
            team_id: owner.team,
            agent_id: owner.agent,
            specialization: owner.specialization,
            role: wire::Role::from(owner.role).into(),
            key_id: owner.key_id,
            scopes: owner.scopes.into_iter().map(|scope| wire::Scope::from(scope).into()).collect(),
            user: owner.user,
            expire_time: None,
        }))
    }

    async fn who_am_i(&self, request: Request<WhoAmIRequest>) -> Result<Response<WhoAmIResponse>, Status> {
        let caller = caller_of(&request)?;
        Ok(Response::new(WhoAmIResponse {
            team_id: caller.team,
            agent_id: caller.agent,
            specialization: caller.specialization,
            role: wire::Role::from(caller.role).into(),
            user: caller.user,
            scopes: caller.scopes.into_iter().map(|scope| wire::Scope::from(scope).into()).collect(),
        }))
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

fn asked(caller: Caller, request: AuthorizeRequest) -> Result<Asked, Error> {
    names::tool("tool_name", &request.tool_name)?;
    names::digest("tool_digest", &request.tool_digest)?;
    names::digest("arguments_digest", &request.arguments_digest)?;
    names::cost("cost_micro_usd", request.cost_micro_usd)?;
    let (effect, sensitivity) = (request.effect(), request.sensitivity());
    Ok(Asked {
        team: caller.team,
        agent: caller.agent,
        execution_id: id("execution_id", &request.execution_id)?,
        tool: tool(request.tool_name, effect, sensitivity),
        tool_digest: request.tool_digest,
        arguments_digest: request.arguments_digest,
        cost_micro_usd: request.cost_micro_usd,
    })
}

fn settlement(settlement: wire::Settlement) -> Result<Settlement, Error> {
    names::name("team_id", &settlement.team_id)?;
    names::name("agent_id", &settlement.agent_id)?;
    Ok(Settlement {
        team_id: settlement.team_id,
        decision_id: id("decision_id", &settlement.decision_id)?,
        committed: settlement.committed,
        cost_micro_usd: settlement.cost_micro_usd,
    })
}

fn tool_facts(facts: wire::ToolFacts) -> ToolFacts {
    let (effect, sensitivity) = (facts.effect(), facts.sensitivity());
    tool(facts.tool_name, effect, sensitivity)
}

/// What is not said of a tool is taken as `types.proto` says.
fn tool(name: String, effect: Effect, sensitivity: Sensitivity) -> ToolFacts {
    ToolFacts {
        name,
        effect: Option::<types::Effect>::from(effect).unwrap_or(types::Effect::SideEffect),
        sensitivity: Option::<types::Sensitivity>::from(sensitivity).unwrap_or(types::Sensitivity::Internal),
    }
}

fn authorize_response(decision: Decision) -> AuthorizeResponse {
    AuthorizeResponse {
        allowed: decision.reason.is_none(),
        reason: reason_name(decision.reason),
        message: decision.message,
        decision_id: decision.id.to_string(),
        grant_id: decision.grant_id.map(|id| id.to_string()).unwrap_or_default(),
        policy_ids: decision.policies,
        quota: decision.quota.map(quota),
        reserved: decision.reserved,
        budget: decision.budget.map(quota),
        ..AuthorizeResponse::default()
    }
}

fn quota(quota: Quota) -> wire::Quota {
    wire::Quota {
        limit: quota.limit,
        used: quota.used,
        reset_time: Some(timestamp(quota.reset_time)),
        period: 0,
    }
}

fn budget(row: Budget, now: DateTime<Utc>) -> wire::Budget {
    wire::Budget {
        daily_micro_usd: row.daily,
        spent_micro_usd: row.spent,
        reserved_micro_usd: row.reserved,
        reset_time: Some(timestamp(next_day(now))),
    }
}

/// `ERROR_REASON_NO_GRANT` is told as `NO_GRANT`.
fn reason_name(reason: Option<ErrorReason>) -> String {
    reason.map_or("", |reason| reason.as_str_name().trim_start_matches("ERROR_REASON_")).to_owned()
}

fn new_grant(request: GrantPermissionRequest) -> Result<NewGrant, Error> {
    let asked = request.grant.unwrap_or_default();
    let max_sensitivity = Option::<types::Sensitivity>::from(asked.max_sensitivity());
    let expire_time = asked.expire_time.map(|at| time("grant.expire_time", at)).transpose()?;
    Ok(NewGrant {
        grantee: asked.grantee.map(|grantee| match grantee {
            grant::Grantee::AgentId(agent) => Grantee::Agent(agent),
            grant::Grantee::Specialization(specialization) => Grantee::Specialization(specialization),
        }),
        tool_name: asked.tool_name,
        max_per_hour: asked.max_per_hour,
        read_only: asked.read_only,
        max_sensitivity,
        expire_time,
    })
}

fn grant_filter(request: &ListGrantsRequest) -> GrantFilter {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    GrantFilter {
        agent_id: text(&request.agent_id),
        specialization: text(&request.specialization),
        tool_name: text(&request.tool_name),
        include_revoked: request.include_revoked,
        ..GrantFilter::default()
    }
}

fn grant(listed: ListedGrant) -> wire::Grant {
    let row = listed.grant;
    let level = row.max_sensitivity.and_then(|word| word.parse::<types::Sensitivity>().ok());
    let specialization = row.specialization.map(grant::Grantee::Specialization);
    wire::Grant {
        id: row.grant_id.to_string(),
        grantee: row.agent_id.map(grant::Grantee::AgentId).or(specialization),
        tool_name: row.tool_name,
        max_per_hour: row.max_per_hour,
        read_only: row.read_only,
        max_sensitivity: level.map(Sensitivity::from).unwrap_or_default().into(),
        expire_time: row.expire_time.map(timestamp),
        create_time: Some(timestamp(row.create_time)),
        created_by: row.created_by,
        revoke_time: row.revoke_time.map(timestamp),
        used_this_hour: listed.used,
        ..wire::Grant::default()
    }
}

fn agent(row: AgentRow) -> wire::Agent {
    wire::Agent {
        id: row.agent_id,
        specialization: row.specialization,
        role: row.role.parse::<Role>().map(wire::Role::from).unwrap_or_default().into(),
        create_time: Some(timestamp(row.create_time)),
        disabled: row.disabled,
    }
}

fn id(field: &str, text: &str) -> Result<Uuid, Error> {
    text.parse().map_err(|_| Error::invalid(field, "is not set or not a UUID"))
}

fn time(field: &str, at: prost_types::Timestamp) -> Result<DateTime<Utc>, Error> {
    u32::try_from(at.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .map(|at| at.trunc_subsecs(6))
        .ok_or_else(|| Error::invalid(field, "is not a time"))
}

/// Now, as exact as the database keeps it: what is answered first is what is read later.
fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(6)
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
