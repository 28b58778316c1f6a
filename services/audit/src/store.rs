//! The SQL of the audit service, a file a subject. What a leaf's hash covers is only ever added, and taken away as a
//! whole when its retention ends.

mod adopt;
mod checkpoint;
mod erasure;
mod export;
mod hold;
mod query;
mod reconciliation;
mod record;
mod report;
mod retention;
mod review;
mod subject;
mod tree;
mod usage;

use ::store::Error;
use sqlx::{Connection as _, PgPool, Postgres, Transaction};

pub(crate) use adopt::*;
pub(crate) use checkpoint::*;
pub(crate) use erasure::*;
pub(crate) use export::*;
pub(crate) use hold::*;
pub(crate) use query::*;
pub(crate) use reconciliation::*;
pub(crate) use record::*;
pub(crate) use report::*;
pub(crate) use retention::*;
pub(crate) use review::*;
pub(crate) use sqlx::PgConnection as Connection;
pub(crate) use subject::*;
pub(crate) use tree::*;
pub(crate) use usage::*;

/// A transaction.
pub(crate) type Txn<'a> = Transaction<'a, Postgres>;

/// Begins a transaction.
pub(crate) async fn begin(connection: &mut Connection) -> Result<Txn<'_>, Error> {
    Ok(connection.begin().await?)
}

/// Makes the partitions of this month and the next two.
pub(crate) async fn partitions_ensure(pool: &PgPool) -> Result<(), Error> {
    // Of the old table, too: older processes may write to it still.
    sqlx::query!("SELECT audit.ensure_partitions(2), audit.ensure_record_partitions(2)")
        .execute(pool)
        .await?;
    Ok(())
}
