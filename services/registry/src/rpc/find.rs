//! Search and export: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ExportToolsRequest, ExportToolsResponse, SearchToolsRequest, SearchToolsResponse};

use super::Service;
use crate::Error;

pub(super) async fn search(
    _: &Service,
    _: &Call,
    _: SearchToolsRequest,
) -> Result<SearchToolsResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}

pub(super) async fn export(
    _: &Service,
    _: &Call,
    _: ExportToolsRequest,
) -> Result<ExportToolsResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
