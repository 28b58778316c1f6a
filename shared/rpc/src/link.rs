//! A service to call, whether it runs in this process or another. The caller cannot tell.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use http::{Request, Response};
use tokio::sync::watch;
use tonic::{
    Status,
    body::Body,
    transport::{Channel, Endpoint, channel::Change},
};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use types::Kind;

use crate::{ErrorReason, Tls, deadline, lost, status_with_reason, tls::Material};

/// A service to call: give it to a generated client. A failure to reach it is a Status, such as UNAVAILABLE; a
/// connection that breaks once the request is sent is one too, whose reason is OUTCOME_UNKNOWN.
pub type Link = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// How long a connection attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a peer's name is looked up again: replicas come and go.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// A link to a service in this process.
pub fn local<S>(service: S) -> Link
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    BoxCloneSyncService::new(ServiceExt::<Request<Body>>::map_err(service, |never| match never {}))
}

/// Says where a link leads that was made by `later`.
#[derive(Debug, Clone, Default)]
pub struct Later(Arc<RwLock<Option<Link>>>);

impl Later {
    /// The service is there.
    pub fn is(&self, link: Link) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(link);
    }

    /// The process stops: two services that hold each other would keep their connections for ever.
    pub fn is_gone(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A link to the named service, which starts after the one that is given this: services that need each other. Until
/// it is there, it is unavailable.
pub fn later(service: &'static str) -> (Later, Link) {
    let later = Later::default();
    let known = later.clone();
    let call = move |request| {
        let link = known.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        async move {
            let message = format!("the {service} service is starting; try again");
            let missing = || status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, message);
            link.ok_or_else(missing)?.oneshot(request).await
        }
    };
    (later, BoxCloneSyncService::new(service_fn(call)))
}

/// A link to the named service elsewhere, such as `http://executor:7703`. Connects on first use. A host name
/// is looked up again and again, and calls are spread over all its addresses; an address is one peer.
/// Must be called inside a tokio runtime.
pub fn remote(service: &'static str, peer: &str) -> Result<Link, tonic::transport::Error> {
    Ok(over(service, channel(peer, None)?))
}

/// The same over TLS, to a peer such as `https://executor:7703`: both sides show a certificate.
pub fn remote_secured(service: &'static str, peer: &str, tls: &Tls) -> Result<Link, tonic::transport::Error> {
    Ok(over(service, channel(peer, Some(tls))?))
}

/// The connections under such a link. Must be called inside a tokio runtime.
pub fn channel(peer: &str, tls: Option<&Tls>) -> Result<Channel, tonic::transport::Error> {
    let endpoint = tune(Endpoint::from_shared(peer.to_owned())?);
    let uri = endpoint.uri().clone();
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    // A certificate is renewed under way, and so even one address is one of a changing set.
    let is_fixed = tls.is_none() && host.parse::<std::net::IpAddr>().is_ok();
    if is_fixed {
        return Ok(endpoint.connect_lazy());
    }
    if let Some(tls) = tls {
        // What is wrong with a certificate is told now, and not with each call.
        endpoint.tls_config(tls.client(&host))?;
    }
    let port = uri.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    Ok(balanced(host, port, tls.cloned()))
}

fn over(service: &'static str, channel: Channel) -> Link {
    BoxCloneSyncService::new(service_fn(move |request| call(service, channel.clone(), request)))
}

/// A call that ends in its time. tonic keeps the time only once there is a connection: a name without an
/// address would be waited for without end.
async fn call(
    service: &'static str,
    channel: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, Status> {
    let timeout = deadline::timeout_of(request.headers());
    let late = || {
        let message = format!("the {service} service did not answer within {timeout:?}");
        status_with_reason(Kind::Deadline, ErrorReason::DeadlineExceeded, message)
    };
    let answer = tokio::time::timeout(timeout, channel.oneshot(request)).await.map_err(|_| late())?;
    let answer = answer.map_err(|error| {
        // tonic's own clock strikes at the same time; a call that was made may not look like one that was not.
        if comes_from::<tonic::TimeoutExpired>(&error) {
            return late();
        }
        if !comes_from::<tonic::ConnectError>(&error) {
            tracing::warn!(rpc.service = service, %error, "a peer broke off before it answered");
            return lost::outcome_unknown(service);
        }
        tracing::warn!(rpc.service = service, %error, "a peer cannot be reached");
        let message = format!("the {service} service cannot be reached; try again");
        status_with_reason(Kind::Unavailable, ErrorReason::ServiceUnavailable, message)
    })?;
    Ok(lost::told(service, answer))
}

/// Whether an error of this type stands behind another.
fn comes_from<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error>::is::<E>)
}

fn tune(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(5))
        .keep_alive_while_idle(true)
}

/// A channel over every address of a name, kept up to date until the channel is dropped.
fn balanced(host: String, port: u16, tls: Option<Tls>) -> Channel {
    let (channel, changes) = Channel::balance_channel::<SocketAddr>(16);
    tokio::spawn(async move {
        let mut known: HashSet<SocketAddr> = HashSet::new();
        let mut renewals = tls.as_ref().map(Tls::renewals);
        let endpoint = |address: SocketAddr| endpoint(address, &host, tls.as_ref());
        loop {
            // A name that cannot be resolved now keeps the addresses it had.
            if let Ok(found) = tokio::net::lookup_host((host.as_str(), port)).await {
                let found: HashSet<SocketAddr> = found.collect();
                for change in differences(&known, &found, endpoint) {
                    if changes.send(change).await.is_err() {
                        return;
                    }
                }
                known = found;
            }
            tokio::select! {
                () = changes.closed() => return,
                () = renewed(renewals.as_mut()) => {
                    // New connections show the new certificate; calls under way end on the old ones.
                    for change in differences(&HashSet::new(), &known, endpoint) {
                        if changes.send(change).await.is_err() {
                            return;
                        }
                    }
                }
                () = tokio::time::sleep(RESOLVE_INTERVAL) => {}
            }
        }
    });
    channel
}

/// Resolves with the next renewal of certificates; never where there are none.
async fn renewed(renewals: Option<&mut watch::Receiver<Arc<Material>>>) {
    if let Some(renewals) = renewals {
        // The sender lives as long as the certificates, which the caller holds.
        if renewals.changed().await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

fn endpoint(address: SocketAddr, host: &str, tls: Option<&Tls>) -> Option<Endpoint> {
    let Some(tls) = tls else { return Endpoint::from_shared(format!("http://{address}")).ok().map(tune) };
    let endpoint = Endpoint::from_shared(format!("https://{address}")).ok()?.tls_config(tls.client(host));
    let endpoint = endpoint.inspect_err(|error| tracing::error!(%error, "a certificate cannot be used"));
    endpoint.ok().map(tune)
}

fn differences(
    known: &HashSet<SocketAddr>,
    found: &HashSet<SocketAddr>,
    endpoint: impl Fn(SocketAddr) -> Option<Endpoint>,
) -> Vec<Change<SocketAddr, Endpoint>> {
    let gone = known.difference(found).map(|address| Change::Remove(*address));
    let new = found.difference(known);
    let new = new.filter_map(|address| Some(Change::Insert(*address, endpoint(*address)?)));
    gone.chain(new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_waited_for_as_long_as_the_call_allows() {
        let link = remote("registry", "http://nowhere.invalid:1").unwrap();
        let request = Request::builder().header("grpc-timeout", "100m").body(Body::empty()).unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(10), link.oneshot(request)).await.unwrap();
        assert_eq!(answer.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
