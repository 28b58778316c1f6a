//! What the health service says of each service: NOT_SERVING while it cannot do its work.

use std::time::Duration;

use catalog::Catalog;
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

/// A service of this process serves while its database is there and the process is not stopping; one that needs a copy of
/// the catalog, once that is here.
pub(crate) async fn follow_database(
    readiness: Readiness,
    service: &'static str,
    mut up: watch::Receiver<bool>,
    catalog: Option<Catalog>,
    stop: CancellationToken,
) {
    if let Some(catalog) = catalog {
        readiness.set(service, false).await;
        tokio::select! {
            _ = catalog.wait_until_loaded(Duration::MAX) => {}
            () = stop.cancelled() => return,
        }
    }
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

/// A service of this process serves while its database is there, the selector once its tools are.
pub(crate) fn report_own(service: &'static str, readiness: Readiness, parts: &Parts) -> anyhow::Result<()> {
    let up = parts.database()?.watch();
    let catalog = parts.catalog.get().filter(|_| service == selector::SERVICE).cloned();
    parts.tasks.spawn(follow_database(readiness, service, up, catalog, parts.stop.clone()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_needs_the_catalog_serves_once_that_is_read() {
        let stop = CancellationToken::new();
        let bound = rpc::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = format!("http://{}", bound.address);
        let (readiness, server) = rpc::serve_health(bound, stop.clone().cancelled_owned());
        tokio::spawn(server);
        let key = rpc::TokenKey::new(&"a caller token key of enough bytes".into());
        let nowhere = rpc::remote("registry", "http://127.0.0.1:1").unwrap();
        // Its feed is held and never run.
        let (unread, _feed) =
            Catalog::new(nowhere, rpc::Outgoing::new("catalog", key), Duration::from_hours(1), stop.clone());
        let (_database, up) = watch::channel(true);
        for (service, catalog) in [("unread", unread), ("read", Catalog::unfed())] {
            let follow = follow_database(readiness.clone(), service, up.clone(), Some(catalog), stop.clone());
            tokio::spawn(follow);
        }
        let mut client = HealthClient::new(rpc::channel(&address, None).unwrap());
        while !is_serving(&mut client, "read").await {}
        let unread = client.check(HealthCheckRequest { service: "unread".to_owned() }).await.unwrap();
        assert_eq!(unread.into_inner().status, ServingStatus::NotServing as i32);
        stop.cancel();
    }
}
