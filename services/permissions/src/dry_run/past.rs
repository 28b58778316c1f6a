//! Past calls as the trail has them, and the tools that they were of as the registry has them. Asks both as the caller,
//! who may read them all.

use std::time::{Duration, Instant};

use ::rpc::{Link, Outgoing, kind_of};
use chrono::{DateTime, Utc};
use proto::{
    audit::v1::{Action, Event, QueryTrailRequest, audit_service_client::AuditServiceClient},
    registry::v1::{GetToolRequest, get_tool_request::Key, registry_service_client::RegistryServiceClient},
};
use serde_json::Value;
use types::{Caller, Kind};

use crate::{Error, policies::ToolFacts};

/// Events read at once.
const PAGE: i32 = 1_000;
/// The least time that a question gets.
const LEAST: Duration = Duration::from_secs(1);

/// A version of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Tool {
    pub name: String,
    pub version: String,
    /// Empty where the call was refused before it was known.
    pub digest: String,
}

/// A call that was decided.
#[derive(Debug, Clone)]
pub(super) struct PastCall {
    pub event_id: String,
    pub execution_id: String,
    pub time: DateTime<Utc>,
    pub agent_id: String,
    pub tool: Tool,
    /// Sanitised; `None` where they are not kept.
    pub arguments: Option<Value>,
    pub was_allowed: bool,
}

/// A page of the trail.
pub(super) struct Page {
    start: DateTime<Utc>,
    token: String,
}

impl Page {
    /// The newest events since then.
    pub(super) fn first(start: DateTime<Utc>) -> Self {
        Self { start, token: String::new() }
    }
}

/// What a page of the trail holds.
pub(super) struct Found {
    /// Newest first.
    pub calls: Vec<PastCall>,
    pub next: Option<Page>,
    /// Since when the trail is kept, where it was asked for more.
    pub kept_since: Option<DateTime<Utc>>,
}

/// Where calls and tools are known.
pub(super) struct Sources<'a> {
    pub registry: &'a Link,
    pub audit: &'a Link,
    pub outgoing: &'a Outgoing,
    pub caller: &'a Caller,
    /// When all answers must be there.
    pub until: Instant,
}

impl Sources<'_> {
    fn time_left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).max(LEAST)
    }

    /// The calls of a page, newest first, and the next page.
    pub(super) async fn calls(&self, page: Page) -> Result<Found, Error> {
        let nanos = i32::try_from(page.start.timestamp_subsec_nanos()).unwrap_or(0);
        let request = QueryTrailRequest {
            start_time: Some(prost_types::Timestamp { seconds: page.start.timestamp(), nanos }),
            page_size: PAGE,
            page_token: page.token,
            ..QueryTrailRequest::default()
        };
        let ask = || {
            let (mut client, request) = (AuditServiceClient::new(self.audit.clone()), request.clone());
            async move { client.query_trail(self.outgoing.request(self.caller, self.time_left(), request)).await }
        };
        let answer = self.outgoing.read(ask).await.map_err(|status| Error::peer("audit", status))?;
        let calls = answer.events.into_iter().filter_map(call).collect();
        let token = answer.next_page_token;
        let kept_since = answer.available_start_time.and_then(|at| DateTime::from_timestamp(at.seconds, 0));
        let next = (!token.is_empty()).then_some(Page { start: page.start, token });
        Ok(Found { calls, next, kept_since })
    }

    /// What policies are told of a tool; `None` when that version is not known any more.
    pub(super) async fn facts(&self, tool: &Tool) -> Result<Option<ToolFacts>, Error> {
        let (key, version) = (Some(Key::Name(tool.name.clone())), tool.version.clone());
        let request = GetToolRequest { key, version };
        let ask = || {
            let (mut client, request) = (RegistryServiceClient::new(self.registry.clone()), request.clone());
            async move { client.get_tool(self.outgoing.request(self.caller, self.time_left(), request)).await }
        };
        let found = match self.outgoing.read(ask).await {
            Ok(answer) => answer.tool.unwrap_or_default(),
            Err(status) if matches!(kind_of(&status), Kind::NotFound | Kind::Invalid) => return Ok(None),
            Err(status) => return Err(Error::peer("registry", status)),
        };
        let is_it = tool.digest.is_empty() || tool.digest == found.digest;
        Ok(found.definition.filter(|_| is_it).map(|definition| ToolFacts {
            effect: Option::from(definition.effect()).unwrap_or(types::Effect::SideEffect),
            sensitivity: Option::from(definition.sensitivity()).unwrap_or(types::Sensitivity::Internal),
            name: definition.name,
        }))
    }
}

/// The call that an event tells of, if it tells how one was decided.
fn call(event: Event) -> Option<PastCall> {
    let was_allowed = match event.action() {
        Action::ToolInvoked | Action::CacheHit => true,
        Action::PermissionChecked => false,
        _ => return None,
    };
    let at = event.time?;
    Some(PastCall {
        was_allowed,
        time: DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)?,
        arguments: serde_json::from_str(&event.arguments_json).ok(),
        event_id: event.id,
        execution_id: event.execution_id,
        agent_id: event.agent_id,
        tool: Tool { name: event.tool_name, version: event.tool_version, digest: event.tool_digest },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: Action) -> Event {
        Event {
            action: action.into(),
            time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            arguments_json: r#"{"a":1}"#.into(),
            ..Event::default()
        }
    }

    #[test]
    fn what_ran_was_allowed_and_what_was_refused_was_not_and_the_rest_is_no_call() {
        for (action, expected) in [
            (Action::ToolInvoked, Some(true)),
            (Action::CacheHit, Some(true)),
            (Action::PermissionChecked, Some(false)),
            (Action::ErrorOccurred, None),
            (Action::RetryAttempted, None),
            (Action::FallbackUsed, None),
            (Action::Unspecified, None),
        ] {
            assert_eq!(call(event(action)).map(|call| call.was_allowed), expected, "{action:?}");
        }
        let odd = Event { arguments_json: String::new(), ..event(Action::ToolInvoked) };
        assert_eq!(call(odd).unwrap().arguments, None);
        assert!(call(Event { time: None, ..event(Action::ToolInvoked) }).is_none());
    }
}
