//! Carries events from the outbox to audit and selector. At least once: both drop duplicates by event id.

use std::time::Duration;

use ::rpc::{Link, Outgoing, kind_of};
use ::store::DeliveryFailed;
use prost::Message;
use proto::{
    audit::v1::{AppendEventsRequest, Event, audit_service_client::AuditServiceClient},
    selector::v1::{Outcome, RecordOutcomesRequest, selector_service_client::SelectorServiceClient},
};
use types::Kind;

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
        .map_err(|status| failed(kind_of(&status), status.message()))
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
        .map_err(|status| failed(kind_of(&status), status.message()))
}

fn decode<M: Message + Default>(payloads: &[Vec<u8>]) -> Result<Vec<M>, DeliveryFailed> {
    let unreadable = |error: prost::DecodeError| DeliveryFailed { message: error.to_string(), refused: true };
    let decode = |payload: &Vec<u8>| M::decode(payload.as_slice()).map_err(unreadable);
    payloads.iter().map(decode).collect()
}

fn failed(kind: Kind, message: &str) -> DeliveryFailed {
    let refused = match kind {
        Kind::Invalid
        | Kind::Exhausted
        | Kind::Precondition
        | Kind::AlreadyExists
        | Kind::NotFound
        | Kind::Internal => true,
        Kind::Unavailable | Kind::Deadline | Kind::Unauthenticated | Kind::Denied => false,
    };
    DeliveryFailed { message: message.to_owned(), refused }
}
