//! Registers, lists, refreshes and removes MCP servers. Discovers none itself: the process that keeps a
//! server does, and this waits for its answer. Only to verify a server that is not kept yet is it asked from here.

use std::time::{Duration, Instant};

use ::rpc::FieldViolation;
use ::store::Database;
use tokio::sync::watch;
use types::Caller;

use crate::{
    Error, check, check_binding,
    credentials::Credentials,
    definition::CredentialUse,
    discover::Session,
    equip,
    normalise::clean,
    store::{self, Defaults, ServerRow, ServerState, ToolRow, Write},
    trail,
};

/// Longest name of a server.
const MAX_NAME: usize = 63;
/// Most tools that are told with a registration; `ListTools` has them all.
const MAX_TOOLS: i64 = 1_000;
/// Most bytes of them: a client takes 4 MiB in all.
const MAX_BYTES: usize = 3 * 1024 * 1024;
/// Longest reason why a server cannot be reached, in characters.
const MAX_REASON: usize = 500;
/// Time kept back for the answer itself.
const MARGIN: Duration = Duration::from_millis(250);
/// How often a server's row is read in case that news was lost.
const POLL: Duration = Duration::from_secs(1);

/// What the use cases need.
#[derive(Clone)]
pub(crate) struct Servers {
    pub database: Database,
    /// Rings when a server's row changed.
    pub bell: watch::Receiver<u64>,
    /// Programs that may be run.
    pub commands: mcp::Commands,
    /// What servers are reached with.
    pub credentials: Credentials,
    /// How long a server may take to be reached and listed.
    pub timeout: Duration,
    /// Share of answers from which a server is healthy.
    pub threshold: f64,
}

/// A server that is to be registered.
#[derive(Debug)]
pub(crate) struct NewServer {
    pub name: String,
    pub transport: Option<mcp::Transport>,
    pub credentials: Vec<CredentialUse>,
    pub defaults: Defaults,
    /// Whether it is refused when it does not answer.
    pub verify: bool,
}

impl Servers {
    /// Registers a server and waits for its first discovery, as long as the caller does. The same again is
    /// discovered again.
    pub(crate) async fn register(
        &self,
        caller: &Caller,
        new: NewServer,
        time_left: Duration,
    ) -> Result<(ServerRow, Vec<ToolRow>), Error> {
        let (transport, team) = (Self::check(&new)?, caller.team.as_str());
        self.commands.check(&equip::outline(&transport, &new.credentials))?;
        for used in &new.credentials {
            self.credentials.find(team, &used.credential).await?;
        }
        let pool = self.database.pool()?;
        if new.verify && store::server_find(pool, team, &new.name).await?.is_none() {
            self.verify(team, &new, &transport, time_left).await?;
        }
        let told = trail::changed(caller, format!("MCP server {} was registered, at {transport}", new.name));
        let (defaults, credentials) = (&new.defaults, &new.credentials);
        let server =
            if store::server_insert(pool, team, &new.name, &transport, defaults, credentials, &told).await? {
                self.wait(team, &new.name, time_left, |server| {
                    server.refresh_done > 0 || server.state == ServerState::Unavailable
                })
                .await?
            } else {
                let known = self.find(team, &new.name).await?;
                if known.transport.0 != transport
                    || known.defaults.0 != new.defaults
                    || known.credentials.0 != new.credentials
                {
                    return Err(Error::ServerExists(new.name));
                }
                let server = self.refresh(team, &new.name, time_left).await?;
                if new.verify && server.state == ServerState::Unavailable {
                    return Err(Error::Unreachable { name: new.name, reason: server.last_error });
                }
                server
            };
        let mut tools = store::tool_list_of_server(pool, team, &new.name, MAX_TOOLS).await?;
        tools.truncate(fitting(&tools));
        Ok((server, tools))
    }

    /// Reaches and lists a server that is not kept yet, over a connection that then ends.
    async fn verify(
        &self,
        team: &str,
        new: &NewServer,
        transport: &mcp::Transport,
        time_left: Duration,
    ) -> Result<(), Error> {
        let limit = self.timeout.min(time_left.saturating_sub(MARGIN));
        let equipped = equip::equip(&self.credentials, team, transport, &new.credentials).await?;
        let listed = async {
            let mut session =
                Session::open(&equipped.transport, self.credentials.authorities(), limit).await?;
            let listed = session.list(limit).await;
            session.close().await;
            listed
        };
        listed.await.map(drop).map_err(|error| Error::Unreachable {
            name: new.name.clone(),
            reason: clean(&equipped.scrub(&error.to_string()), MAX_REASON),
        })
    }

    /// The servers of a team.
    pub(crate) async fn list(&self, team: &str) -> Result<Vec<ServerRow>, Error> {
        Ok(store::server_list(self.database.pool()?, team).await?)
    }

    /// Has a server discovered now, and waits for it as long as the caller does.
    pub(crate) async fn refresh(
        &self,
        team: &str,
        name: &str,
        time_left: Duration,
    ) -> Result<ServerRow, Error> {
        let wanted = store::server_refresh(self.database.pool()?, team, name).await?;
        let wanted = wanted.ok_or_else(|| Error::ServerNotFound(name.to_owned()))?;
        self.wait(team, name, time_left, |server| server.refresh_done >= wanted).await
    }

    /// Removes a server, disables its tools, and gives how many could be called until now.
    pub(crate) async fn remove(&self, caller: &Caller, name: &str) -> Result<usize, Error> {
        let team = caller.team.as_str();
        let mut write = Write::begin(self.database.pool()?).await?;
        if !store::server_delete(&mut write, team, name).await? {
            return Err(Error::ServerNotFound(name.to_owned()));
        }
        let gone = store::tool_withdraw(&mut write, team, name, &[]).await?;
        write.tell(trail::changed(caller, format!("MCP server {name} was removed")));
        for tool in &gone {
            let told = format!("it was withdrawn: its MCP server {name} was removed");
            write.tell(trail::tool(caller, tool.named(), told));
        }
        write.commit().await?;
        Ok(gone.iter().filter(|tool| tool.was_callable).count())
    }

    async fn find(&self, team: &str, name: &str) -> Result<ServerRow, Error> {
        let found = store::server_find(self.database.pool()?, team, name).await?;
        found.ok_or_else(|| Error::ServerNotFound(name.to_owned()))
    }

    /// The server once it is as wanted, or as it is when the time is over.
    async fn wait(
        &self,
        team: &str,
        name: &str,
        time_left: Duration,
        is_done: impl Fn(&ServerRow) -> bool,
    ) -> Result<ServerRow, Error> {
        let until = Instant::now() + time_left.saturating_sub(MARGIN);
        let mut bell = self.bell.clone();
        loop {
            bell.borrow_and_update();
            let server = self.find(team, name).await?;
            let left = until.saturating_duration_since(Instant::now());
            if is_done(&server) || left.is_zero() {
                return Ok(server);
            }
            // Late or lost news only costs the time of a poll.
            let _ = tokio::time::timeout(left.min(POLL), bell.changed()).await;
        }
    }

    /// Everything that is wrong with a server at once.
    fn check(new: &NewServer) -> Result<mcp::Transport, Error> {
        let mut found = Vec::new();
        let mut add = |field: String, description: String| found.push(FieldViolation { field, description });
        if new.name.len() > MAX_NAME || !check::is_word(&new.name) {
            add("name".into(), "must be 1 to 63 characters of a-z, 0-9, _ and -".into());
        }
        match &new.transport {
            Some(transport) => {
                for (field, description) in check_binding::check_transport(transport) {
                    add(format!("transport.{field}"), description);
                }
                for (field, description) in equip::check(transport, &new.credentials) {
                    add(format!("transport.{field}"), description);
                }
            }
            None => add("transport".into(), "is not given: stdio or http".into()),
        }
        if !check::is_timeout(new.defaults.timeout_ms) {
            add("defaults.timeout_ms".into(), "must be 1000 to 300000, or 0 for 30000".into());
        }
        let capabilities = &new.defaults.capabilities;
        if capabilities.len() > check::MAX_WORDS || capabilities.iter().any(|word| !check::is_word(word)) {
            let description = "must be at most 32 words of 1 to 64 characters of a-z, 0-9, _ and -";
            add("defaults.capabilities".into(), description.into());
        }
        match &new.transport {
            Some(transport) if found.is_empty() => Ok(transport.clone()),
            _ => Err(Error::Invalid(found)),
        }
    }
}

/// How many of the tools fit an answer.
fn fitting(tools: &[ToolRow]) -> usize {
    let mut bytes = 0;
    tools
        .iter()
        .take_while(|tool| {
            bytes += tool.bytes();
            bytes <= MAX_BYTES
        })
        .count()
}
