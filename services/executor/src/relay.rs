//! Carries events from the outbox to audit and selector, and ends of reservations to permissions. At least once:
//! the first two drop duplicates by event id, and ending a reservation twice is ending it once.

use std::time::Duration;

use ::rpc::{Link, Outgoing, kind_of};
use ::store::DeliveryFailed;
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use proto::{
    audit::v1::{AppendEventsRequest, Event, audit_service_client::AuditServiceClient},
    permissions::v1::{SettleReservationRequest, permissions_service_client::PermissionsServiceClient},
    selector::v1::{Outcome, RecordOutcomesRequest, selector_service_client::SelectorServiceClient},
};
use types::{Caller, Kind};

use crate::events::Settlement;

/// Reservations ended at once: those of one moment share a statement of the permissions service.
const AT_ONCE: usize = 64;
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

/// Ends reservations, a few at a time. One that has ended, or that nobody remembers, is no failure.
pub(crate) async fn to_permissions(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let settle = |payload: Vec<u8>| {
        let (link, outgoing) = (link.clone(), outgoing.clone());
        async move {
            let settlement: Settlement = serde_json::from_slice(&payload)
                .map_err(|error| DeliveryFailed { message: error.to_string(), refused: true })?;
            let Settlement { team_id, agent_id, decision_id, committed, cost_micro_usd } = settlement;
            let caller = Caller { team: team_id, agent: agent_id, ..Caller::service("executor") };
            let decision_id = decision_id.to_string();
            let request = SettleReservationRequest { decision_id, committed, cost_micro_usd };
            let request = outgoing.request(&caller, TIMEOUT, request);
            match PermissionsServiceClient::new(link).settle_reservation(request).await {
                Ok(_) => Ok(()),
                Err(status) if kind_of(&status) == Kind::NotFound => Ok(()),
                Err(status) => Err(failed(kind_of(&status), status.message())),
            }
        }
    };
    stream::iter(payloads).map(settle).buffer_unordered(AT_ONCE).try_collect().await
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
