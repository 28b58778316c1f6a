//! Explaining decisions, and reports on the use of grants: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    ExplainRequest, ExplainResponse, GetUsageReportRequest, GetUsageReportResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn explain(
    _service: &Service,
    _call: &Call,
    _request: ExplainRequest,
) -> Result<ExplainResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn usage_report(
    _service: &Service,
    _call: &Call,
    _request: GetUsageReportRequest,
) -> Result<GetUsageReportResponse, Error> {
    Err(Error::NotBuilt)
}
