//! Tools of MCP servers. One connection a server is kept and shared; a lost one is made anew by the next
//! call. A slow or dead server holds up its own calls only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use ::mcp::{Client, Error as McpError, ToolResult, Transport};
use proto::registry::v1::{McpBinding, McpTransport, mcp_transport::Kind};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use super::Job;
use crate::outcome::{Ended, ToolError, ToolErrorCode};

/// Team and transport: two teams never share a process.
type Key = (String, String);
type Slot = Arc<Connection>;

/// A connection that is not used for this long ends when another server is called.
const IDLE: Duration = Duration::from_mins(10);

/// The way to one server.
struct Connection {
    client: Mutex<Option<Client>>,
    used: StdMutex<Instant>,
}

impl Connection {
    fn new() -> Self {
        Self { client: Mutex::new(None), used: StdMutex::new(Instant::now()) }
    }

    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn idle(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

/// Runs tools with an MCP binding.
#[derive(Default)]
pub(crate) struct McpDriver {
    clients: StdMutex<HashMap<Key, Slot>>,
}

impl McpDriver {
    pub(crate) async fn run(&self, binding: &McpBinding, job: &Job<'_>) -> Ended {
        let transport = binding.transport.as_ref().and_then(transport);
        let transport = transport.ok_or_else(|| faulty("the tool's server has no transport"))?;
        let client = self.client(job, &transport).await.map_err(|error| failure(&error))?;
        let arguments = job.arguments.as_object().cloned().unwrap_or_else(Map::new);
        result(
            client.call_tool(&binding.tool, arguments, job.timeout).await.map_err(|error| failure(&error))?,
        )
    }

    /// Ends every connection, and with it every child process.
    pub(crate) async fn close(&self) {
        let slots: Vec<Slot> = self
            .clients
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain()
            .map(|(_, slot)| slot)
            .collect();
        for slot in slots {
            if let Some(client) = slot.client.lock().await.take() {
                client.close().await;
            }
        }
    }

    async fn client(&self, job: &Job<'_>, transport: &Transport) -> Result<Client, McpError> {
        let slot = self.slot(job.team, transport);
        let mut slot = slot.client.lock().await;
        if let Some(client) = slot.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        let client = Client::connect(transport, job.timeout).await?;
        *slot = Some(client.clone());
        Ok(client)
    }

    fn slot(&self, team: &str, transport: &Transport) -> Slot {
        // The text may hold secrets; it is a key in memory only.
        let key = (team.to_owned(), serde_json::to_string(transport).unwrap_or_default());
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if !clients.contains_key(&key) {
            // Servers that were removed, or are reached in another way now. A call under way has a handle of
            // its own.
            clients.retain(|_, slot| slot.idle() < IDLE);
        }
        let slot = clients.entry(key).or_insert_with(|| Arc::new(Connection::new()));
        slot.touch();
        Arc::clone(slot)
    }
}

fn transport(transport: &McpTransport) -> Option<Transport> {
    Some(match transport.kind.clone()? {
        Kind::Stdio(stdio) => Transport::Stdio {
            command: stdio.command,
            args: stdio.args,
            env: stdio.env.into_iter().collect(),
        },
        Kind::Http(http) => Transport::Http { url: http.url, headers: http.headers.into_iter().collect() },
    })
}

/// Structured content is the result; without it the content blocks are.
fn result(result: ToolResult) -> Ended {
    if result.is_error {
        let message = texts(&result.content);
        let message = if message.is_empty() { "the tool reported an error".to_owned() } else { message };
        return Err(ToolError::new(ToolErrorCode::ToolFailed, message));
    }
    Ok(match result.structured {
        Some(structured) => structured.to_string(),
        None => json!({ "content": result.content }).to_string(),
    })
}

fn texts(content: &[Value]) -> String {
    let texts: Vec<&str> = content.iter().filter_map(|block| block.get("text")?.as_str()).collect();
    texts.join("\n").chars().take(2_000).collect()
}

fn failure(error: &McpError) -> ToolError {
    let code = match error {
        McpError::Timeout { .. } => ToolErrorCode::Timeout,
        McpError::Protocol { .. } | McpError::Handshake { .. } | McpError::Unusable { .. } => {
            ToolErrorCode::Protocol
        }
        McpError::Http { status: 401 | 403, .. } => ToolErrorCode::UpstreamAuth,
        McpError::Http { status: 429, .. } => ToolErrorCode::UpstreamRateLimited,
        McpError::TooLarge { .. } => ToolErrorCode::ResultTooLarge,
        _ => ToolErrorCode::Unreachable,
    };
    let retry_after_ms = match error {
        McpError::Http { retry_after: Some(after), .. } => i64::try_from(after.as_millis()).unwrap_or(0),
        _ => 0,
    };
    ToolError { retryable: error.is_unsent(), retry_after_ms, ..ToolError::new(code, error.to_string()) }
}

fn faulty(message: &str) -> ToolError {
    ToolError::new(ToolErrorCode::NotConfigured, message)
}
