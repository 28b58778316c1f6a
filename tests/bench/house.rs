//! One process of a toolcrib under measurement: the real wiring of the node, with an executor whose calls may also end
//! at a rung of the ladder. A call without the header `rung` takes the real way.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use executor::measure::{self, Ladder, Rung};
use futures_util::future::BoxFuture;
use node::{
    config::{Role, Roles, Settings},
    wire::{self, Node},
};
use rpc::{Link, Outgoing, StackOptions, TokenKey};
use tokio::sync::watch;
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, ServiceExt, service_fn, util::BoxCloneSyncService};
use types::{Caller, Role as CallerRole};

use crate::execute::Execute;

/// Says at which rung a call ends, by its index.
pub const RUNG_HEADER: &str = "rung";

/// A running process.
pub struct House {
    /// Where its roles listen.
    pub addresses: BTreeMap<Role, SocketAddr>,
    /// The edge of an all-in-one process, to be called without a socket.
    pub edge: Option<Link>,
    /// The driver alone, served by tonic alone, for this team; and the same to be called without a socket.
    pub driver: Option<(SocketAddr, Link)>,
    /// The permissions service, and what makes requests to it.
    pub permissions: Option<(Link, Outgoing)>,
    /// Whether events may leave the outbox.
    pub relays: watch::Sender<bool>,
    node: Node,
}

/// The parts of an executor, and what was made of them.
struct Inside {
    parts: executor::Parts,
    routes: Routes,
    ladder: Ladder,
}

impl House {
    /// Starts these roles.
    pub async fn start(settings: &Settings, roles: &Roles, team: &str) -> Self {
        let (relays, may_relay) = watch::channel(true);
        let mut inside = None;
        let node = wire::start_with(settings, roles, |config, parts| {
            let gated = executor::Parts {
                audit: gate(parts.audit.clone(), may_relay.clone()),
                selector: gate(parts.selector.clone(), may_relay),
                ..parts.clone()
            };
            let (routes, ladder) = measure::start(config, gated)?;
            let routes = with_rungs(routes, ladder.clone());
            inside = Some(Inside { parts, routes: routes.clone(), ladder });
            Ok(routes)
        });
        let node = node.await.expect("the node starts");
        let (mut edge, mut driver, mut permissions) = (None, None, None);
        if let Some(inside) = inside.filter(|_| roles.is_all()) {
            let bare = driver_alone(inside.ladder.clone(), team);
            driver = Some((bare.clone().serve().await, rpc::local(bare)));
            permissions = Some((inside.parts.permissions.clone(), inside.parts.outgoing.clone()));
            edge = Some(edge_of(settings, inside));
        }
        Self { addresses: node.addresses.clone(), edge, driver, permissions, relays, node }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.relays.send_replace(true);
        self.node.stop(std::time::Duration::from_secs(10)).await;
    }
}

/// The edge over an executor of this process, as the node makes it.
fn edge_of(settings: &Settings, inside: Inside) -> Link {
    let Inside { parts, routes, .. } = inside;
    let key = TokenKey::new(settings.security.caller_token_key.as_ref().expect("a checked setting"));
    let max_concurrent_requests = settings.server.max_concurrent_requests;
    let executor = rpc::stack(routes, StackOptions { key: key.clone(), max_concurrent_requests });
    let executor::Parts { registry, selector, permissions, audit, limiter, .. } = parts;
    edge::start(
        &settings.edge,
        edge::Parts { registry, selector, executor, permissions, audit, key, limiter },
    )
}

/// The driver for a caller of this team, without edge, stack or records.
fn driver_alone(ladder: Ladder, team: &str) -> Execute {
    let caller = Caller { team: team.to_owned(), role: CallerRole::Agent, ..Caller::service("bench") };
    let caller = Arc::new(Caller { service: None, ..caller });
    Execute::new(move |request| {
        let (ladder, caller) = (ladder.clone(), Arc::clone(&caller));
        Box::pin(async move { ladder.execute(Rung::Driver, request, Some(&caller)).await })
    })
}

/// A link that passes nothing on while it is closed.
fn gate(link: Link, open: watch::Receiver<bool>) -> Link {
    BoxCloneSyncService::new(service_fn(move |request: http::Request<Body>| {
        let (link, mut open) = (link.clone(), open.clone());
        async move {
            // Fails when the house is gone, and then nothing is to be passed on.
            open.wait_for(|open| *open).await.map_err(|_| Status::unavailable("closed"))?;
            link.oneshot(request).await
        }
    }))
}

/// The routes, and the ladder for calls that name a rung.
fn with_rungs(routes: Routes, ladder: Ladder) -> Routes {
    let ladder = Execute::new(move |request| {
        let ladder = ladder.clone();
        Box::pin(async move {
            let index =
                request.metadata().get(RUNG_HEADER).and_then(|index| index.to_str().ok()?.parse().ok());
            let rung = index.and_then(|index: usize| Rung::ALL.get(index).copied());
            let rung = rung.ok_or_else(|| Status::invalid_argument("no rung has this index"))?;
            ladder.execute(rung, request, None).await
        })
    });
    let router = routes.into_axum_router();
    Routes::from(router.layer(tower::layer::layer_fn(move |whole| Fork { whole, ladder: ladder.clone() })))
}

/// Two ways to answer a call.
#[derive(Clone)]
struct Fork<S> {
    whole: S,
    ladder: Execute,
}

type AxumRequest = http::Request<axum::body::Body>;
type AxumResponse = http::Response<axum::body::Body>;

impl<S> Service<AxumRequest> for Fork<S>
where
    S: Service<AxumRequest, Response = AxumResponse> + Send,
    S::Future: Send + 'static,
{
    type Response = AxumResponse;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<AxumResponse, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.whole.poll_ready(context)
    }

    fn call(&mut self, request: AxumRequest) -> Self::Future {
        if !request.headers().contains_key(RUNG_HEADER) {
            return Box::pin(self.whole.call(request));
        }
        let answer = self.ladder.call(request.map(Body::new));
        Box::pin(async move {
            match answer.await {
                Ok(answer) => Ok(answer.map(axum::body::Body::new)),
                Err(never) => match never {},
            }
        })
    }
}
