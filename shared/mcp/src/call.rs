//! One call of a tool: from waiting for its turn to its answer, with its news on the way. A call that is given
//! up is cancelled at the server; this file must never leave one running there unasked.

use std::time::Duration;

use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotification,
    CancelledNotificationParam, ClientRequest, Extensions, MetaObject, RequestId, RequestMetaObject,
    ServerResult,
};
use rmcp::service::{PeerRequestOptions, RequestHandle, ServiceError};
use rmcp::{Peer, RoleClient};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use crate::client::{Client, Inner};
use crate::error::Error;
use crate::events::{CallEvent, Listeners, Ticket};
use crate::tool::ToolResult;

/// Calls under way at once on one connection; others wait, within their own time.
pub const MAX_CALLS: usize = 64;

/// What is asked of a tool.
#[derive(Debug, Clone)]
pub struct Call<'a> {
    /// The tool's name at the server.
    pub tool: &'a str,
    /// Its arguments.
    pub arguments: Map<String, Value>,
    /// Entries of the request's `_meta`, besides those of the protocol.
    pub meta: Map<String, Value>,
    /// How long the answer may take, waiting for a turn included.
    pub timeout: Duration,
}

impl Client {
    /// Calls a tool. When the time runs out, or the returned future is dropped, the server is told to stop
    /// (`notifications/cancelled`; over HTTP of the new era, by closing the response stream).
    pub async fn call_tool(
        &self,
        name: &str,
        arguments: Map<String, Value>,
        timeout: Duration,
    ) -> Result<ToolResult, Error> {
        let call = Call { tool: name, arguments, meta: Map::new(), timeout };
        let (ticket, _) = Ticket::new(false);
        self.within(call, &ticket, None, |_| {}).await
    }

    /// The same, and `on_event` is given what the server says of the call meanwhile. News arrive in order;
    /// when they come faster than they are taken, some are left out.
    pub async fn call_tool_with(
        &self,
        call: Call<'_>,
        on_event: impl FnMut(CallEvent) + Send,
    ) -> Result<ToolResult, Error> {
        let (ticket, events) = Ticket::new(true);
        self.within(call, &ticket, events, on_event).await
    }

    async fn within(
        &self,
        call: Call<'_>,
        ticket: &Ticket,
        events: Option<mpsc::Receiver<CallEvent>>,
        on_event: impl FnMut(CallEvent) + Send,
    ) -> Result<ToolResult, Error> {
        let after = call.timeout;
        let work = self.call(call, ticket, events, on_event);
        tokio::time::timeout(after, work).await.unwrap_or_else(|_| {
            Err(Error::Timeout { what: "the call of the MCP tool", after, sent: ticket.is_sent() })
        })
    }

    async fn call(
        &self,
        call: Call<'_>,
        ticket: &Ticket,
        events: Option<mpsc::Receiver<CallEvent>>,
        mut on_event: impl FnMut(CallEvent) + Send,
    ) -> Result<ToolResult, Error> {
        let inner = self.inner();
        let closed = |_| inner.explain(ServiceError::TransportClosed, 0, ticket.is_sent());
        let _turn = inner.turns.acquire().await.map_err(closed)?;
        let oversized = inner.evidence.oversized_count();
        let explain = |error| inner.explain(error, oversized, ticket.is_sent());
        let (request, options) = request(call, ticket, events.is_some());
        let handle = inner.peer.send_request_with_option(request, options).await.map_err(explain)?;
        let mut under_way = UnderWay::new(inner, &handle, events);
        let answer = under_way.answer(handle, &mut on_event).await.map_err(explain);
        under_way.is_answered = true;
        result(answer?)
    }
}

#[allow(deprecated, reason = "servers log as long as the protocol has it (SEP-2577 deprecates it)")]
fn request(call: Call<'_>, ticket: &Ticket, listens: bool) -> (ClientRequest, PeerRequestOptions) {
    let mut extensions = Extensions::new();
    extensions.insert(ticket.clone());
    let params = CallToolRequestParams::new(call.tool.to_owned()).with_arguments(call.arguments);
    let mut request = CallToolRequest::new(params);
    request.extensions = extensions;
    let mut meta = RequestMetaObject(MetaObject(call.meta));
    if listens {
        // Servers of 2026-07-28 log to a request only when it says from which level on.
        meta.set_log_level(rmcp::model::LoggingLevel::Info);
    }
    (ClientRequest::CallToolRequest(request), PeerRequestOptions::no_options().with_meta(meta))
}

/// A request that went out. Dropped before its answer came, it tells the server to stop.
struct UnderWay<'a> {
    peer: &'a Peer<RoleClient>,
    listeners: &'a Listeners,
    id: RequestId,
    events: Option<mpsc::Receiver<CallEvent>>,
    is_answered: bool,
}

impl<'a> UnderWay<'a> {
    fn new(
        inner: &'a Inner,
        handle: &RequestHandle<RoleClient>,
        events: Option<mpsc::Receiver<CallEvent>>,
    ) -> Self {
        let (peer, listeners) = (&inner.peer, &inner.evidence.listeners);
        Self { peer, listeners, id: handle.id.clone(), events, is_answered: false }
    }

    /// Waits for the answer and hands on what comes before it.
    async fn answer(
        &mut self,
        handle: RequestHandle<RoleClient>,
        on_event: &mut (impl FnMut(CallEvent) + Send),
    ) -> Result<ServerResult, ServiceError> {
        let Some(events) = &mut self.events else { return handle.await_response().await };
        let mut response = std::pin::pin!(handle.await_response());
        let answer = loop {
            tokio::select! {
                biased;
                Some(event) = events.recv() => on_event(event),
                answer = &mut response => break answer,
            }
        };
        while let Ok(event) = events.try_recv() {
            on_event(event);
        }
        answer
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        // Closed first: a request that is only now taken up by the transport then finds no listener.
        if let Some(events) = &mut self.events {
            events.close();
            self.listeners.remove(&self.id);
        }
        if self.is_answered {
            return;
        }
        let (peer, id) = (self.peer.clone(), self.id.clone());
        let reason = Some("the caller no longer waits".to_owned());
        let stop = CancelledNotification::new(CancelledNotificationParam::new(Some(id), reason));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // A connection that ended has cancelled its calls already.
            runtime.spawn(async move { drop(peer.send_notification(stop.into()).await) });
        }
    }
}

fn result(answer: ServerResult) -> Result<ToolResult, Error> {
    match answer {
        ServerResult::CallToolResult(result) => result.try_into(),
        // A result without content may be read as one of these.
        ServerResult::EmptyResult(_) | ServerResult::TaskAckResult(_) => CallToolResult::default().try_into(),
        ServerResult::InputRequiredResult(_) => Err(Error::unusable("the tool asks for input of a user")),
        ServerResult::CreateTaskResult(_) => Err(Error::unusable("the tool answers with a task")),
        _ => Err(Error::unusable("the answer is not of the kind asked for")),
    }
}
