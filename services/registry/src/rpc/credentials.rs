//! Credentials: parse, call the use case, map. Never logs a request.

use ::rpc::Call;
use proto::registry::v1::{
    ListCredentialsRequest, ListCredentialsResponse, PutCredentialRequest, PutCredentialResponse,
    ResolveCredentialRequest, ResolveCredentialResponse, RevokeCredentialRequest, RevokeCredentialResponse,
    RotateCredentialRequest, RotateCredentialResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn put(
    _: &Service,
    _: &Call,
    _: PutCredentialRequest,
) -> Result<PutCredentialResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}

pub(super) async fn rotate(
    _: &Service,
    _: &Call,
    _: RotateCredentialRequest,
) -> Result<RotateCredentialResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}

pub(super) async fn revoke(
    _: &Service,
    _: &Call,
    _: RevokeCredentialRequest,
) -> Result<RevokeCredentialResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}

pub(super) async fn list(
    _: &Service,
    _: &Call,
    _: ListCredentialsRequest,
) -> Result<ListCredentialsResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}

pub(super) async fn resolve(
    _: &Service,
    _: &Call,
    _: ResolveCredentialRequest,
) -> Result<ResolveCredentialResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
