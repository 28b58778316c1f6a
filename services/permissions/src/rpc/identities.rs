//! Agents, and the keys and tokens by which they are known: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    ListAgentsRequest, ListAgentsResponse, ListApiKeysRequest, ListApiKeysResponse, RotateApiKeyRequest,
    RotateApiKeyResponse, UpdateAgentRequest, UpdateAgentResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn update_agent(
    _service: &Service,
    _call: &Call,
    _request: UpdateAgentRequest,
) -> Result<UpdateAgentResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn list_agents(
    _service: &Service,
    _call: &Call,
    _request: ListAgentsRequest,
) -> Result<ListAgentsResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn rotate_key(
    _service: &Service,
    _call: &Call,
    _request: RotateApiKeyRequest,
) -> Result<RotateApiKeyResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn list_keys(
    _service: &Service,
    _call: &Call,
    _request: ListApiKeysRequest,
) -> Result<ListApiKeysResponse, Error> {
    Err(Error::NotBuilt)
}
