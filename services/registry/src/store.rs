//! The SQL of the registry. Versions are only ever added; every write of tools goes through `Write`,
//! which puts the writers in one order and tells the watchers.

mod changes;
mod listen;
mod servers;
mod settings;
mod tools;

use ::store::Error;
use sqlx::{PgPool, Postgres, Transaction};

pub(crate) use changes::{
    KnownTool, NewVersion, tool_known, tool_put, tool_restore, tool_set_status, tool_withdraw, tools_known,
    version_content, versions_insert,
};
pub(crate) use listen::{Listener, News};
pub(crate) use servers::{
    Defaults, Outcome, ServerKey, ServerRow, ServerState, lease_release, server_claim, server_delete,
    server_entries, server_exists, server_fail, server_find, server_insert, server_is_held, server_list,
    server_note_error, server_refresh, server_succeed,
};
pub(crate) use settings::{
    NewSettings, SettingsRow, fallback_list, settings_find, settings_list, settings_put, tool_statuses,
};
pub(crate) use tools::{
    Cursor, Filter, ToolRow, ToolStatus, content_exists, tool_find, tool_find_by_id, tool_find_version,
    tool_list, tool_list_of_server, tool_names, tools_after, version_list,
};

/// Channel of the notifications; the payload is a revision, or empty for news of servers.
const CHANNEL: &str = "toolcrib_registry";

/// A transaction that changes the catalog, with the revision that its changes get. It holds the lock
/// that every other one waits for: keep it short.
pub(crate) struct Write {
    transaction: Transaction<'static, Postgres>,
    /// What the changed rows are stamped with.
    pub revision: i64,
}

impl Write {
    /// Takes the lock and the next revision. Dropped without `commit`, nothing of it remains.
    pub(crate) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        let mut transaction = pool.begin().await?;
        let revision = sqlx::query_scalar!("UPDATE registry.revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Self { transaction, revision })
    }

    /// Makes the changes seen by all, and tells the watchers.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, self.revision.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(self.transaction.commit().await?)
    }
}

/// The last revision of the catalog: every change up to it can be read.
pub(crate) async fn revision(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("SELECT value FROM registry.revision").fetch_one(pool).await?)
}
