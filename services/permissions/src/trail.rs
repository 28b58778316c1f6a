//! What the trail is told of changes: events are written in the transaction of what they tell of, and sent to the audit
//! service afterwards, at least once. The one way there. Must never carry a secret, nor arguments of a call.

use std::time::Duration;

use ::rpc::{Link, Outgoing, current_trace_id, kind_of};
use ::store::{Database, DeliveryFailed, Error, Outbox};
use chrono::{DateTime, Utc};
use prost::Message;
pub(crate) use proto::audit::v1::{Action, Event};
use proto::audit::v1::{AppendEventsRequest, Result as Outcome, audit_service_client::AuditServiceClient};
use tokio_util::sync::CancellationToken;
use types::{Caller, Kind};

use crate::store;

/// The destination in the outbox.
const AUDIT: &str = "audit";
/// How long a delivery may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Events sent in one delivery.
const BATCH: usize = 500;
/// Longest message, in characters.
const MAX_MESSAGE: usize = 2_000;

/// An event of now, of the caller's team and in its name, that ended as asked. What else it tells of (the tool, the
/// execution, another result with its reason) is set by who makes it: `Event { tool_name, ..trail::event(…) }`.
pub(crate) fn event(action: Action, caller: &Caller, message: impl Into<String>) -> Event {
    let mut message: String = message.into();
    if !caller.user.is_empty() {
        message = format!("{message} (for user {})", caller.user);
    }
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }
    let at = Utc::now();
    Event {
        id: types::new_id().to_string(),
        team_id: caller.team.clone(),
        time: Some(timestamp(at)),
        action: action.into(),
        result: Outcome::Success.into(),
        agent_id: caller.agent.clone(),
        trace_id: current_trace_id(),
        message,
        ..Event::default()
    }
}

/// Writes an event in the transaction of what it tells of: it is in the trail a second or two after the commit, and
/// nowhere without it.
pub(crate) async fn record(connection: &mut store::Connection, event: &Event) -> Result<(), Error> {
    store::outbox_insert(connection, AUDIT, &[event.encode_to_vec()]).await
}

/// The same for many.
pub(crate) async fn record_all(connection: &mut store::Connection, events: &[Event]) -> Result<(), Error> {
    let payloads: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
    store::outbox_insert(connection, AUDIT, &payloads).await
}

/// Sends what is written until told to stop. Any process finds what any other wrote.
pub(crate) async fn relay(database: Database, link: Link, outgoing: Outgoing, stop: CancellationToken) {
    // Nothing is handed over here: changes are few, and so they are looked for at once.
    let outbox = Outbox::new(database, "permissions", AUDIT, BATCH).searching_at_once();
    outbox.run(stop, |payloads| deliver(link.clone(), outgoing.clone(), payloads)).await;
}

async fn deliver(link: Link, outgoing: Outgoing, payloads: Vec<Vec<u8>>) -> Result<(), DeliveryFailed> {
    let unreadable = |error: prost::DecodeError| DeliveryFailed { message: error.to_string(), refused: true };
    let events: Result<Vec<Event>, _> =
        payloads.iter().map(|payload| Event::decode(payload.as_slice())).collect();
    let events = events.map_err(unreadable)?;
    let request = outgoing.own_request(TIMEOUT, AppendEventsRequest { events });
    AuditServiceClient::new(link).append_events(request).await.map(drop).map_err(|status| DeliveryFailed {
        refused: is_refusal(kind_of(&status)),
        message: status.message().to_owned(),
    })
}

/// Whether the audit service will not take these events later either.
fn is_refusal(kind: Kind) -> bool {
    match kind {
        Kind::Invalid
        | Kind::Exhausted
        | Kind::Precondition
        | Kind::AlreadyExists
        | Kind::NotFound
        | Kind::Internal => true,
        Kind::Unavailable | Kind::Deadline | Kind::Unauthenticated | Kind::Denied => false,
    }
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
