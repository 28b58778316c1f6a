//! Policies of teams: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    DryRunPolicyRequest, DryRunPolicyResponse, ListPoliciesRequest, ListPoliciesResponse, PutPolicyRequest,
    PutPolicyResponse, RemovePolicyRequest, RemovePolicyResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn put(
    _service: &Service,
    _call: &Call,
    _request: PutPolicyRequest,
) -> Result<PutPolicyResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn remove(
    _service: &Service,
    _call: &Call,
    _request: RemovePolicyRequest,
) -> Result<RemovePolicyResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn list(
    _service: &Service,
    _call: &Call,
    _request: ListPoliciesRequest,
) -> Result<ListPoliciesResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn dry_run(
    _service: &Service,
    _call: &Call,
    _request: DryRunPolicyRequest,
) -> Result<DryRunPolicyResponse, Error> {
    Err(Error::NotBuilt)
}
