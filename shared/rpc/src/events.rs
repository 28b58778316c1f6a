//! Events for the trail, as services make them of changes, and their way to the audit service. Where they wait for it
//! is each service's own. Must never carry a secret, nor arguments of a call.

use std::time::{Duration, SystemTime};

use prost::{DecodeError, Message};
use proto::audit::v1::{
    Action, AppendEventsRequest, Event, Result as Outcome, audit_service_client::AuditServiceClient,
};
use tonic::Status;
use types::{Caller, DeliveryFailed, Kind};

use crate::{Link, Outgoing, current_trace_id, kind_of};

/// Events that are sent at once: no more than the audit service takes.
pub const EVENTS_AT_ONCE: usize = 500;
/// How long it may take for them.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message, in characters.
const MAX_MESSAGE: usize = 2_000;

/// An event of now, of the caller's team and in its name, that ended as asked. What else it tells of (the tool, the
/// execution, another result with its reason) is set by who makes it: `Event { tool_name, ..event(…) }`.
pub fn event(action: Action, caller: &Caller, message: impl Into<String>) -> Event {
    let mut message: String = message.into();
    if let Some((end, _)) = message.char_indices().nth(MAX_MESSAGE) {
        message.truncate(end);
    }
    Event {
        id: types::new_id().to_string(),
        team_id: caller.team.clone(),
        time: Some(SystemTime::now().into()),
        action: action.into(),
        result: Outcome::Success.into(),
        agent_id: caller.agent.clone(),
        trace_id: current_trace_id(),
        message,
        user: caller.user.clone(),
        ..Event::default()
    }
}

/// Hands encoded events to the audit service, which drops those that it has already.
pub async fn append_events(
    audit: Link,
    outgoing: Outgoing,
    payloads: Vec<Vec<u8>>,
) -> Result<(), DeliveryFailed> {
    let unreadable = |error: DecodeError| DeliveryFailed { message: error.to_string(), refused: true };
    let events = payloads.iter().map(|payload| Event::decode(payload.as_slice()));
    let events = events.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let request = outgoing.own_request(TIMEOUT, AppendEventsRequest { events });
    let appended = AuditServiceClient::new(audit).append_events(request).await;
    appended.map(drop).map_err(|status| delivery_failed(&status))
}

/// What a service says that did not take what it was sent, and whether it will not later either.
pub fn delivery_failed(status: &Status) -> DeliveryFailed {
    let refused = match kind_of(status) {
        Kind::Invalid
        | Kind::Exhausted
        | Kind::Precondition
        | Kind::AlreadyExists
        | Kind::NotFound
        | Kind::Internal => true,
        Kind::Unavailable | Kind::Deadline | Kind::Unauthenticated | Kind::Denied => false,
    };
    DeliveryFailed { message: status.message().to_owned(), refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_for_whom_and_is_no_longer_than_a_page() {
        let jane = Caller { agent: "root".into(), user: "jane@example.com".into(), ..Caller::service("x") };
        let event = event(Action::IdentityChanged, &jane, "ä".repeat(10_000));
        assert_eq!((event.agent_id.as_str(), event.user.as_str()), ("root", "jane@example.com"));
        assert_eq!(event.message.chars().count(), 2_000);
        assert_eq!((event.action(), event.result()), (Action::IdentityChanged, Outcome::Success));
    }
}
