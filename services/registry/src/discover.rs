//! Talks to one MCP server: connects, lists its tools, and hears when they change. Knows nothing of the
//! catalog.

use std::time::Duration;

use mcp::{Client, Transport};
use tokio::{sync::watch, time::Instant};

/// A connection to a server, kept so that it can announce changes.
pub(crate) struct Session {
    client: Client,
    changes: watch::Receiver<u64>,
    opened: Instant,
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
    pub(crate) async fn open(transport: &Transport, timeout: Duration) -> Result<Self, mcp::Error> {
        let client = Client::connect(transport, timeout).await?;
        Ok(Self { changes: client.tools_changed(), client, opened: Instant::now() })
    }

    /// Lists every tool. Changes announced before count as heard.
    pub(crate) async fn list(&mut self, timeout: Duration) -> Result<Vec<mcp::Tool>, mcp::Error> {
        self.changes.borrow_and_update();
        self.client.list_tools(timeout).await
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
        self.opened.elapsed()
    }

    /// Waits for news.
    pub(crate) async fn news(&mut self) -> News {
        tokio::select! {
            Ok(()) = self.changes.changed() => News::Changed,
            () = self.client.closed() => News::Closed,
        }
    }

    /// Ends it; returns when a child process is gone.
    pub(crate) async fn close(self) {
        self.client.close().await;
    }
}
