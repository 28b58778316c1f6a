//! Access requests and the decisions on them: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    DecideAccessRequestRequest, DecideAccessRequestResponse, GetAccessRequestRequest,
    GetAccessRequestResponse, ListAccessRequestsRequest, ListAccessRequestsResponse, RequestAccessRequest,
    RequestAccessResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn request(
    _service: &Service,
    _call: &Call,
    _request: RequestAccessRequest,
) -> Result<RequestAccessResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn get(
    _service: &Service,
    _call: &Call,
    _request: GetAccessRequestRequest,
) -> Result<GetAccessRequestResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn list(
    _service: &Service,
    _call: &Call,
    _request: ListAccessRequestsRequest,
) -> Result<ListAccessRequestsResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn decide(
    _service: &Service,
    _call: &Call,
    _request: DecideAccessRequestRequest,
) -> Result<DecideAccessRequestResponse, Error> {
    Err(Error::NotBuilt)
}
