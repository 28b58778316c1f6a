//! Serves a link on a socket, with health and both reflection versions beside it.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::net::TcpListener;
use tonic::{
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::{ServiceExt, service_fn};

use crate::{Link, Tls, secured};

/// A port that is held but not served yet: ports are bound first, so that a taken one stops the start.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    tls: Option<Tls>,
    /// The address, with the real port where 0 was asked for.
    pub address: SocketAddr,
}

impl Bound {
    /// The same, for connections that are secured in this way.
    #[must_use]
    pub fn secured(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }
}

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port cannot be had.
    #[error("cannot listen on {address}: {source}; stop what holds it or configure another")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The server failed.
    #[error("serving failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors cannot be served.
    #[error("reflection failed: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// How a socket is served.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Whether HTTP/1.1 is taken too, as gRPC-Web needs.
    pub accept_http1: bool,
    /// After this age a connection is closed gracefully, so that clients spread over new replicas.
    pub max_connection_age: Duration,
}

/// Sets what the health service says.
#[derive(Clone)]
pub struct Readiness(HealthReporter);

impl Readiness {
    /// A reporter and its service, which starts as not serving.
    fn pair() -> (Self, Routes) {
        let (reporter, service) = tonic_health::server::health_reporter();
        (Self(reporter), Routes::new(service))
    }

    /// Says of a service, or of all with the empty name, whether it serves.
    pub async fn set(&self, service: &str, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(service, status).await;
    }
}

/// Takes a port.
pub async fn bind(address: SocketAddr) -> Result<Bound, ServeError> {
    let listener = TcpListener::bind(address).await.map_err(|source| ServeError::Bind { address, source })?;
    let address = listener.local_addr().map_err(|source| ServeError::Bind { address, source })?;
    Ok(Bound { listener, tls: None, address })
}

/// Serves a link until `shutdown` resolves and every call under way has ended. Gives the readiness to
/// set and the future to run. Health and reflection need no caller.
pub fn serve<F>(
    bound: Bound,
    link: Link,
    options: &ServerOptions,
    shutdown: F,
) -> Result<(Readiness, impl Future<Output = Result<(), ServeError>> + use<F>), ServeError>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (readiness, health) = Readiness::pair();
    let routes = health.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?);
    let fallback = service_fn(move |request: http::Request<axum::body::Body>| {
        let link = link.clone();
        let answer = link.oneshot(request.map(tonic::body::Body::new));
        answer.map(|answer| Ok::<_, Infallible>(answer.unwrap_or_else(crate::error_response)))
    });
    let router = routes.prepare().into_axum_router().fallback_service(fallback);
    let server = Server::builder()
        .accept_http1(options.accept_http1)
        .max_concurrent_streams(1_024)
        .max_connection_age(options.max_connection_age)
        .max_connection_age_grace(Duration::from_secs(330))
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_routes(Routes::from(router));
    let server: BoxFuture<'static, Result<(), tonic::transport::Error>> = match bound.tls {
        None => {
            let incoming = TcpIncoming::from(bound.listener).with_nodelay(Some(true));
            server.serve_with_incoming_shutdown(incoming, shutdown).boxed()
        }
        Some(tls) => {
            server.serve_with_incoming_shutdown(secured::incoming(bound.listener, tls), shutdown).boxed()
        }
    };
    Ok((readiness, async move { Ok(server.await?) }))
}

/// Serves health and nothing else, until `shutdown` resolves.
pub fn serve_health<F>(
    bound: Bound,
    shutdown: F,
) -> (Readiness, impl Future<Output = Result<(), ServeError>> + use<F>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let (readiness, health) = Readiness::pair();
    let incoming = TcpIncoming::from(bound.listener).with_nodelay(Some(true));
    let server = Server::builder().max_concurrent_streams(64).add_routes(health);
    let server = server.serve_with_incoming_shutdown(incoming, shutdown);
    (readiness, async move { Ok(server.await?) })
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .include_reflection_service(false)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}
