//! The catalog as a service that does not own it sees it: a snapshot in memory, fed by
//! `registry.WatchTools`, so that no call needs an RPC to know its tool.
//!
//! It is a copy and may lag by milliseconds: a tool that is not here must be asked for at the registry
//! before it is said not to exist. A watch that was lost goes on where it ended; once in a while everything is
//! read again all the same, so that no fault of ours stays for ever.

mod snapshot;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use proto::registry::v1::{
    Tool, WatchToolsRequest, WatchToolsResponse, registry_service_client::RegistryServiceClient,
    watch_tools_response::Event,
};
use rpc::{Link, Outgoing};
use tokio::{sync::watch, time::Instant};
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

use snapshot::{Position, Snapshot};

/// How long to wait before the registry is asked again.
const RECONNECT: Duration = Duration::from_millis(250);
/// Without a change or a heartbeat for this long, the watch is taken for dead. The registry sends a
/// heartbeat at least every 10 s.
const SILENCE: Duration = Duration::from_secs(30);

/// The newest version of each tool of a team, by name.
pub type TeamTools = BTreeMap<String, Arc<Tool>>;

/// A snapshot of every team's tools, kept up to date. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    teams: Arc<RwLock<HashMap<String, Arc<TeamTools>>>>,
    loaded: watch::Receiver<bool>,
    /// Everything is read again after this time.
    ttl: Duration,
}

impl Catalog {
    /// An empty catalog and the future that feeds it until told to stop. Everything is read again after `ttl`.
    pub fn new(
        registry: Link,
        outgoing: Outgoing,
        ttl: Duration,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, loaded) = watch::channel(false);
        let catalog = Self { teams: Arc::default(), loaded, ttl };
        let feed = catalog.clone().feed(registry, outgoing, sender, stop);
        (catalog, feed)
    }

    /// One that nothing feeds: what it is given is all there is.
    pub fn unfed() -> Self {
        let (_, loaded) = watch::channel(true);
        Self { teams: Arc::default(), loaded, ttl: Duration::MAX }
    }

    /// The tools of one team.
    pub fn team(&self, team: &str) -> Arc<TeamTools> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
    }

    /// Every team that has tools, and its tools: the same snapshot for as long as nothing of the team changes.
    pub fn teams(&self) -> Vec<(String, Arc<TeamTools>)> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.iter().map(|(team, tools)| (team.clone(), Arc::clone(tools))).collect()
    }

    /// One tool, by name or by the id of its newest version.
    pub fn find(&self, team: &str, name_or_id: &str) -> Option<Arc<Tool>> {
        let tools = self.team(team);
        tools.get(name_or_id).or_else(|| tools.values().find(|tool| tool.id == name_or_id)).cloned()
    }

    /// Takes a tool, unless a later revision of it is here already.
    pub fn upsert(&self, tool: Tool) {
        let Some(name) = tool.definition.as_ref().map(|definition| definition.name.clone()) else { return };
        let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
        let tools = Arc::make_mut(teams.entry(tool.team_id.clone()).or_default());
        if tools.get(&name).is_none_or(|known| known.revision <= tool.revision) {
            tools.insert(name, Arc::new(tool));
        }
    }

    /// Whether a whole snapshot is here: before that, a tool that is missing may well exist.
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Waits until a whole snapshot is here; `false` when it is not within this time.
    pub async fn wait_until_loaded(&self, time: Duration) -> bool {
        let mut loaded = self.loaded.clone();
        matches!(tokio::time::timeout(time, loaded.wait_for(|loaded| *loaded)).await, Ok(Ok(_)))
    }

    async fn feed(
        self,
        registry: Link,
        outgoing: Outgoing,
        loaded: watch::Sender<bool>,
        stop: CancellationToken,
    ) {
        let mut client = RegistryServiceClient::new(registry).max_decoding_message_size(usize::MAX);
        let mut position = Position::default();
        while !stop.is_cancelled() {
            let watched = tokio::select! {
                watched = self.watch(&mut client, &outgoing, &loaded, &mut position) => watched,
                () = stop.cancelled() => return,
            };
            if let Err(status) = watched {
                tracing::warn!(code = ?status.code(), "catalog watch ended: {}; it is taken up again", status.message());
            }
            tokio::select! {
                () = tokio::time::sleep(RECONNECT) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn watch(
        &self,
        client: &mut RegistryServiceClient<Link>,
        outgoing: &Outgoing,
        loaded: &watch::Sender<bool>,
        position: &mut Position,
    ) -> Result<(), tonic::Status> {
        let from_revision = position.from(Instant::now());
        let request = outgoing.own_request(Duration::from_secs(30), WatchToolsRequest { from_revision });
        let mut events = client.watch_tools(request).await?.into_inner();
        let mut snapshot = Some(Snapshot::new(from_revision, position.revision));
        loop {
            let next = tokio::time::timeout(SILENCE, events.next());
            let event = tokio::select! {
                event = next => event,
                // Over now, so that the next one reads everything again.
                () = position.is_old() => return Ok(()),
            };
            match event {
                Ok(Some(event)) => self.apply(event?, &mut snapshot, position, loaded),
                Ok(None) => return Ok(()),
                Err(_) => return Err(tonic::Status::unavailable("the registry fell silent")),
            }
        }
    }

    /// Takes one step of a watch. What belongs to the snapshot is gathered first: only its end tells whether it
    /// adds to what is here or stands in its place.
    fn apply(
        &self,
        response: WatchToolsResponse,
        snapshot: &mut Option<Snapshot>,
        position: &mut Position,
        loaded: &watch::Sender<bool>,
    ) {
        match (response.event, snapshot.as_mut()) {
            (Some(Event::Upserted(tool)), Some(snapshot)) => snapshot.tools.push(tool),
            (Some(Event::Upserted(tool)), None) => self.upsert(tool),
            (Some(Event::SnapshotEnd(end)), Some(_)) => {
                let Some(snapshot) = snapshot.take() else { return };
                let is_whole = snapshot.is_whole(response.revision);
                tracing::info!(catalog.tools = end.tool_count, catalog.whole = is_whole, "catalog loaded");
                if is_whole {
                    position.reload_at = Some(Instant::now() + self.ttl);
                    let mut teams = self.teams.write().unwrap_or_else(PoisonError::into_inner);
                    *teams = snapshot.replace(std::mem::take(&mut *teams), response.revision);
                } else {
                    snapshot.tools.into_iter().for_each(|tool| self.upsert(tool));
                }
                loaded.send_replace(true);
            }
            (Some(Event::SnapshotEnd(_) | Event::Heartbeat(_)) | None, _) => {}
        }
        if snapshot.is_none() {
            position.revision = response.revision;
        }
    }
}

#[cfg(test)]
mod tests;
