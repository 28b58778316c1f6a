//! Talks to one MCP server: connects, lists its tools, and hears when they change. Knows nothing of the
//! catalog.

use std::time::Duration;

use mcp::{Client, Transport};
use reach::Authorities;
use tokio::{sync::watch, time::Instant};

/// A connection to a server, kept so that it can announce changes.
pub(crate) struct Session {
    client: Client,
    changes: watch::Receiver<u64>,
    /// When it began to be opened.
    began: Instant,
    is_listed: bool,
}

/// Why a session wakes its keeper.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// The server says that its tools changed.
    Changed,
    /// The connection ended.
    Closed,
}

impl Session {
    /// Starts or reaches the server.
    pub(crate) async fn open(
        transport: &Transport,
        authorities: &Authorities,
        timeout: Duration,
    ) -> Result<Self, mcp::Error> {
        let began = Instant::now();
        let client = Client::connect_trusting(transport, authorities, timeout).await?;
        Ok(Self { changes: client.tools_changed(), client, began, is_listed: false })
    }

    /// Lists every tool, and gives how long the server took; the first time, to be reached as well, and all of
    /// that within `timeout`. Changes announced before count as heard.
    pub(crate) async fn list(&mut self, timeout: Duration) -> Result<(Vec<mcp::Tool>, Duration), mcp::Error> {
        let began = if self.is_listed { Instant::now() } else { self.began };
        self.changes.borrow_and_update();
        let tools = self.client.list_tools(timeout.saturating_sub(began.elapsed())).await?;
        self.is_listed = true;
        Ok((tools, began.elapsed()))
    }

    /// Asks for a sign of life.
    pub(crate) async fn ping(&self, timeout: Duration) -> Result<(), mcp::Error> {
        self.client.ping(timeout).await
    }

    /// Name and version that the server says it has, and the protocol revision.
    pub(crate) fn versions(&self) -> (String, String) {
        let server = self.client.server();
        (format!("{} {}", server.name, server.version).trim().to_owned(), server.protocol_version.clone())
    }

    /// Whether it can still be used.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    /// How long it has been open.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for news.
    pub(crate) async fn news(&mut self) -> News {
        tokio::select! {
            Ok(()) = self.changes.changed() => News::Changed,
            () = self.client.closed() => News::Closed,
        }
    }

    /// Resolves once the connection has ended.
    pub(crate) async fn closed(&self) -> News {
        self.client.closed().await;
        News::Closed
    }

    /// Ends it; returns when a child process is gone.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}
