//! One call through the edge: take a permit, route, read the message, authenticate, count, strip what only we may say,
//! say it, pass on.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Request, Response, header::AUTHORIZATION, request};
use rpc::{CALLER_HEADER, ErrorReason, Link, Observer};
use tokio::sync::Semaphore;
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};
use tower::ServiceExt;
use types::{Caller, Kind};

use crate::{
    Parts,
    admit::Gate,
    arrive::{self, Arrived},
    authenticate::{Authenticator, USER_HEADER},
    places::{Places, site},
    streams::Oversight,
};

/// Headers with this prefix are the suite's own; none is taken from outside.
const OWN_PREFIX: &str = "x-toolcrib-";

/// Passes calls on.
pub(crate) struct Forwarder {
    pub authenticator: Authenticator,
    pub gate: Gate,
    pub parts: Parts,
    pub observer: Observer,
    /// One for each call that may be under way.
    pub permits: Semaphore,
    /// How many of these one caller may have.
    pub places: Places,
    /// Where clients reach the edge; empty: wherever they say.
    pub public_url: String,
    /// Whether they reach it over TLS.
    pub is_tls: bool,
}

impl Forwarder {
    pub(crate) async fn observe(&self, request: Request<Body>) -> Response<Body> {
        self.observer.observe(request, |request| self.forward(request)).await
    }

    async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, Box<Status>> {
        let _permit = self.permits.try_acquire().map_err(|_| overloaded())?;
        let link = self.route(request.uri().path())?;
        let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
        let (parts, body) = request.into_parts();
        let message = arrive::whole(&self.places, site(peer), body).await?;
        // Only now: whoever calls is who they are when the call begins.
        let caller = self.authenticator.caller(&parts.headers, peer).await?;
        let pass = self.gate.check(&caller).await;
        let mut response = match pass.refusal.clone() {
            Some(refusal) => rpc::error_response(refusal),
            None => self.pass_on(link, &caller, peer, parts, message).await?,
        };
        pass.append_fields(response.headers_mut());
        Ok(response)
    }

    /// The service's answer, watched over where it is a stream; or the Status of a service that cannot be reached.
    async fn pass_on(
        &self,
        link: Link,
        caller: &Caller,
        peer: Option<SocketAddr>,
        mut request: request::Parts,
        message: Arrived,
    ) -> Result<Response<Body>, Box<Status>> {
        let _place = self.places.of_key(caller)?;
        let oversight = Oversight::of(&self.authenticator, &request, peer, caller);
        let token = self.parts.key.mint(caller).ok().and_then(|token| HeaderValue::try_from(token).ok());
        let token = token.ok_or_else(internal)?;
        strip(&mut request.headers);
        request.headers.insert(CALLER_HEADER, token);
        rpc::inject_headers(&mut request.headers);
        // The service counts it from here.
        drop(message.held);
        let answer = link.oneshot(Request::from_parts(request, message.body)).await;
        let answer = answer.unwrap_or_else(rpc::error_response);
        Ok(match oversight {
            Some(oversight) => oversight.over(answer),
            None => answer,
        })
    }

    /// The service of a path, such as `/toolcrib.audit.v1.AuditService/QueryTrail`.
    fn route(&self, path: &str) -> Result<Link, Box<Status>> {
        let unknown = || rpc::unknown_method(path);
        rpc::access_of(path).ok_or_else(unknown)?;
        let package = path.strip_prefix("/toolcrib.").and_then(|rest| rest.split('.').next());
        let link = match package.unwrap_or_default() {
            "registry" => &self.parts.registry,
            "selector" => &self.parts.selector,
            "executor" => &self.parts.executor,
            "permissions" => &self.parts.permissions,
            "audit" => &self.parts.audit,
            _ => return Err(unknown()),
        };
        Ok(link.clone())
    }
}

/// Takes out what a client may not say, and what goes no further than here: the key, and the user whom the caller token
/// names.
fn strip(headers: &mut HeaderMap) {
    let own: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(OWN_PREFIX)).cloned().collect();
    for name in own {
        headers.remove(name);
    }
    headers.remove(AUTHORIZATION);
    headers.remove("x-api-key");
    headers.remove(USER_HEADER);
}

pub(crate) fn overloaded() -> Box<Status> {
    let message = "the edge passes on as many calls as it may; try again";
    Box::new(rpc::status_with_reason(Kind::Unavailable, ErrorReason::Overloaded, message))
}

pub(crate) fn internal() -> Box<Status> {
    Box::new(rpc::status_with_reason(Kind::Internal, ErrorReason::Internal, "internal error"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_caller_and_the_key_do_not_pass() {
        let mut headers = HeaderMap::new();
        for name in
            [CALLER_HEADER, "x-toolcrib-anything", "authorization", "x-api-key", USER_HEADER, "grpc-timeout"]
        {
            headers.append(name, "x".parse().unwrap());
            headers.append(name, "y".parse().unwrap());
        }
        strip(&mut headers);
        assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["grpc-timeout"]);
    }
}
