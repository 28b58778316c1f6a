//! What can go wrong with a server, in words fit for a caller. Must never contain an environment value, a
//! header value, the query of an address, or an unbounded text of the server's.

use std::time::Duration;

use reach::CertificateFault;

/// A failure of a server or of the way to it. A tool's own failure is not one: see
/// [`ToolResult::is_error`](crate::ToolResult::is_error).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The child process could not be started, or ended before the handshake.
    #[error("cannot start the MCP server `{command}`: {reason}")]
    Start {
        /// The program, without arguments and environment.
        command: String,
        /// The cause, with the end of what it wrote to standard error.
        reason: String,
    },
    /// No connection: bad address or header, name not found, connection refused, TLS failed.
    #[error("cannot connect to the MCP server at {address}: {reason}")]
    Connect {
        /// The address without user, password and query.
        address: String,
        /// The cause.
        reason: String,
    },
    /// No secure connection: a certificate was refused, before the server took any request. Trying again does not help.
    #[error("there is no secure connection to the MCP server: {0}")]
    Certificate(CertificateFault),
    /// Something answered, but no MCP session came about.
    #[error("the MCP handshake failed: {reason}")]
    Handshake {
        /// The cause.
        reason: String,
    },
    /// The time for an operation ran out. The server was told to stop, where the protocol allows it.
    #[error("{what} timed out after {} ms", .after.as_millis())]
    Timeout {
        /// The operation: `connecting`, `listing tools`, `calling the tool`.
        what: &'static str,
        /// The time it was given.
        after: Duration,
        /// Whether the request had gone out, so that it may have taken effect.
        sent: bool,
    },
    /// The server, or its connection, ended.
    #[error("the MCP server closed the connection: {reason}")]
    Closed {
        /// The cause, as far as it is known.
        reason: String,
        /// Whether the request had gone out, so that it may have taken effect.
        sent: bool,
    },
    /// The server answered with a JSON-RPC error.
    #[error("the MCP server answered with error {code}: {message}")]
    Protocol {
        /// The JSON-RPC error code.
        code: i32,
        /// The server's message, shortened to 1,000 characters.
        message: String,
    },
    /// The server answered with an HTTP error status and nothing of MCP.
    #[error("the MCP server answered with HTTP status {status}")]
    Http {
        /// The status code.
        status: u16,
        /// What the server asked for in `Retry-After`, as a wait from now.
        retry_after: Option<Duration>,
    },
    /// The server sent more than this client holds.
    #[error("{what} is larger than the limit of {limit}")]
    TooLarge {
        /// What was too large: `the response`, `the list of tools`.
        what: &'static str,
        /// The limit with its unit, for example `16777216 bytes`.
        limit: String,
    },
    /// The answer is not one this client can use: not of MCP, or it asks for user input or a task.
    #[error("the MCP server gave an unusable answer: {reason}")]
    Unusable {
        /// What was wrong with it.
        reason: String,
    },
}

impl Error {
    /// True where no request can have reached the server, so that trying again can have no second effect.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Start { .. } | Self::Connect { .. } | Self::Certificate(_) | Self::Handshake { .. } => true,
            Self::Timeout { sent, .. } | Self::Closed { sent, .. } => !sent,
            Self::Protocol { .. } | Self::Http { .. } | Self::TooLarge { .. } | Self::Unusable { .. } => {
                false
            }
        }
    }

    /// True where the server says that it refused the call before doing any of it: JSON-RPC 2.0, section 5.1
    /// (parse error, invalid request, method not found, invalid params); HTTP 401, 403, 425, 429, and 503
    /// with `Retry-After`.
    pub fn is_refused(&self) -> bool {
        match self {
            Self::Protocol { code, .. } => matches!(code, -32_700 | -32_602..=-32_600),
            Self::Http { status: 401 | 403 | 425 | 429, .. } => true,
            Self::Http { status: 503, retry_after } => retry_after.is_some(),
            Self::Start { .. }
            | Self::Connect { .. }
            | Self::Certificate(_)
            | Self::Handshake { .. }
            | Self::Timeout { .. }
            | Self::Closed { .. }
            | Self::Http { .. }
            | Self::TooLarge { .. }
            | Self::Unusable { .. } => false,
        }
    }

    /// The connection ended while or after a request went out.
    pub(crate) fn closed(reason: impl Into<String>) -> Self {
        Self::Closed { reason: reason.into(), sent: true }
    }

    pub(crate) fn handshake(reason: &str) -> Self {
        Self::Handshake { reason: shortened(reason) }
    }

    pub(crate) fn unusable(reason: &str) -> Self {
        Self::Unusable { reason: shortened(reason) }
    }

    pub(crate) fn protocol(error: &rmcp::model::ErrorData) -> Self {
        Self::Protocol { code: error.code.0, message: shortened(&error.message) }
    }
}

/// At most 1,000 characters on one line: a server chooses these texts, and they end up in logs.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 1_000;
    let mut short: String = text.chars().take(LIMIT).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_turned_away_counts_as_refused() {
        let protocol = |code| Error::Protocol { code, message: String::new() };
        let http =
            |status, after: Option<u64>| Error::Http { status, retry_after: after.map(Duration::from_secs) };
        for error in
            [protocol(-32_601), protocol(-32_602), http(429, None), http(401, None), http(503, Some(1))]
        {
            assert!(error.is_refused(), "{error}");
        }
        for error in
            [protocol(-32_603), protocol(-32_000), http(503, None), http(500, Some(1)), http(404, None)]
        {
            assert!(!error.is_refused(), "{error}");
        }
    }

    #[test]
    fn a_servers_text_is_cut_and_kept_on_one_line() {
        let text = shortened(&"a\n\u{1b}".repeat(1_000));
        assert_eq!(text.chars().count(), 1_001);
        assert!(!text.contains(char::is_control) && text.ends_with('…'));
    }
}
