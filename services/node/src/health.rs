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

use crate::{
    config::{Role, Roles, Settings},
    wire::Parts,
};

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

/// Says whether checkpoints are signed and reach their second places.
pub(crate) async fn follow_checkpoints(
    readiness: Readiness,
    mut checkpoints: audit::CheckpointsWatch,
    stop: CancellationToken,
) {
    loop {
        let is_well = checkpoints.is_well();
        readiness.set(audit::CHECKPOINTS, is_well).await;
        tokio::select! {
            changed = checkpoints.changed() => if !changed { return },
            () = stop.cancelled() => break,
        }
    }
    readiness.set(audit::CHECKPOINTS, false).await;
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

/// What health says on this port: "" while the process lives, a service while it can serve.
pub(crate) async fn report(
    settings: &Settings,
    roles: &Roles,
    port: Role,
    readiness: Readiness,
    parts: &Parts,
) -> anyhow::Result<()> {
    readiness.set("", true).await;
    if port == Role::Audit || port == Role::Edge && roles.has(Role::Audit) {
        report_checkpoints(readiness.clone(), parts);
    } else if port == Role::Edge {
        let peer = rpc::channel(settings.peers.of(Role::Audit), parts.secured.processes.as_ref())?;
        let (readiness, stop) = (readiness.clone(), parts.stop.clone());
        parts.tasks.spawn(follow_peer(readiness, audit::CHECKPOINTS, peer, stop));
    }
    for (role, service) in services() {
        let readiness = readiness.clone();
        if roles.has(role) && (role == port || port == Role::Edge) {
            report_own(service, readiness, parts)?;
        } else if port == Role::Edge {
            let peer = rpc::channel(settings.peers.of(role), parts.secured.processes.as_ref())?;
            parts.tasks.spawn(follow_peer(readiness, service, peer, parts.stop.clone()));
        }
    }
    Ok(())
}

/// Checkpoints are signed and reach their second places, where audit runs in this process.
pub(crate) fn report_checkpoints(readiness: Readiness, parts: &Parts) {
    if let Some(checkpoints) = &parts.checkpoints {
        let (watch, stop) = (checkpoints.watch(), parts.stop.clone());
        parts.tasks.spawn(follow_checkpoints(readiness, watch, stop));
    }
}

/// A service of this process serves while its database is there.
pub(crate) fn report_own(service: &'static str, readiness: Readiness, parts: &Parts) -> anyhow::Result<()> {
    let up = parts.database()?.watch();
    parts.tasks.spawn(follow_database(readiness, service, up, parts.stop.clone()));
    Ok(())
}
