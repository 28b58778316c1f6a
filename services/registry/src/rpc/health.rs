//! How the registry is.

use ::rpc::Call;
use proto::registry::v1::{GetRegistryHealthRequest, GetRegistryHealthResponse};

use super::Service;
use crate::Error;

pub(super) async fn health(
    _: &Service,
    _: &Call,
    _: GetRegistryHealthRequest,
) -> Result<GetRegistryHealthResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
