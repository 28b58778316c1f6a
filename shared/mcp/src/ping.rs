//! A sign of life, by the cheapest request that the server's era has: `ping` up to 2025-11-25, and since
//! 2026-07-28, which has none, `server/discover`. Must never count silence or a broken answer as life.

use std::time::Duration;

use rmcp::model::{
    ClientRequest, DiscoverRequest, DiscoverRequestParams, ErrorCode, PingRequest, RequestNoParam,
};
use rmcp::service::ServiceError;

use crate::client::{Client, Inner, within};
use crate::error::Error;

impl Client {
    /// Asks the server for a sign of life, over this connection.
    pub async fn ping(&self, timeout: Duration) -> Result<(), Error> {
        within("the MCP server's sign of life", timeout, self.inner().ping()).await
    }
}

impl Inner {
    async fn ping(&self) -> Result<(), Error> {
        let is_new = self.peer.peer_info().is_some_and(|server| !server.protocol_version.has_initialize());
        let request = if is_new {
            ClientRequest::DiscoverRequest(DiscoverRequest::new(DiscoverRequestParams {}))
        } else {
            let ping: PingRequest = RequestNoParam::default();
            ClientRequest::PingRequest(ping)
        };
        let oversized = self.evidence.oversized_count();
        match self.peer.send_request(request).await {
            Ok(_) => Ok(()),
            // Not every server took the trouble; that it says so is a sign of life.
            Err(ServiceError::McpError(error)) if !is_new && error.code == ErrorCode::METHOD_NOT_FOUND => {
                Ok(())
            }
            Err(error) => Err(self.explain(error, oversized, true)),
        }
    }
}
