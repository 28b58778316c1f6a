//! Definitions that wait for approval: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ApproveDefinitionRequest, ApproveDefinitionResponse};

use super::Service;
use crate::Error;

pub(super) async fn approve(
    _: &Service,
    _: &Call,
    _: ApproveDefinitionRequest,
) -> Result<ApproveDefinitionResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
