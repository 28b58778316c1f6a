//! What the trail is told of changes: events are written in the transaction of what they tell of, and sent to the audit
//! service afterwards, at least once. The one way there. Must never carry a secret, nor arguments of a call.

use ::rpc::{EVENTS_AT_ONCE, Link, Outgoing, append_events};
use ::store::{Database, Error, Outbox, outbox_insert};
use prost::Message;
use tokio_util::sync::CancellationToken;

use crate::store;

pub(crate) use ::rpc::event;
pub(crate) use proto::audit::v1::{Action, Event};

/// The outbox, and the destination in it.
const SCHEMA: &str = "permissions";
const AUDIT: &str = "audit";

/// Writes an event in the transaction of what it tells of: it is in the trail a second or two after the commit, and
/// nowhere without it.
pub(crate) async fn record(connection: &mut store::Connection, event: &Event) -> Result<(), Error> {
    record_all(connection, std::slice::from_ref(event)).await
}

/// The same for many.
pub(crate) async fn record_all(connection: &mut store::Connection, events: &[Event]) -> Result<(), Error> {
    let payloads: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
    outbox_insert(connection, SCHEMA, AUDIT, &payloads).await
}

/// The field that names the team, as it stands in an encoded event.
pub(crate) fn team_field(team: &str) -> Vec<u8> {
    Event { team_id: team.to_owned(), ..Event::default() }.encode_to_vec()
}

/// The field that names the end user, as it stands in an encoded event.
pub(crate) fn user_field(user: &str) -> Vec<u8> {
    Event { user: user.to_owned(), ..Event::default() }.encode_to_vec()
}

/// Sends what is written until told to stop. Any process finds what any other wrote.
pub(crate) async fn relay(database: Database, audit: Link, outgoing: Outgoing, stop: CancellationToken) {
    // Nothing is handed over here: changes are few, and so they are looked for at once.
    let outbox = Outbox::new(database, SCHEMA, AUDIT, EVENTS_AT_ONCE).searching_at_once();
    outbox.run(stop, |payloads| append_events(audit.clone(), outgoing.clone(), payloads)).await;
}
