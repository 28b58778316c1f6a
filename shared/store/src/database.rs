//! A pool that knows whether the database is there, so that calls fail at once while it is not.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;

use crate::Error;

/// How often the database is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// The one database of the suite.
#[derive(Debug, Clone)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    up: watch::Receiver<bool>,
}

impl Database {
    /// Prepares a pool of at most `max_connections`; connects when first used. Fails only on a malformed URL.
    /// Must be called inside a tokio runtime, where it watches the database until it is dropped.
    pub fn new(url: &SecretString, max_connections: u32) -> Result<Self, Error> {
        let options: PgConnectOptions = url.expose_secret().parse()?;
        let options = options.application_name("toolcrib");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone());
        let (sender, up) = watch::channel(true);
        tokio::spawn(watch_database(options.clone(), sender));
        Ok(Self { pool, options, up })
    }

    /// The pool, unless the database is known to be gone.
    pub fn pool(&self) -> Result<&PgPool, Error> {
        if *self.up.borrow() { Ok(&self.pool) } else { Err(Error::Unavailable(None)) }
    }

    /// Whether the database was there when it was last asked.
    pub fn is_up(&self) -> bool {
        *self.up.borrow()
    }

    /// Changes of `is_up`.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.up.clone()
    }

    /// How a connection beside the pool is made.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Waits until the database answers, or the time is over.
    pub async fn wait_until_up(&self, time: Duration) -> Result<(), Error> {
        let answered = async {
            loop {
                match sqlx::query("SELECT 1").execute(&self.pool).await.map_err(Error::from) {
                    Ok(_) => return Ok(()),
                    Err(Error::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
                    Err(other) => return Err(other),
                }
            }
        };
        tokio::time::timeout(time, answered).await.unwrap_or(Err(Error::Unavailable(None)))
    }

    /// Closes every connection after its work.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Asks over a connection of its own, so that a pool used up is not taken for a database gone.
async fn watch_database(options: PgConnectOptions, up: watch::Sender<bool>) {
    let mut connection: Option<PgConnection> = None;
    while !up.is_closed() {
        let asked = tokio::time::timeout(PING_TIMEOUT, ping(&options, connection.take())).await;
        connection = asked.ok().and_then(Result::ok);
        let is_up = connection.is_some();
        let changed = up.send_if_modified(|was| std::mem::replace(was, is_up) != is_up);
        if changed && is_up {
            tracing::info!("database is back");
        } else if changed {
            tracing::error!("database cannot be reached; calls are refused until it is back");
        }
        tokio::time::sleep(PING_INTERVAL).await;
    }
}

async fn ping(
    options: &PgConnectOptions,
    connection: Option<PgConnection>,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = match connection {
        Some(connection) => connection,
        None => PgConnection::connect_with(options).await?,
    };
    connection.ping().await?;
    Ok(connection)
}
