//! Imports from gRPC servers: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ImportGrpcRequest, ImportGrpcResponse};

use super::Service;
use crate::Error;

pub(super) async fn import(_: &Service, _: &Call, _: ImportGrpcRequest) -> Result<ImportGrpcResponse, Error> {
    Err(Error::invalid("method", "is not there yet"))
}
