//! Webhooks: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    ListWebhooksRequest, ListWebhooksResponse, PutWebhookRequest, PutWebhookResponse, RemoveWebhookRequest,
    RemoveWebhookResponse,
};

use super::Service;
use crate::Error;

pub(super) async fn put(
    _service: &Service,
    _call: &Call,
    _request: PutWebhookRequest,
) -> Result<PutWebhookResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn list(
    _service: &Service,
    _call: &Call,
    _request: ListWebhooksRequest,
) -> Result<ListWebhooksResponse, Error> {
    Err(Error::NotBuilt)
}

pub(super) async fn remove(
    _service: &Service,
    _call: &Call,
    _request: RemoveWebhookRequest,
) -> Result<RemoveWebhookResponse, Error> {
    Err(Error::NotBuilt)
}
