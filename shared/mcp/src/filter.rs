//! Stands between a transport and `rmcp` and passes on only what this client uses. Answers the server's own
//! requests (a ping is answered, anything else refused) with a bounded number of answers under way, hands the
//! news of a call to it, and drops notifications nobody listens to, so that a server that floods us costs a
//! bounded amount. Must never pass a payload to a log.

use std::sync::Arc;

use rmcp::RoleClient;
use rmcp::model::{
    ClientJsonRpcMessage, ClientResult, ErrorCode, ErrorData, GetExtensions, GetMeta, JsonRpcMessage,
    RequestId, ServerNotification, ServerRequest,
};
use rmcp::service::{RxJsonRpcMessage, TxJsonRpcMessage};
use rmcp::transport::Transport;
use tokio::sync::Semaphore;

use crate::events::Ticket;
use crate::evidence::Evidence;

/// Answers to the server's requests under way at once; requests beyond are dropped.
const MAX_ANSWERS: usize = 64;

/// A transport that lets through responses and the notifications in use.
pub(crate) struct Filter<T> {
    inner: T,
    answers: Arc<Semaphore>,
    evidence: Arc<Evidence>,
}

impl<T: Transport<RoleClient>> Filter<T> {
    pub(crate) fn new(inner: T, evidence: Arc<Evidence>) -> Self {
        Self { inner, answers: Arc::new(Semaphore::new(MAX_ANSWERS)), evidence }
    }

    /// The ticket of a call that goes out; its news are listened to from now on.
    fn ticket(&self, message: &ClientJsonRpcMessage) -> Option<Ticket> {
        let JsonRpcMessage::Request(request) = message else { return None };
        let ticket = request.request.extensions().get::<Ticket>()?.clone();
        if let Some(token) = request.request.get_meta().get_progress_token() {
            self.evidence.listeners.add(&request.id, token, &ticket);
        }
        Some(ticket)
    }

    fn answer(&mut self, request: &ServerRequest, id: RequestId) {
        let Ok(permit) = self.answers.clone().try_acquire_owned() else {
            tracing::debug!("mcp server floods us with requests, one dropped");
            return;
        };
        let send = self.inner.send(reply(request, id));
        tokio::spawn(async move {
            let _permit = permit;
            if send.await.is_err() {
                tracing::debug!("mcp server did not take the answer to its request");
            }
        });
    }
}

impl<T> Filter<T> {
    fn hand_on(&self, notification: ServerNotification) {
        match notification {
            ServerNotification::ProgressNotification(news) => self.evidence.listeners.progress(news.params),
            ServerNotification::LoggingMessageNotification(news) => self.evidence.listeners.log(news.params),
            _ => {}
        }
    }
}

fn reply(request: &ServerRequest, id: RequestId) -> ClientJsonRpcMessage {
    if matches!(request, ServerRequest::PingRequest(_)) {
        return JsonRpcMessage::response(ClientResult::empty(()), id);
    }
    let refusal = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, "not supported by this client", None);
    JsonRpcMessage::error(refusal, Some(id))
}

fn is_used(notification: &ServerNotification) -> bool {
    matches!(
        notification,
        ServerNotification::ToolListChangedNotification(_)
            | ServerNotification::SubscriptionsAcknowledgedNotification(_)
            | ServerNotification::CancelledNotification(_)
    )
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Filter<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        let ticket = self.ticket(&item);
        let send = self.inner.send(item);
        async move {
            if let Some(ticket) = ticket {
                ticket.mark_sent();
            }
            send.await
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        loop {
            let message = self.inner.receive().await?;
            self.evidence.heard();
            match message {
                JsonRpcMessage::Request(request) => self.answer(&request.request, request.id),
                JsonRpcMessage::Notification(sent) if is_used(&sent.notification) => {
                    return Some(JsonRpcMessage::Notification(sent));
                }
                JsonRpcMessage::Notification(sent) => self.hand_on(sent.notification),
                message => return Some(message),
            }
        }
    }

    async fn close(&mut self) -> Result<(), Self::Error> {
        self.inner.close().await
    }
}
