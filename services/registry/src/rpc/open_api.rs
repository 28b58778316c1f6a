//! Imports from OpenAPI documents: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ImportOpenApiRequest, ImportOpenApiResponse};

use super::Service;
use crate::Error;

pub(super) async fn import(
    _: &Service,
    _: &Call,
    _: ImportOpenApiRequest,
) -> Result<ImportOpenApiResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
