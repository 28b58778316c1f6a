//! A connection that one writer keeps to itself, beside the pool: its few statements are planned once and then run
//! again and again. For statements that reach every row by an index, and for nothing else.

use std::time::{Duration, Instant};

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::watch;

use crate::{Database, Error};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that rested longer is asked whether it is still there; a database that was killed is not back sooner.
const RESTED: Duration = Duration::from_millis(100);

/// Uses between two plannings at most.
const REPLAN: u32 = 4_096;

/// The place of one connection, made when first used and anew when it broke.
///
/// Plans are made once and do not look at the values (`plan_cache_mode = force_generic_plan`). They are meant to look
/// every row up by its key: they read no whole table (`enable_seqscan`) and join row by row (`enable_hashjoin`,
/// `enable_mergejoin`, `enable_material`). A plan that was made while a table was empty still walks through all of it, and PostgreSQL
/// keeps it until statistics change; so plans are made anew after 32, 64, 128… uses, when the table may have doubled.
/// That is not enough for every statement: some walk a table that was never analysed until autovacuum has seen it.
#[derive(Debug)]
pub struct Kept {
    database: Database,
    options: PgConnectOptions,
    up: watch::Receiver<bool>,
    connection: Option<PgConnection>,
    used: Instant,
    uses: u32,
}

impl Kept {
    /// A connection whose commits wait for the disk.
    pub fn durable(database: &Database) -> Self {
        Self::new(database, "on")
    }

    /// A connection whose commits do not wait for the disk: they survive the death of any process but not of the
    /// machine.
    pub fn relaxed(database: &Database) -> Self {
        Self::new(database, "off")
    }

    fn new(database: &Database, synchronous_commit: &str) -> Self {
        let options = database.options().clone().options([
            ("plan_cache_mode", "force_generic_plan"),
            ("random_page_cost", "1.1"),
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
            ("enable_material", "off"),
            ("synchronous_commit", synchronous_commit),
        ]);
        let (database, up) = (database.clone(), database.watch());
        Self { database, options, up, connection: None, used: Instant::now(), uses: 0 }
    }

    /// Takes the connection. Whoever has used it without a fault gives it back by `put_back`; one that is not given
    /// back is closed, and the next is made anew.
    pub async fn take(&mut self) -> Result<PgConnection, Error> {
        self.database.pool()?;
        if self.up.has_changed().unwrap_or(true) {
            self.up.mark_unchanged();
            self.connection = None;
        }
        if let Some(mut connection) = self.connection.take()
            && (self.used.elapsed() < RESTED || is_there(&mut connection).await)
        {
            self.uses = self.uses.wrapping_add(1);
            if self.uses.is_multiple_of(REPLAN) || (self.uses >= 32 && self.uses.is_power_of_two()) {
                sqlx::query("DISCARD PLANS").execute(&mut connection).await?;
            }
            return Ok(connection);
        }
        self.uses = 0;
        let connecting = PgConnection::connect_with(&self.options);
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
        Ok(connected.map_err(|_| Error::Unavailable(None))??)
    }

    /// Keeps the connection for the next time.
    pub fn put_back(&mut self, connection: PgConnection) {
        self.used = Instant::now();
        self.connection = Some(connection);
    }
}

async fn is_there(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(CONNECT_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}
