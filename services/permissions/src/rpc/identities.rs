//! Agents, and the keys and tokens by which they are known: parse, call the use case, map. A key or a token is read and
//! written here and never formatted.

use ::rpc::Call;
use proto::permissions::v1::{
    self as wire, AuthenticateRequest, AuthenticateResponse, CreateAgentRequest, CreateAgentResponse,
    IssueApiKeyRequest, IssueApiKeyResponse, ListAgentsRequest, ListAgentsResponse, ListApiKeysRequest,
    ListApiKeysResponse, RevokeApiKeyRequest, RevokeApiKeyResponse, RotateApiKeyRequest,
    RotateApiKeyResponse, UpdateAgentRequest, UpdateAgentResponse, WhoAmIResponse,
};
use secrecy::{ExposeSecret, SecretString};
use types::{Caller, Role, Scope};

use super::{Service, now, timestamp};
use crate::{
    Error, create_agent,
    issue_key::{self, WantedKey},
    list_agents, list_keys, rotate_key, scopes,
    store::{AgentRow, KeyFilter, KeyRow},
    update_agent::{self, AgentChange},
};

pub(super) async fn authenticate(
    service: &Service,
    request: AuthenticateRequest,
) -> Result<AuthenticateResponse, Error> {
    let credential = SecretString::from(request.credential);
    let identity = service.authenticator.authenticate(&credential, &request.peer, now()).await?;
    let owner = identity.caller;
    Ok(AuthenticateResponse {
        team_id: owner.team,
        agent_id: owner.agent,
        specialization: owner.specialization,
        role: wire::Role::from(owner.role).into(),
        key_id: owner.key_id,
        scopes: scopes_told(owner.scopes),
        user: owner.user,
        expire_time: identity.expire_time.map(timestamp),
    })
}

pub(super) fn who_am_i(caller: Caller) -> WhoAmIResponse {
    WhoAmIResponse {
        team_id: caller.team,
        agent_id: caller.agent,
        specialization: caller.specialization,
        role: wire::Role::from(caller.role).into(),
        user: caller.user,
        scopes: scopes_told(caller.scopes),
    }
}

pub(super) async fn create_agent(
    service: &Service,
    call: &Call,
    request: CreateAgentRequest,
) -> Result<CreateAgentResponse, Error> {
    let asked = request.agent.unwrap_or_default();
    if asked.disabled {
        let description = "must not be set: an agent is made enabled, and disabled by UpdateAgent";
        return Err(Error::invalid("agent.disabled", description));
    }
    let role = role("agent.role", asked.role)?.unwrap_or(Role::Agent);
    let wanted = (asked.id.as_str(), asked.specialization.as_str(), role);
    let teams = &service.desk.teams;
    let made = create_agent::create_agent(&service.database, teams, &call.caller, wanted, now()).await?;
    Ok(CreateAgentResponse { agent: Some(agent(made)) })
}

pub(super) async fn update_agent(
    service: &Service,
    call: &Call,
    request: UpdateAgentRequest,
) -> Result<UpdateAgentResponse, Error> {
    let change = AgentChange {
        role: role("role", request.role)?,
        specialization: request.specialization,
        disabled: request.disabled,
    };
    let (name, teams) = (&request.agent_id, &service.desk.teams);
    let updated =
        update_agent::update_agent(&service.database, teams, &call.caller, name, change, now()).await?;
    Ok(UpdateAgentResponse { agent: Some(agent(updated.0)), revision: updated.1 })
}

pub(super) async fn list_agents(
    service: &Service,
    call: &Call,
    request: ListAgentsRequest,
) -> Result<ListAgentsResponse, Error> {
    let page = (request.page_size, request.page_token.as_str());
    let (database, pages) = (&service.database, &service.pages);
    let (agents, next_page_token) =
        list_agents::list_agents(database, pages, &call.caller, &request.specialization, page).await?;
    Ok(ListAgentsResponse { agents: agents.into_iter().map(agent).collect(), next_page_token })
}

pub(super) async fn issue_key(
    service: &Service,
    call: &Call,
    request: IssueApiKeyRequest,
) -> Result<IssueApiKeyResponse, Error> {
    let wanted = WantedKey {
        agent: request.agent_id,
        ttl_s: request.ttl_s,
        scopes: scopes_asked(&request.scopes)?,
        note: request.note,
    };
    let issued = issue_key::issue_key(&service.database, &service.keys, &call.caller, wanted, now()).await?;
    Ok(IssueApiKeyResponse {
        api_key: issued.key.expose_secret().to_owned(),
        key_id: issued.key_id,
        expire_time: issued.expire_time.map(timestamp),
    })
}

pub(super) async fn rotate_key(
    service: &Service,
    call: &Call,
    request: RotateApiKeyRequest,
) -> Result<RotateApiKeyResponse, Error> {
    let (key_id, times) = (&request.key_id, (request.overlap_s, request.ttl_s));
    let rotated =
        rotate_key::rotate_key(&service.database, &service.keys, &call.caller, key_id, times, now()).await?;
    Ok(RotateApiKeyResponse {
        api_key: rotated.new.key.expose_secret().to_owned(),
        key_id: rotated.new.key_id,
        expire_time: rotated.new.expire_time.map(timestamp),
        old_expire_time: Some(timestamp(rotated.old_expire_time)),
    })
}

pub(super) async fn list_keys(
    service: &Service,
    call: &Call,
    request: ListApiKeysRequest,
) -> Result<ListApiKeysResponse, Error> {
    let page = (request.page_size, request.page_token.as_str());
    let agent_id = (!request.agent_id.is_empty()).then(|| request.agent_id.clone());
    let filter = KeyFilter { agent_id, include_ended: request.include_ended };
    let (database, pages) = (&service.database, &service.pages);
    let (keys, next_page_token) =
        list_keys::list_keys(database, pages, &call.caller, filter, page, now()).await?;
    Ok(ListApiKeysResponse { api_keys: keys.into_iter().map(api_key).collect(), next_page_token })
}

pub(super) async fn revoke_key(
    service: &Service,
    call: &Call,
    request: RevokeApiKeyRequest,
) -> Result<RevokeApiKeyResponse, Error> {
    issue_key::revoke_key(&service.database, &call.caller, &request.key_id, now()).await?;
    Ok(RevokeApiKeyResponse {})
}

pub(super) fn agent(row: AgentRow) -> wire::Agent {
    wire::Agent {
        id: row.agent_id,
        specialization: row.specialization,
        role: row.role.parse::<Role>().map(wire::Role::from).unwrap_or_default().into(),
        create_time: Some(timestamp(row.create_time)),
        disabled: row.disabled,
    }
}

fn api_key(row: KeyRow) -> wire::ApiKey {
    wire::ApiKey {
        key_id: row.key_id,
        agent_id: row.agent_id,
        scopes: scopes_told(scopes::known(row.scopes.iter().map(String::as_str))),
        note: row.note,
        created_by: row.created_by,
        create_time: Some(timestamp(row.create_time)),
        expire_time: row.expire_time.map(timestamp),
        revoke_time: row.revoke_time.map(timestamp),
        last_use_time: row.last_use_time.map(timestamp),
        replaced_by: row.replaced_by.unwrap_or_default(),
    }
}

/// `None` where the message does not say.
fn role(field: &str, role: i32) -> Result<Option<Role>, Error> {
    let known = wire::Role::try_from(role);
    known.map(Option::from).map_err(|_| Error::invalid(field, format!("is {role}, which is no role")))
}

fn scopes_asked(scopes: &[i32]) -> Result<Vec<Scope>, Error> {
    let scope = |(index, number): (usize, &i32)| {
        let known = wire::Scope::try_from(*number).ok().and_then(Option::<Scope>::from);
        known.ok_or_else(|| {
            Error::invalid(format!("scopes[{index}]"), format!("is {number}, which is no scope"))
        })
    };
    scopes.iter().enumerate().map(scope).collect()
}

fn scopes_told(scopes: Vec<Scope>) -> Vec<i32> {
    scopes.into_iter().map(|scope| wire::Scope::from(scope).into()).collect()
}
