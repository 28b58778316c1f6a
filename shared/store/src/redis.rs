//! One Redis, or a Redis Cluster, for what may be lost. A handle never waits long for it: while Redis is away calls
//! fail at once, and a task of its own looks for it. Must never keep the only copy of anything there, nor show a URL,
//! which may hold a password.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use ::redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, ServerErrorKind, ToRedisArgs,
    aio::MultiplexedConnection, cluster::ClusterClient, cluster_async::ClusterConnection,
};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

/// How often a Redis that is away is looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Commands that may wait to be written to a connection.
const BUFFERED_COMMANDS: usize = 1024;
/// Written to see whether Redis takes writes; it expires by itself.
const PROBE_KEY: &str = "toolcrib:probe";

/// Where Redis is, and how long it may take.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://`, `rediss://` (TLS) or, but for a Cluster, `redis+unix://` URLs. One for a single Redis; of a
    /// Cluster some of its nodes.
    pub urls: Vec<SecretString>,
    /// Whether the URLs are nodes of a Redis Cluster.
    pub cluster: bool,
    /// The longest that a call waits, and a connection attempt takes; 500 ms is usual.
    pub timeout: Duration,
}

/// Why Redis gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The settings name no Redis, or it is no URL. The URL is not told.
    #[error("{0}")]
    Invalid(&'static str),
    /// Redis is away: it cannot be reached, does not answer in time, or takes no writes now. Without a source
    /// nothing was sent, or no answer came in time.
    #[error("Redis cannot be reached")]
    Unavailable(#[source] Option<redis::RedisError>),
    /// Redis is there and refused the command: a fault of ours.
    #[error("Redis refused the command")]
    Refused(#[source] redis::RedisError),
}

/// A Lua script and its digest, under which Redis remembers it.
#[derive(Debug, Clone)]
pub struct Script {
    code: &'static str,
    digest: String,
}

impl Script {
    /// A script; nothing is sent yet.
    pub fn new(code: &'static str) -> Self {
        Self { code, digest: redis::Script::new(code).get_hash().to_owned() }
    }
}

/// A handle of one Redis or Redis Cluster, cheap to clone.
#[derive(Clone)]
pub struct Redis {
    state: Arc<watch::Sender<State>>,
    timeout: Duration,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("is_up", &self.is_up()).finish_non_exhaustive()
    }
}

impl Redis {
    /// A handle that connects by itself, now and after every outage. Fails only on malformed URLs. Must be called
    /// inside a tokio runtime, where it looks after the connection until the last clone is dropped.
    pub fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        let target = Target::new(options)?;
        let (state, seen) = watch::channel(State::Connecting);
        let state = Arc::new(state);
        tokio::spawn(keep_connected(target, Arc::downgrade(&state), seen));
        Ok(Self { state, timeout: options.timeout })
    }

    /// Whether Redis was there when it was last used or looked for.
    pub fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up { .. })
    }

    /// Runs one command. Never retried, and never longer than the timeout.
    pub async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RedisError> {
        let answer = tokio::time::timeout(self.timeout, async {
            let (mut connection, number) = self.connection().await?;
            let answer = connection.query(command).await;
            answer.map_err(|error| self.judge(error, number))
        });
        match answer.await {
            Ok(answer) => answer,
            Err(_late) => {
                self.mark_down(None);
                Err(RedisError::Unavailable(None))
            }
        }
    }

    /// Runs a script by its digest, and by its code where Redis does not know it (yet, or since a restart).
    pub async fn eval<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[String],
        arguments: impl ToRedisArgs,
    ) -> Result<T, RedisError> {
        let command = |name: &str, what: &str| {
            let mut command = redis::cmd(name);
            command.arg(what).arg(keys.len()).arg(keys).arg(&arguments);
            command
        };
        match self.run(&command("EVALSHA", &script.digest)).await {
            Err(RedisError::Refused(error))
                if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) =>
            {
                self.run(&command("EVAL", script.code)).await
            }
            answer => answer,
        }
    }

    /// The connection and its number; waits for the first attempt to connect, for no later one.
    async fn connection(&self) -> Result<(Connection, u64), RedisError> {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Connecting)).await;
        match known.as_deref() {
            Ok(State::Up { connection, number }) => Ok((connection.clone(), *number)),
            _ => Err(RedisError::Unavailable(None)),
        }
    }

    fn judge(&self, error: redis::RedisError, number: u64) -> RedisError {
        if !means_away(&error) {
            return RedisError::Refused(error);
        }
        self.mark_down(Some(number));
        RedisError::Unavailable(Some(error))
    }

    /// Ends the use of a connection, unless another has taken its place. Without a number: of the present one.
    fn mark_down(&self, used: Option<u64>) {
        self.state.send_if_modified(|state| {
            let failed = matches!(state, State::Up { number, .. } if used.is_none_or(|used| used == *number));
            if failed {
                *state = State::Down;
            }
            failed
        });
    }
}

/// Whether an error says that Redis is away, rather than that the command is wrong.
fn means_away(error: &redis::RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask
        ),
        ErrorKind::Io
        | ErrorKind::Parse
        | ErrorKind::AuthenticationFailed
        | ErrorKind::ClusterConnectionNotFound => true,
        _ => false,
    }
}

/// What is known about Redis.
enum State {
    /// The first attempt is under way.
    Connecting,
    Up {
        connection: Connection,
        /// Tells connections apart: a late failure of an old one is not one of the new.
        number: u64,
    },
    Down,
}

#[derive(Clone)]
enum Connection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> Result<T, redis::RedisError> {
        match self {
            Self::One(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }
}

/// What connections are made from.
enum Target {
    One(Client, AsyncConnectionConfig, Duration),
    Cluster(ClusterClient, Duration),
}

impl Target {
    fn new(options: &RedisOptions) -> Result<Self, RedisError> {
        let urls = options.urls.iter().map(ExposeSecret::expose_secret);
        if options.cluster {
            // The library's messages may repeat a URL, hence words of our own.
            let invalid =
                |_| RedisError::Invalid("a URL of the Redis Cluster is not valid, or they do not agree");
            let client = ClusterClient::builder(urls)
                .connection_timeout(options.timeout)
                .response_timeout(options.timeout)
                .build()
                .map_err(invalid)?;
            return Ok(Self::Cluster(client, options.timeout));
        }
        let [url] = urls.collect::<Vec<_>>()[..] else {
            return Err(RedisError::Invalid("exactly one URL is needed for a Redis that is no Cluster"));
        };
        let client = Client::open(url).map_err(|_| RedisError::Invalid("the URL of Redis is not valid"))?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(options.timeout))
            .set_response_timeout(Some(options.timeout))
            .set_pipeline_buffer_size(BUFFERED_COMMANDS);
        Ok(Self::One(client, config, options.timeout))
    }

    /// A new connection that has just taken a write.
    async fn connect(&self) -> Result<Connection, RedisError> {
        // A Cluster is connected node by node; calls do not wait for it longer than their own time.
        let patience = match self {
            Self::One(_, _, timeout) => *timeout * 2,
            Self::Cluster(_, timeout) => *timeout * 8,
        };
        let connected = async {
            let mut connection = match self {
                Self::One(client, config, _) => {
                    Connection::One(client.get_multiplexed_async_connection_with_config(config).await?)
                }
                Self::Cluster(client, _) => Connection::Cluster(client.get_async_connection().await?),
            };
            let probe = redis::cmd("SET").arg(PROBE_KEY).arg(1).arg("PX").arg(1_000).take();
            match connection.query::<()>(&probe).await {
                // A Redis that lets us write other keys only is there nevertheless.
                Err(error) if means_away(&error) => Err(error),
                _ => Ok(connection),
            }
        };
        match tokio::time::timeout(patience, connected).await {
            Ok(answer) => answer.map_err(|error| RedisError::Unavailable(Some(error))),
            Err(_late) => Err(RedisError::Unavailable(None)),
        }
    }
}

/// Connects whenever there is no connection, until the last handle is dropped.
async fn keep_connected(target: Target, state: Weak<watch::Sender<State>>, mut seen: watch::Receiver<State>) {
    let mut number = 0;
    let mut away = false;
    loop {
        match target.connect().await {
            Ok(connection) => {
                if std::mem::take(&mut away) {
                    tracing::info!("redis is back");
                }
                number += 1;
                let Some(state) = state.upgrade() else { return };
                state.send_replace(State::Up { connection, number });
            }
            Err(error) => {
                if !std::mem::replace(&mut away, true) {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(error = source, "redis cannot be reached; looking for it");
                }
                let Some(state) = state.upgrade() else { return };
                state.send_replace(State::Down);
                drop(state);
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
        }
        if seen.wait_for(|state| matches!(state, State::Down)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(urls: &[&str], cluster: bool) -> RedisOptions {
        let urls = urls.iter().map(|url| SecretString::from(*url)).collect();
        RedisOptions { urls, cluster, timeout: Duration::from_millis(500) }
    }

    #[tokio::test]
    async fn a_wrong_url_is_told_at_once_and_never_shown() {
        for (urls, cluster) in [
            (vec!["http://:hunter2@h"], false),
            (vec!["http://:hunter2@h"], true),
            (vec![], false),
            (vec!["redis://:hunter2@a", "redis://:hunter2@b"], false),
            (vec!["redis://:hunter2@a", "redis://:other@b"], true),
        ] {
            let error = Redis::new(&options(&urls, cluster)).unwrap_err();
            assert!(matches!(error, RedisError::Invalid(_)), "{urls:?}");
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
        let options = options(&["redis://:hunter2@127.0.0.1:1"], false);
        let redis = Redis::new(&options).unwrap();
        assert!(!format!("{redis:?} {options:?}").contains("hunter2"));
    }

    #[tokio::test]
    async fn a_redis_that_is_away_fails_calls_and_not_the_start() {
        // Nothing listens on port 1.
        for cluster in [false, true] {
            let redis = Redis::new(&options(&["redis://127.0.0.1:1"], cluster)).unwrap();
            let answer = redis.run::<()>(&redis::cmd("PING")).await;
            assert!(matches!(answer, Err(RedisError::Unavailable(_))), "{answer:?}");
            assert!(!redis.is_up());
        }
    }
}
