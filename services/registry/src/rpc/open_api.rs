//! Imports from `OpenAPI` documents: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{ImportOpenApiRequest, ImportOpenApiResponse, import_open_api_request as wire};

use super::{Service, imports};
use crate::{
    Error,
    openapi::{self, Request, Selection, Source},
};

pub(super) async fn import(
    service: &Service,
    call: &Call,
    request: ImportOpenApiRequest,
) -> Result<ImportOpenApiResponse, Error> {
    let (database, turns) = (&service.database, &service.imports);
    let imported = openapi::import(database, turns, &call.caller, parsed(request)?).await?;
    let (tools, counts, truncated) = imports::answer(imported);
    Ok(ImportOpenApiResponse { tools, counts: Some(counts), truncated })
}

fn parsed(request: ImportOpenApiRequest) -> Result<Request, Error> {
    let source = match request.source {
        Some(wire::Source::Document(bytes)) => Source::Document(bytes),
        Some(wire::Source::Pack(name)) => Source::Pack(name),
        None => return Err(Error::invalid("source", "is not given: a document or a pack")),
    };
    Ok(Request {
        source,
        provider: request.provider,
        server_url: request.server_url,
        selection: Selection { operations: request.operations, tags: request.tags, methods: request.methods },
        credentials: request.credentials.into_iter().collect(),
        defaults: imports::defaults(request.defaults)?,
        allow_private_network: request.allow_private_network,
        validate_only: request.validate_only,
    })
}
