//! A connection to a gRPC server, over TLS or plain HTTP/2. Its address is checked as it is written and as it is
//! resolved; the name is resolved once a connection, and the checked address is what is connected to. Must never
//! connect anywhere else.

use std::{fmt, io, net::IpAddr, time::Duration};

use http::{HeaderMap, Uri};
use hyper_util::rt::TokioIo;
use reach::Guard;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use url::{Host, Url};

use crate::{
    Error, Unreached,
    tls::{Fault, Socket, Tls},
};

/// Longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest wait for one of several addresses of a name.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);
/// Most addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;
/// Bytes that a server may send ahead on one call, and on all calls of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Most bytes of a server's metadata.
const MAX_HEADER_BYTES: u32 = 64 * 1024;
const USER_AGENT: &str = concat!("toolcrib/", env!("CARGO_PKG_VERSION"));
/// Entries that the connection itself sets (gRPC over HTTP/2, "Requests"), besides those that begin with `grpc-`.
const RESERVED: [&str; 10] = [
    "host",
    "te",
    "content-type",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "user-agent",
    "keep-alive",
    "proxy-connection",
];

/// What TLS needs beyond the authorities of the system. Has no `Debug` text of its own: it holds a key.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Certificate chain and private key, PEM, for mutual TLS.
    pub identity: Option<(String, String)>,
    /// Certificates of the authorities that the server's must come from, PEM; `None`: those of the system, and of
    /// the guard.
    pub authorities: Option<String>,
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("has_identity", &self.identity.is_some()).finish_non_exhaustive()
    }
}

/// Whether request metadata may have an entry of this name: lower case, and not set by the connection itself (gRPC
/// over HTTP/2, "Custom-Metadata").
pub fn is_metadata_name(name: &str) -> bool {
    let valid = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'.');
    !name.is_empty() && name.bytes().all(valid) && !name.starts_with("grpc-") && !RESERVED.contains(&name)
}

/// Reads the address of a server. The error says what is wrong with it.
pub fn address(endpoint: &str) -> Result<Url, String> {
    let url = Url::parse(endpoint).map_err(|error| {
        format!("is not an absolute address such as https://api.example.com:443: {error}")
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!(
            "has the scheme {:?}; https is taken, and http for HTTP/2 without TLS",
            url.scheme()
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("holds a user or password; a definition never holds a secret".to_owned());
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err("has a path, query or fragment; a gRPC server has host and port only".to_owned());
    }
    Ok(url)
}

/// A connection, made anew by the next call when it was lost. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) channel: Channel,
    /// What was wrong with a certificate since it stood.
    fault: Fault,
}

impl Connection {
    /// Connects within a time. Nothing of a call is sent before this returns.
    pub async fn open(
        endpoint: &str,
        guard: Guard,
        security: &Security,
        within: Duration,
    ) -> Result<Self, Error> {
        let url = address(endpoint).map_err(|wrong| Error::Address(format!("the address {wrong}")))?;
        guard.reach.check(&url)?;
        let bad = |error: &dyn std::error::Error| Error::Address(error.to_string());
        let origin: Uri = url.as_str().parse().map_err(|error: http::uri::InvalidUri| bad(&error))?;
        let (fault, tls) = (
            Fault::default(),
            match url.scheme() {
                "https" => {
                    let host = url.host_str().unwrap_or_default();
                    Some(Tls::new(host, security, &guard.authorities).map_err(Error::Security)?)
                }
                _ => None,
            },
        );
        // TLS is the connector's own: tonic would put its own over one to an https address.
        let plain = url.as_str().replacen("https://", "http://", 1);
        let builder = Endpoint::from_shared(plain)
            .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
            .map_err(|error| bad(&error))?
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_BYTES);
        let way = Way { url, guard, tls, fault: fault.clone() };
        let connector = tower::service_fn(move |_: Uri| connect(way.clone()));
        let connecting = tokio::time::timeout(within, builder.connect_with_connector(connector)).await;
        let channel = connecting.map_err(|_| Error::NotInTime)?.map_err(|error| {
            match Error::of_cause(&error) {
                // Whatever it is, no call was sent.
                Error::Broken(told) => Error::Unreachable(Unreached::Connection(told)),
                Error::Timeout => Error::NotInTime,
                other => other,
            }
        })?;
        Ok(Self { channel, fault })
    }

    /// What a failure is, where a certificate is behind it.
    pub(crate) fn explain(&self, error: Error) -> Error {
        match (error, self.fault.get()) {
            (Error::Unreachable(_) | Error::Broken(_), Some(fault)) => Error::Unreachable(fault.into()),
            (error, _) => error,
        }
    }
}

/// How a connection is made, and made anew.
#[derive(Clone)]
struct Way {
    url: Url,
    guard: Guard,
    tls: Option<Tls>,
    fault: Fault,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn connect(way: Way) -> Result<TokioIo<Socket>, Failed> {
    let stream = reached(&way).await?;
    Ok(TokioIo::new(match &way.tls {
        Some(tls) => tls.secure(stream, way.fault.clone()).await?,
        None => Socket::Plain(stream),
    }))
}

async fn reached(way: &Way) -> Result<TcpStream, Failed> {
    let port = way.url.port_or_known_default().unwrap_or(443);
    let addresses = match Host::parse(way.url.host_str().unwrap_or_default())? {
        // Checked when the address was read.
        Host::Ipv4(address) => vec![IpAddr::V4(address)],
        Host::Ipv6(address) => vec![IpAddr::V6(address)],
        Host::Domain(name) => way.guard.addresses(&name).await?,
    };
    let tried = addresses.len().clamp(1, MAX_ADDRESSES);
    let patience = (CONNECT_TIMEOUT / u32::try_from(tried).unwrap_or(1)).max(ADDRESS_TIMEOUT);
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.into_iter().take(MAX_ADDRESSES) {
        match tokio::time::timeout(patience, TcpStream::connect((address, port))).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => failure = error,
            Err(_) => {
                failure = io::Error::new(io::ErrorKind::TimedOut, "no answer to the connection request");
            }
        }
    }
    Err(failure.into())
}

/// Metadata as tonic takes it. What is no metadata is left out: it was checked where it was kept.
pub(crate) fn metadata(entries: &HeaderMap) -> tonic::metadata::MetadataMap {
    tonic::metadata::MetadataMap::from_headers(entries.clone())
}
