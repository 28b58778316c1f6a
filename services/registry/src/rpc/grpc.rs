//! Imports from gRPC servers: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ImportGrpcRequest, ImportGrpcResponse};

use super::{Service, bindings, imports};
use crate::{
    Error,
    grpc_import::{self, Source},
};

pub(super) async fn import(
    service: &Service,
    call: &Call,
    request: ImportGrpcRequest,
) -> Result<ImportGrpcResponse, Error> {
    let source = Source {
        endpoint: request.endpoint,
        provider: request.provider,
        services: request.services,
        methods: request.methods,
        metadata: request.metadata.into_iter().collect(),
        credentials: request.credentials.into_iter().map(bindings::credential).collect(),
        defaults: imports::defaults(request.defaults)?,
        allow_private_network: request.allow_private_network,
    };
    let (caller, validate_only) = (&call.caller, request.validate_only);
    let (database, credentials, turns) = (&service.database, &service.credentials, &service.imports);
    let imported = grpc_import::import(database, credentials, turns, caller, source, validate_only).await?;
    let (tools, counts, truncated) = imports::answer(imported);
    Ok(ImportGrpcResponse { tools, counts: Some(counts), truncated })
}
