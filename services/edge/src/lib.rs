//! The edge: the one address that the outside calls.
//!
//! `forward.rs` is the story: take a permit, route, read the message, authenticate, count, strip, mint, pass on, watch
//! over what is streamed back. It never decodes a message, so it knows no request or response type but those of
//! authentication; `authzen.rs`, which asks for decisions in another form, knows those of `Explain`.

mod admit;
mod arrive;
mod authenticate;
mod authzen;
mod config;
mod forward;
mod guesses;
mod places;
mod strangers;
mod streams;
#[cfg(test)]
mod tests;

use std::{convert::Infallible, sync::Arc};

use http::{HeaderName, HeaderValue, Method, Request};
use limit::Limiter;
use rpc::{Link, Observer, Outgoing, TokenKey};
use tokio::sync::Semaphore;
use tonic::body::Body;
use tower::{Layer, ServiceExt, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

pub use config::Config;

/// Where the edge sends calls.
#[derive(Debug, Clone)]
pub struct Parts {
    /// The registry service.
    pub registry: Link,
    /// The selector service.
    pub selector: Link,
    /// The executor service.
    pub executor: Link,
    /// The permissions service; it also says who a key belongs to.
    pub permissions: Link,
    /// The audit service.
    pub audit: Link,
    /// Signs caller tokens.
    pub key: TokenKey,
    /// Counts the calls of each API key.
    pub limiter: Limiter,
}

/// The edge as a link to serve: gRPC, and gRPC-Web with CORS for browsers.
pub fn start(config: &Config, parts: Parts) -> Link {
    let outgoing = Outgoing::new("edge", parts.key.clone());
    let strangers = strangers::Strangers::new(config.unauthenticated_per_minute);
    let places = places::Places::new(config);
    let asked = parts.permissions.clone();
    let authenticator = authenticate::Authenticator::new(asked, outgoing, strangers, places.clone());
    let gate = admit::Gate::new(config, parts.limiter.clone());
    let (observer, permits) = (Observer::new(), Semaphore::new(config.max_concurrent_requests));
    let (public_url, is_tls) = (config.public_url.clone(), config.tls.is_set());
    let forwarder =
        forward::Forwarder { authenticator, gate, parts, observer, permits, places, public_url, is_tls };
    let forwarder = Arc::new(forwarder);
    let plain = Arc::clone(&forwarder);
    let service = service_fn(move |request: Request<Body>| {
        let forwarder = Arc::clone(&forwarder);
        async move { Ok::<_, Infallible>(forwarder.observe(request).await) }
    });
    let web = tonic_web::GrpcWebLayer::new().layer(service);
    // What gRPC-Web does not know it refuses: the API that is plain HTTP goes past it.
    let service = service_fn(move |request: Request<Body>| {
        let (plain, web) = (Arc::clone(&plain), web.clone());
        async move {
            if authzen::is_path(request.uri().path()) {
                return Ok::<_, Infallible>(plain.observe_authzen(request).await);
            }
            Ok(web.oneshot(request).await?.map(Body::new))
        }
    });
    rpc::local(
        tower::ServiceBuilder::new()
            .map_response(|r: http::Response<_>| r.map(Body::new))
            .service(cors(config).layer(service)),
    )
}

/// Browsers of the configured origins may call; without any, none may.
fn cors(config: &Config) -> CorsLayer {
    let origins: Vec<HeaderValue> =
        config.cors_origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let exposed = ["grpc-status", "grpc-message", "grpc-status-details-bin"].map(HeaderName::from_static);
    let allowed = [
        "authorization",
        "content-type",
        "grpc-timeout",
        authenticate::USER_HEADER,
        "traceparent",
        "x-grpc-web",
        "x-user-agent",
    ];
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_headers(allowed.map(HeaderName::from_static))
        .expose_headers(exposed.into_iter().chain(admit::FIELDS).collect::<Vec<_>>())
}
