//! News that a server's tools changed: older servers send them unasked, newer ones (2026-07-28) only to a
//! subscription. Must never do work of its own at the news; it only counts them.

use std::time::Duration;

use rmcp::model::{ClientCapabilities, ClientConfig, Implementation, ProtocolVersion, SubscriptionFilter};
use rmcp::service::{NotificationContext, ServiceError};
use rmcp::{ClientHandler, Peer, RoleClient};
use tokio::sync::watch;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Our side of the connection: who we are, and the count of changes.
pub(crate) struct Handler {
    changes: watch::Sender<u64>,
}

impl Handler {
    pub(crate) fn new(changes: watch::Sender<u64>) -> Self {
        Self { changes }
    }
}

impl ClientHandler for Handler {
    /// No capabilities: a server may not ask this client for samples, roots or user input.
    fn get_info(&self) -> ClientConfig {
        let name = Implementation::new("toolcrib", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), name)
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        count(&self.changes);
    }
}

fn count(changes: &watch::Sender<u64>) {
    changes.send_modify(|count| *count = count.wrapping_add(1));
}

/// Whether changes have to be subscribed to: a server of the new era that promises to announce them.
pub(crate) fn needs_subscription(peer: &Peer<RoleClient>) -> bool {
    peer.peer_info().is_some_and(|server| {
        let announces = server.capabilities.tools.as_ref().and_then(|tools| tools.list_changed);
        announces == Some(true) && !server.protocol_version.has_initialize()
    })
}

/// Keeps a subscription open until the connection ends or the server refuses it. Changes may be missed while
/// it is down, so a new one counts as a change.
pub(crate) async fn follow(peer: Peer<RoleClient>, changes: watch::Sender<u64>) {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let mut pause = FIRST_PAUSE;
    let mut first = true;
    while !peer.is_transport_closed() {
        match peer.listen(filter.clone()).await {
            Ok(mut subscription) => {
                if !first {
                    count(&changes);
                }
                pause = FIRST_PAUSE;
                while let Ok(Some(_)) = subscription.next().await {
                    count(&changes);
                }
            }
            Err(ServiceError::McpError(_) | ServiceError::UnexpectedResponse) => return,
            Err(_) => {}
        }
        first = false;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
