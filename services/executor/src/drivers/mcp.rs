//! Tools of MCP servers. One connection a server is kept and shared; a lost one is made anew by the next
//! call. A slow or dead server holds up its own calls only.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::{Duration, Instant},
};

use ::mcp::{Call, CallEvent, Client, Commands, Error as McpError, Transport};
use proto::registry::v1::{McpBinding, McpTransport, mcp_transport::Kind};
use reach::Authorities;
use reqwest::header::{HeaderMap, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use url::Url;

use super::{Job, idempotency, mcp_result};
use crate::{
    credentials::{Carried, Scrub},
    outcome::{Ended, Reached, ToolError, ToolErrorCode},
    progress::Sink,
};

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
pub(crate) struct McpDriver {
    clients: StdMutex<HashMap<Key, Slot>>,
    /// Programs that may be run.
    commands: Commands,
    /// Whose certificates are taken besides those that the system trusts.
    authorities: Authorities,
}

impl McpDriver {
    pub(crate) fn new(authorities: &Authorities, commands: Commands) -> Self {
        Self { clients: StdMutex::default(), commands, authorities: authorities.clone() }
    }

    pub(crate) async fn run(&self, binding: &McpBinding, job: &Job<'_>, carried: &Carried) -> Ended {
        let transport = binding.transport.as_ref().and_then(transport);
        let transport = transport.ok_or_else(|| faulty("the tool's server has no transport"))?;
        // Asked each time: a tool may stand in the catalog since the list was longer.
        self.commands.check(&transport).map_err(|refusal| faulty(&refusal.to_string()))?;
        let transport = with_credentials(transport, carried)?;
        let call = Call {
            tool: &binding.tool,
            arguments: idempotency::arguments(job).as_object().cloned().unwrap_or_else(Map::new),
            meta: idempotency::meta(job)?,
            timeout: job.timeout,
        };
        // The tool is not called before there is a connection.
        let unsent = |error| mcp_result::failure(&error).having(Reached::No);
        let connected = tokio::time::timeout(before(job.timeout), self.client(job, &transport)).await;
        let client = connected.map_err(|_| too_slow(job.timeout))?.map_err(unsent)?;
        let scrub = carried.scrub();
        let answer = client.call_tool_with(call, |event| tell(job.progress, &scrub, event)).await;
        let schema = job.tool.definition.as_ref().map_or("", |tool| tool.output_schema_json.as_str());
        mcp_result::result(answer.map_err(|error| mcp_result::failure(&error))?, schema)
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
        let client = Client::connect_trusting(transport, &self.authorities, job.timeout).await?;
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

/// A little before the attempt ends, so that the driver says itself that nothing was sent.
fn before(timeout: Duration) -> Duration {
    timeout.saturating_sub(Duration::from_millis(20).min(timeout / 10))
}

fn too_slow(timeout: Duration) -> ToolError {
    let message = format!("there was no connection to the MCP server within {} ms", timeout.as_millis());
    ToolError::new(ToolErrorCode::Timeout, message).having(Reached::No)
}

/// The way to the server, with what it is to be shown. A connection is kept by all of it, and so made anew for the
/// next version of a credential.
fn with_credentials(transport: Transport, carried: &Carried) -> Result<Transport, ToolError> {
    if carried.is_empty() {
        return Ok(transport);
    }
    if carried.identity().is_some() {
        return Err(faulty("a client certificate cannot be shown to an MCP server"));
    }
    match transport {
        Transport::Stdio { command, args, mut env } => {
            if carried.env().len() < carried.len() {
                return Err(faulty("a credential of a child process needs a variable to go into"));
            }
            env.extend(
                carried.env().iter().map(|(name, value)| (name.clone(), value.expose_secret().to_owned())),
            );
            Ok(Transport::Stdio { command, args, env })
        }
        Transport::Http { url, mut headers } => {
            let mut url = Url::parse(&url).map_err(|_| faulty("the server's address is none"))?;
            let mut added = HeaderMap::new();
            // Whoever registered the server chose its network.
            carried.apply(&mut url, &mut added, true)?;
            let text = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
            headers.extend(added.iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))));
            Ok(Transport::Http { url: url.into(), headers })
        }
    }
}

fn tell(sink: &Sink, scrub: &Scrub, event: CallEvent) {
    match event {
        CallEvent::Progress { progress, total, message } => {
            sink.progress(progress, total.unwrap_or(0.0), &scrub.text(&message.unwrap_or_default()));
        }
        CallEvent::Log { level, logger, data } => {
            let text = match data {
                Value::String(text) => scrub.text(&text),
                data => scrub.json(data.to_string()),
            };
            sink.log(&level, &scrub.text(&logger.unwrap_or_default()), &text);
        }
        _ => {}
    }
}

fn faulty(message: &str) -> ToolError {
    ToolError::new(ToolErrorCode::NotConfigured, message)
}
