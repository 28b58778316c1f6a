//! Carries events from the outbox to audit and selector, and ends of reservations to permissions. At least once:
//! the first two drop duplicates by event id, and ending a reservation twice is ending it once. What is handed over
//! here must stand in the outbox already.

use std::time::Duration;

use ::rpc::{Link, Outgoing, delivery_failed};
use ::store::{Database, DeliveryFailed, Outbox};
use prost::Message;
use prost_types::Timestamp;
use proto::{
    audit::v1::{AppendEventsRequest, Event, audit_service_client::AuditServiceClient},
    permissions::v1::{
        self as permissions, BatchSettleReservationsRequest,
        permissions_service_client::PermissionsServiceClient,
    },
    selector::v1::{self as selector, RecordOutcomesRequest, selector_service_client::SelectorServiceClient},
};
use uuid::Uuid;

use crate::{
    events::{self, Settlement},
    store::{Ended, OutboxEvent, Outcome},
};

/// How long a delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Events sent in one delivery: no more than the receivers take at once.
const BATCH: usize = 500;

/// The relays of the outbox, one a destination. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Relays {
    pub audit: Outbox,
    pub selector: Outbox,
    /// Ends of reservations.
    pub permissions: Outbox,
}

impl Relays {
    pub(crate) fn new(database: &Database) -> Self {
        let outbox = |destination| Outbox::new(database.clone(), "executor", destination, BATCH);
        Self {
            audit: outbox(events::AUDIT),
            selector: outbox(events::SELECTOR),
            permissions: outbox(events::PERMISSIONS),
        }
    }

    /// Sends the events of committed outcomes on their way; those of an outcome that touched no row are nowhere.
    pub(crate) fn hand_over_all(&self, outcomes: &[Outcome], ended: &[Ended]) {
        for outcome in outcomes {
            if let Some(ended) = ended.iter().find(|ended| ended.id == outcome.id) {
                self.hand_over(&outcome.events, &ended.events);
            }
        }
    }

    /// Sends committed events on their way; their ids in the outbox are in the same order. Without ids, nothing.
    pub(crate) fn hand_over(&self, events: &[OutboxEvent], ids: &[i64]) {
        for (destination, outbox) in [
            (events::AUDIT, &self.audit),
            (events::SELECTOR, &self.selector),
            (events::PERMISSIONS, &self.permissions),
        ] {
            let here = events.iter().zip(ids).filter(|(event, _)| event.destination == destination);
            outbox.hand_over(here.map(|(event, id)| (*id, event.payload.clone())));
        }
    }
}

/// Hands events to the audit service.
pub(crate) async fn to_audit(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let events = decode::<Event>(&payloads)?.into_iter().map(with_intent).collect();
    let request = outgoing.own_request(TIMEOUT, AppendEventsRequest { events });
    AuditServiceClient::new(link)
        .append_events(request)
        .await
        .map(drop)
        .map_err(|status| delivery_failed(&status))
}

/// What a version before this one left in the outbox does not say when its intent was recorded: the id of the
/// execution, a UUIDv7 (RFC 9562, 5.7), was made in the milliseconds before.
fn with_intent(mut event: Event) -> Event {
    if event.intent_time.is_none()
        && let Ok(id) = event.execution_id.parse::<Uuid>()
        && let Some(made) = id.get_timestamp()
    {
        let (seconds, nanos) = made.to_unix();
        let (seconds, nanos) = (i64::try_from(seconds), i32::try_from(nanos));
        event.intent_time = seconds.ok().zip(nanos.ok()).map(|(seconds, nanos)| Timestamp { seconds, nanos });
    }
    event
}

/// Hands outcomes to the selector service.
pub(crate) async fn to_selector(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let outcomes = decode::<selector::Outcome>(&payloads)?;
    let request = outgoing.own_request(TIMEOUT, RecordOutcomesRequest { outcomes });
    SelectorServiceClient::new(link)
        .record_outcomes(request)
        .await
        .map(drop)
        .map_err(|status| delivery_failed(&status))
}

/// Ends reservations. One that has ended, or that nobody remembers, is no failure.
pub(crate) async fn to_permissions(
    link: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let settlements = payloads.iter().map(|payload| settlement(payload)).collect::<Result<_, _>>()?;
    let request = outgoing.own_request(TIMEOUT, BatchSettleReservationsRequest { settlements });
    PermissionsServiceClient::new(link)
        .batch_settle_reservations(request)
        .await
        .map(drop)
        .map_err(|status| delivery_failed(&status))
}

fn settlement(payload: &[u8]) -> Result<permissions::Settlement, DeliveryFailed> {
    let Settlement { team_id, agent_id, decision_id, committed, cost_micro_usd } =
        serde_json::from_slice(payload)
            .map_err(|error| DeliveryFailed { message: error.to_string(), refused: true })?;
    let decision_id = decision_id.to_string();
    Ok(permissions::Settlement { team_id, agent_id, decision_id, committed, cost_micro_usd })
}

fn decode<M: Message + Default>(payloads: &[Vec<u8>]) -> Result<Vec<M>, DeliveryFailed> {
    let unreadable = |error: prost::DecodeError| DeliveryFailed { message: error.to_string(), refused: true };
    let decode = |payload: &Vec<u8>| M::decode(payload.as_slice()).map_err(unreadable);
    payloads.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_the_version_before_has_the_time_of_its_execution_and_any_other_its_own() {
        let execution_id = "019a6d0e-5f00-7000-8000-000000000000".to_owned();
        let old = with_intent(Event { execution_id: execution_id.clone(), ..Event::default() });
        // RFC 9562, 5.7: the first 48 bits are milliseconds since 1970.
        const MILLIS: i32 = (0x019a_6d0e_5f00_i64 % 1_000) as i32;
        let expected = Timestamp { seconds: 0x019a_6d0e_5f00 / 1_000, nanos: MILLIS * 1_000_000 };
        assert_eq!(old.intent_time, Some(expected));
        let own = Some(Timestamp { seconds: 5, nanos: 0 });
        assert_eq!(
            with_intent(Event { execution_id, intent_time: own, ..Event::default() }).intent_time,
            own
        );
        assert_eq!(with_intent(Event::default()).intent_time, None);
    }
}
