//! The catalog as a service that does not own it sees it: a snapshot in memory, fed by
//! `registry.WatchTools`, so that no call needs an RPC to know its tool.
//!
//! It is a copy and may lag by milliseconds: a tool that is not here must be asked for at the registry
//! before it is said not to exist.

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
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_util::sync::CancellationToken;

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
}

impl Catalog {
    /// An empty catalog and the future that feeds it until told to stop.
    pub fn new(
        registry: Link,
        outgoing: Outgoing,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()>) {
        let (sender, loaded) = watch::channel(false);
        let catalog = Self { teams: Arc::default(), loaded };
        let feed = catalog.clone().feed(registry, outgoing, sender, stop);
        (catalog, feed)
    }

    /// The tools of one team.
    pub fn team(&self, team: &str) -> Arc<TeamTools> {
        let teams = self.teams.read().unwrap_or_else(PoisonError::into_inner);
        teams.get(team).cloned().unwrap_or_default()
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
        while !stop.is_cancelled() {
            let watched = tokio::select! {
                watched = self.watch(&mut client, &outgoing, &loaded) => watched,
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
    ) -> Result<(), tonic::Status> {
        let request = outgoing.own_request(Duration::from_secs(30), WatchToolsRequest::default());
        let mut events = client.watch_tools(request).await?.into_inner();
        loop {
            match tokio::time::timeout(SILENCE, events.next()).await {
                Ok(Some(event)) => self.apply(event?, loaded),
                Ok(None) => return Ok(()),
                Err(_) => return Err(tonic::Status::unavailable("the registry fell silent")),
            }
        }
    }

    fn apply(&self, response: WatchToolsResponse, loaded: &watch::Sender<bool>) {
        match response.event {
            Some(Event::Upserted(tool)) => self.upsert(tool),
            Some(Event::SnapshotEnd(end)) => {
                tracing::info!(catalog.tools = end.tool_count, "catalog loaded");
                loaded.send_replace(true);
            }
            Some(Event::Heartbeat(_)) | None => {}
        }
    }
}
