//! What the health service says of each service: NOT_SERVING while it cannot do its work.

use std::time::Duration;

use rpc::Readiness;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use crate::config::Role;

/// How often a peer is asked.
const INTERVAL: Duration = Duration::from_secs(2);
/// How long it may take.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A service of this process serves while its database is there and the process is not stopping.
pub(crate) async fn follow_database(
    readiness: Readiness,
    service: &'static str,
    mut up: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    loop {
        let is_up = *up.borrow_and_update();
        readiness.set(service, is_up).await;
        tokio::select! {
            changed = up.changed() => if changed.is_err() { return },
            () = stop.cancelled() => break,
        }
    }
    readiness.set(service, false).await;
}

/// A service of another process serves while that process says so.
pub(crate) async fn follow_peer(
    readiness: Readiness,
    service: &'static str,
    peer: Channel,
    stop: CancellationToken,
) {
    let mut client = HealthClient::new(peer);
    loop {
        let serves = is_serving(&mut client, service).await;
        readiness.set(service, serves).await;
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn is_serving(client: &mut HealthClient<Channel>, service: &str) -> bool {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = tokio::time::timeout(TIMEOUT, client.check(request)).await;
    answer.is_ok_and(|answer| {
        answer.is_ok_and(|answer| answer.into_inner().status == ServingStatus::Serving as i32)
    })
}

/// The services, under the names by which health is asked.
pub(crate) fn services() -> [(Role, &'static str); 5] {
    [
        (Role::Registry, registry::SERVICE),
        (Role::Selector, selector::SERVICE),
        (Role::Executor, executor::SERVICE),
        (Role::Permissions, permissions::SERVICE),
        (Role::Audit, audit::SERVICE),
    ]
}
