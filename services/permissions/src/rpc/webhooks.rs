//! Webhooks: parse, call the use case, map.

use ::rpc::Call;
use proto::permissions::v1::{
    ListWebhooksRequest, ListWebhooksResponse, PutWebhookRequest, PutWebhookResponse, RemoveWebhookRequest,
    RemoveWebhookResponse, Webhook,
};
use secrecy::ExposeSecret;

use super::{Service, now, timestamp};
use crate::{
    Error,
    store::WebhookRow,
    webhooks::{list_webhooks, put_webhook, remove_webhook},
};

pub(super) async fn put(
    service: &Service,
    call: &Call,
    request: PutWebhookRequest,
) -> Result<PutWebhookResponse, Error> {
    let (seal, destinations) = (&service.courier.seal, &service.courier.destinations);
    let named = (request.name.as_str(), request.url.as_str());
    let (webhook, secret) =
        put_webhook(&service.database, seal, destinations, &call.caller, named, now()).await?;
    Ok(PutWebhookResponse { webhook: Some(message(webhook)), secret: secret.expose_secret().to_owned() })
}

pub(super) async fn list(
    service: &Service,
    call: &Call,
    _request: ListWebhooksRequest,
) -> Result<ListWebhooksResponse, Error> {
    let webhooks = list_webhooks(&service.database, &call.caller.team).await?;
    Ok(ListWebhooksResponse { webhooks: webhooks.into_iter().map(message).collect() })
}

pub(super) async fn remove(
    service: &Service,
    call: &Call,
    request: RemoveWebhookRequest,
) -> Result<RemoveWebhookResponse, Error> {
    remove_webhook(&service.database, &call.caller, &request.name).await?;
    Ok(RemoveWebhookResponse {})
}

fn message(webhook: WebhookRow) -> Webhook {
    Webhook {
        name: webhook.name,
        url: webhook.url,
        create_time: Some(timestamp(webhook.create_time)),
        last_success_time: webhook.last_success_time.map(timestamp),
        last_error: webhook.last_error,
        waiting: webhook.waiting,
        given_up: webhook.given_up,
    }
}
