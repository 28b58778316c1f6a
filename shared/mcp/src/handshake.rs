//! Brings a session about with a server of either era. A server is asked to discover itself (2026-07-28);
//! one that answers with an error is initialised on the same connection (2025-11-25 and older); one that
//! breaks, or says nothing, gets a second and last chance on a new connection with the old handshake alone.
//! Must never take longer than it was given.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use reach::Authorities;
use rmcp::RoleClient;
use rmcp::model::ProtocolVersion;
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, RunningService, serve_client_with_lifecycle_and_ct,
};
use rmcp::transport::{Transport as RmcpTransport, TransportAdapterIdentity};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::changes::Handler;
use crate::error::Error;
use crate::evidence::Evidence;
use crate::filter::Filter;
use crate::http;
use crate::stdio::Stdio;
use crate::transport::Transport;

/// A server that has said nothing for this long (or half the time given) does not know discovery.
const SILENCE: Duration = Duration::from_secs(9);

/// A session that came about.
pub(crate) struct Session {
    pub(crate) running: RunningService<RoleClient, Handler>,
    pub(crate) changes: watch::Sender<u64>,
    /// Cancelled by us alone; the session has a child of it, cancelled at its end however that comes.
    pub(crate) stop: CancellationToken,
    pub(crate) evidence: Arc<Evidence>,
}

/// Why an attempt failed, and whether the old handshake on a new connection may do better.
struct Failure {
    error: Error,
    again: bool,
}

impl Failure {
    fn last(error: Error) -> Self {
        Self { error, again: false }
    }

    fn maybe(error: Error) -> Self {
        Self { error, again: true }
    }
}

type Served = Result<RunningService<RoleClient, Handler>, ClientInitializeError>;

/// Connects within the time given. An HTTP server's certificate may come from `authorities` as well as from those that
/// the system trusts.
pub(crate) async fn connect(
    transport: &Transport,
    authorities: &Authorities,
    limit: Duration,
) -> Result<Session, Error> {
    let start = Instant::now();
    let patience = Patience { limit, deadline: start + limit, silence: Some(start + SILENCE.min(limit / 2)) };
    let discover = ClientLifecycleMode::Auto {
        preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
    };
    match attempt(transport, authorities, discover, &patience).await {
        Err(Failure { again: true, error }) => {
            tracing::debug!(mcp.server = %transport, %error, "mcp discovery failed, trying initialize");
            let patience = Patience { silence: None, ..patience };
            attempt(transport, authorities, ClientLifecycleMode::Initialize, &patience).await
        }
        result => result,
    }
    .map_err(|failure| failure.error)
}

/// How long to wait for what.
struct Patience {
    limit: Duration,
    deadline: Instant,
    /// When a server that has said nothing is given up.
    silence: Option<Instant>,
}

async fn attempt(
    transport: &Transport,
    authorities: &Authorities,
    mode: ClientLifecycleMode,
    patience: &Patience,
) -> Result<Session, Failure> {
    let evidence = Arc::new(Evidence::new(transport));
    let stop = CancellationToken::new();
    let (changes, _) = watch::channel(0);
    let handler = Handler::new(changes.clone());
    let way = (transport, authorities);
    let served = serve(way, handler, mode, stop.child_token(), evidence.clone())?;
    let running = tokio::select! {
        served = served => served.map_err(|error| explain(error, transport, &evidence))?,
        () = sleep_until(patience.deadline) => return Err(Failure::last(too_slow(patience, &evidence))),
        () = silent(patience, &evidence) => return Err(Failure::maybe(too_slow(patience, &evidence))),
    };
    check_version(&running)?;
    Ok(Session { running, changes, stop, evidence })
}

/// Starts the transport and the handshake on it; dropping the future ends both.
fn serve(
    (transport, authorities): (&Transport, &Authorities),
    handler: Handler,
    mode: ClientLifecycleMode,
    stop: CancellationToken,
    evidence: Arc<Evidence>,
) -> Result<BoxFuture<'static, Served>, Failure> {
    fn on<T: RmcpTransport<RoleClient> + 'static>(
        transport: Filter<T>,
        handler: Handler,
        mode: ClientLifecycleMode,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Served> {
        Box::pin(serve_client_with_lifecycle_and_ct::<_, _, T::Error, TransportAdapterIdentity>(
            handler, transport, mode, stop,
        ))
    }
    match transport {
        Transport::Stdio { command, args, env } => {
            let child = Stdio::spawn(command, args, env, evidence.clone()).map_err(|error| {
                Failure::last(Error::Start { command: command.clone(), reason: error.to_string() })
            })?;
            Ok(on(Filter::new(child, evidence), handler, mode, stop))
        }
        Transport::Http { url, headers } => {
            let client = http::open(url, headers, authorities, evidence.clone())
                .map_err(|reason| Failure::last(Error::Connect { address: transport.to_string(), reason }))?;
            Ok(on(Filter::new(client, evidence), handler, mode, stop))
        }
    }
}

/// Resolves when a server that has said nothing so far is to be given up.
async fn silent(patience: &Patience, evidence: &Evidence) {
    match patience.silence {
        Some(silence) => sleep_until(silence).await,
        None => std::future::pending().await,
    }
    if evidence.was_heard() {
        std::future::pending::<()>().await;
    }
}

fn too_slow(patience: &Patience, evidence: &Evidence) -> Error {
    match evidence.first_noise() {
        Some(noise) if !evidence.was_heard() => {
            Error::handshake(&format!("its standard output is not MCP: {noise:?}"))
        }
        _ => Error::Timeout { what: "connecting to the MCP server", after: patience.limit, sent: false },
    }
}

/// A server may answer with a version of its own choice; one we do not know ends the matter.
fn check_version(running: &RunningService<RoleClient, Handler>) -> Result<(), Failure> {
    let version = running.peer_info().map(|server| server.protocol_version.clone());
    match version {
        Some(version) if ProtocolVersion::KNOWN_VERSIONS.contains(&version) => Ok(()),
        Some(version) => {
            let reason = format!("it speaks protocol version {version}, which this client does not know");
            Err(Failure::last(Error::handshake(&reason)))
        }
        None => Err(Failure::last(Error::handshake("it did not introduce itself"))),
    }
}

fn explain(error: ClientInitializeError, transport: &Transport, evidence: &Evidence) -> Failure {
    if evidence.oversized_count() > 0 {
        return Failure::last(Evidence::too_large());
    }
    match error {
        ClientInitializeError::TransportError { error, .. } => {
            lost(Some(error.error.as_ref()), transport, evidence)
        }
        ClientInitializeError::ConnectionClosed(_) => lost(None, transport, evidence),
        ClientInitializeError::LegacyFallbackFailed { fallback, .. } => {
            Failure::last(explain(*fallback, transport, evidence).error)
        }
        ClientInitializeError::JsonRpcError(error) => {
            Failure::maybe(Error::handshake(&format!("error {}: {}", error.code.0, error.message)))
        }
        ClientInitializeError::NoCompatibleProtocolVersion { server_supported, .. } => Failure::maybe(
            Error::handshake(&format!("it speaks only protocol versions {server_supported:?}")),
        ),
        ClientInitializeError::Cancelled => Failure::last(Error::closed("it was closed by this client")),
        _ => Failure::maybe(Error::handshake("the answer was not the one to the question")),
    }
}

/// The connection broke during the handshake.
fn lost(
    cause: Option<&(dyn std::error::Error + Send + Sync + 'static)>,
    transport: &Transport,
    evidence: &Evidence,
) -> Failure {
    if let Transport::Stdio { command, .. } = transport {
        return Failure::maybe(Error::Start { command: command.clone(), reason: evidence.ending() });
    }
    let error = cause.and_then(|cause| http::describe(cause, &transport.to_string()));
    match error.unwrap_or_else(|| Error::handshake("the connection was closed")) {
        error @ (Error::Connect { .. }
        | Error::Certificate(_)
        | Error::Http { status: 401 | 403, .. }
        | Error::TooLarge { .. }) => Failure::last(error),
        error => Failure::maybe(error),
    }
}
