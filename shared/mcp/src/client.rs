//! A connection to one MCP server, cheap to clone and used by many callers at once. Must never wait without
//! a limit, hold more of a server's answer than the limits allow, or outlive its last clone.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reach::Authorities;
use rmcp::model::{ErrorCode, ListToolsResult, PaginatedRequestParams, ServerPeerInfo};
use rmcp::service::{ClientCacheConfig, ServiceError};
use rmcp::{Peer, RoleClient};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::call::MAX_CALLS;
use crate::changes;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::handshake::{self, Session};
use crate::http;
use crate::tool::Tool;
use crate::transport::Transport;

/// The most tools accepted from one server.
pub const MAX_TOOLS: usize = 10_000;

/// The most bytes of tool definitions accepted from one server, as JSON text (64 MiB).
pub const MAX_LIST_BYTES: usize = 64 * 1024 * 1024;

/// The most pages a list of tools may have.
const MAX_PAGES: usize = 1_000;

/// Who answers, as far as it says so itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// The server's name; empty where it gives none.
    pub name: String,
    /// The server's own version; empty where it gives none.
    pub version: String,
    /// The protocol version agreed on, for example `2026-07-28`.
    pub protocol_version: String,
}

/// A connected MCP server. When the last clone is dropped the connection is closed in the background: a
/// child process is asked to end and killed with its descendants a few seconds later if it does not.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) peer: Peer<RoleClient>,
    /// One for each call that may be under way.
    pub(crate) turns: Semaphore,
    server: ServerInfo,
    /// The address or command, fit to be shown.
    target: String,
    pub(crate) evidence: Arc<Evidence>,
    changes: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Client {
    /// Starts or reaches the server and agrees on a protocol version, all within `timeout`.
    pub async fn connect(transport: &Transport, timeout: Duration) -> Result<Self, Error> {
        Self::connect_trusting(transport, &Authorities::default(), timeout).await
    }

    /// The same; a server's certificate may come from these authorities as well as from those that the system trusts.
    pub async fn connect_trusting(
        transport: &Transport,
        authorities: &Authorities,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let Session { running, changes, stop, evidence } =
            handshake::connect(transport, authorities, timeout).await?;
        let peer = running.peer().clone();
        // A cached list, or a stale one in place of an error, would hide what the server says now.
        peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let inner = Inner {
            server: peer.peer_info().as_deref().map_or_else(ServerInfo::unknown, ServerInfo::from),
            target: transport.to_string(),
            evidence,
            changes: changes.subscribe(),
            closed: watch_end(running, peer.clone(), changes, stop.clone()),
            turns: Semaphore::new(MAX_CALLS),
            _stop_on_drop: stop.clone().drop_guard(),
            stop,
            peer,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All tools of the server, over all pages, within `timeout`.
    pub async fn list_tools(&self, timeout: Duration) -> Result<Vec<Tool>, Error> {
        within("listing the tools of the MCP server", timeout, self.all_pages()).await
    }

    /// Whether the connection has ended. An HTTP server that went away shows only at the next call.
    pub fn is_closed(&self) -> bool {
        *self.inner.closed.borrow() || self.inner.stop.is_cancelled() || self.inner.peer.is_transport_closed()
    }

    /// Resolves once the connection has ended and a child process is gone.
    pub async fn closed(&self) {
        // An error means the watching task is gone, and the connection with it.
        let _ = self.inner.closed.clone().wait_for(|closed| *closed).await;
    }

    /// Counts the server's announcements that its tools changed; await `changed()` on it. Several changes in
    /// a row may be seen as one.
    pub fn tools_changed(&self) -> watch::Receiver<u64> {
        self.inner.changes.clone()
    }

    /// What the server said about itself.
    pub fn server(&self) -> &ServerInfo {
        &self.inner.server
    }

    /// Ends the connection for all clones; returns when a child process is gone, at most some seconds later.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.closed().await;
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    async fn all_pages(&self) -> Result<Vec<Tool>, Error> {
        let mut list = List::default();
        let mut cursor = None;
        for _ in 0..MAX_PAGES {
            let page = self.page(cursor.clone()).await?;
            list.add(page.tools.into_iter().map(Tool::from))?;
            match page.next_cursor {
                None => return Ok(list.tools),
                same if same == cursor => return Err(Error::unusable("the list of tools runs in a circle")),
                next => cursor = next,
            }
        }
        Err(Error::TooLarge { what: "the list of tools", limit: format!("{MAX_PAGES} pages") })
    }

    async fn page(&self, cursor: Option<String>) -> Result<ListToolsResult, Error> {
        let oversized = self.inner.evidence.oversized_count();
        let request = PaginatedRequestParams::default().with_cursor(cursor);
        match self.inner.peer.list_tools(Some(request)).await {
            Ok(page) => Ok(page),
            Err(ServiceError::McpError(error))
                if error.code == ErrorCode::METHOD_NOT_FOUND && self.has_no_tools() =>
            {
                Ok(ListToolsResult::default())
            }
            Err(error) => Err(self.inner.explain(error, oversized, true)),
        }
    }

    fn has_no_tools(&self) -> bool {
        self.inner.peer.peer_info().is_some_and(|server| server.capabilities.tools.is_none())
    }
}

impl Inner {
    /// `oversized` is the count of too large messages when the request began; `sent` whether it went out.
    pub(crate) fn explain(&self, error: ServiceError, oversized: u64, sent: bool) -> Error {
        match error {
            ServiceError::McpError(error) => Error::protocol(&error),
            // On stdio, what could not be written whole is no request.
            ServiceError::TransportSend(error) => http::describe(error.error.as_ref(), &self.target)
                .unwrap_or_else(|| Error::Closed { reason: self.ending(), sent: false }),
            ServiceError::TransportClosed if self.evidence.oversized_count() > oversized => {
                Evidence::too_large()
            }
            ServiceError::TransportClosed => Error::Closed { reason: self.ending(), sent },
            ServiceError::UnexpectedResponse => Error::unusable("the answer is not of the kind asked for"),
            other => Error::unusable(&other.to_string()),
        }
    }

    fn ending(&self) -> String {
        if self.stop.is_cancelled() {
            return "it was closed by this client".to_owned();
        }
        self.evidence.ending()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("target", &self.inner.target)
            .field("server", &self.inner.server)
            .field("closed", &self.is_closed())
            .finish()
    }
}

impl ServerInfo {
    fn unknown() -> Self {
        Self { name: String::new(), version: String::new(), protocol_version: String::new() }
    }
}

impl From<&ServerPeerInfo> for ServerInfo {
    fn from(peer: &ServerPeerInfo) -> Self {
        let said = peer.server_info.as_ref();
        Self {
            name: said.map(|server| server.name.clone()).unwrap_or_default(),
            version: said.map(|server| server.version.clone()).unwrap_or_default(),
            protocol_version: peer.protocol_version.to_string(),
        }
    }
}

/// Tools gathered so far, within the limits.
#[derive(Default)]
struct List {
    tools: Vec<Tool>,
    bytes: usize,
}

impl List {
    fn add(&mut self, page: impl Iterator<Item = Tool>) -> Result<(), Error> {
        let too_large = |limit| Error::TooLarge { what: "the list of tools", limit };
        for tool in page {
            self.bytes = self.bytes.saturating_add(tool.bytes());
            if self.bytes > MAX_LIST_BYTES {
                return Err(too_large(format!("{MAX_LIST_BYTES} bytes")));
            }
            if self.tools.len() == MAX_TOOLS {
                return Err(too_large(format!("{MAX_TOOLS} tools")));
            }
            self.tools.push(tool);
        }
        Ok(())
    }
}

/// Gives up after the time given; dropping the work is what makes `rmcp` send the cancellation.
pub(crate) async fn within<T>(
    what: &'static str,
    after: Duration,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(after, work).await.unwrap_or(Err(Error::Timeout { what, after, sent: true }))
}

/// Follows the session to its end, and the server's changes until then.
fn watch_end(
    running: rmcp::service::RunningService<RoleClient, changes::Handler>,
    peer: Peer<RoleClient>,
    changes: watch::Sender<u64>,
    stop: CancellationToken,
) -> watch::Receiver<bool> {
    let (closed, receiver) = watch::channel(false);
    if changes::needs_subscription(&peer) {
        let ended = receiver.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = changes::follow(peer, changes) => {}
                () = stop.cancelled() => {}
                () = until_true(ended) => {}
            }
        });
    }
    tokio::spawn(async move {
        if let Err(error) = running.waiting().await {
            tracing::error!(%error, "mcp session task failed");
        }
        closed.send_replace(true);
    });
    receiver
}

async fn until_true(mut flag: watch::Receiver<bool>) {
    let _ = flag.wait_for(|set| *set).await;
}
