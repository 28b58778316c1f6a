//! Carries events from the outbox to audit and selector. At least once: both drop duplicates by event id.

use std::time::Duration;

use ::rpc::{Link, Outgoing};
use ::store::DeliveryFailed;
use prost::Message;
use proto::{
    audit::v1::{AppendEventsRequest, Event, audit_service_client::AuditServiceClient},
    selector::v1::{Outcome, RecordOutcomesRequest, selector_service_client::SelectorServiceClient},
};

/// How long a delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands events to the audit service.
pub(crate) async fn to_audit(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let events = decode::<Event>(&payloads)?;
    let request = outgoing.own_request(TIMEOUT, AppendEventsRequest { events });
    AuditServiceClient::new(link)
        .append_events(request)
        .await
        .map(drop)
        .map_err(|status| failed(status.message()))
}

/// Hands outcomes to the selector service.
pub(crate) async fn to_selector(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let outcomes = decode::<Outcome>(&payloads)?;
    let request = outgoing.own_request(TIMEOUT, RecordOutcomesRequest { outcomes });
    SelectorServiceClient::new(link)
        .record_outcomes(request)
        .await
        .map(drop)
        .map_err(|status| failed(status.message()))
}

fn decode<M: Message + Default>(payloads: &[Vec<u8>]) -> Result<Vec<M>, DeliveryFailed> {
    let decode = |payload: &Vec<u8>| M::decode(payload.as_slice());
    payloads.iter().map(decode).collect::<Result<_, _>>().map_err(|error| failed(&error.to_string()))
}

fn failed(message: &str) -> DeliveryFailed {
    DeliveryFailed(message.to_owned())
}
