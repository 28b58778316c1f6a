//! The SQL of the registry. Versions are only ever added; every write of tools goes through `Write`,
//! which puts the writers in one order and tells the watchers.

mod changes;
mod credentials;
mod digests;
mod discoveries;
mod listen;
mod reviews;
mod rotations;
mod search;
mod servers;
mod settings;
mod tokens;
mod tools;

use ::store::Error;
use sqlx::{PgPool, Postgres, Transaction};

pub(crate) use sqlx::PgConnection as Connection;

use crate::trail::{self, Event};

pub(crate) use changes::{
    KnownTool, NewVersion, tool_known, tool_put, tool_restore, tool_set_status, tool_withdraw, tools_added,
    tools_known, version_content, versions_insert,
};
pub(crate) use credentials::{
    CredentialRow, CredentialWrite, SealedVersion, VersionRow, credential_find, credential_list,
    credential_versions,
};
pub(crate) use digests::{KnownVersion, Seen, credential_seen};
pub(crate) use discoveries::{
    Outcome, Sign, ToolCounts, server_fail, server_move, server_show, server_succeed, tool_counts,
};
pub(crate) use listen::{Listener, News};
pub(crate) use reviews::{
    PastVersion, Pending, ReviewState, ToReview, content_exists, pending_clear, pending_set, review_decide,
    review_find, reviews_put, versions_past,
};
pub(crate) use rotations::{
    DueRotation, WrappedKey, credential_revoke, rotation_claim, rotation_fail, rotation_skip,
    version_end_due, version_forgotten, wrapped_list, wrapped_replace,
};
pub(crate) use search::{Found, Narrow, Sought, tool_names_page, tool_search};
pub(crate) use servers::{
    Defaults, ServerKey, ServerRow, ServerState, lease_release, server_delete, server_exists, server_find,
    server_insert, server_is_held, server_kept, server_list, server_place, server_refresh, servers_claim,
};
pub(crate) use settings::{
    NewSettings, SettingsRow, fallback_list, settings_find, settings_list, settings_put, tool_statuses,
};
pub(crate) use tokens::{
    LiveVersion, token_claim, token_drop, token_fail, token_keep, version_live, version_mark_used,
};
pub(crate) use tools::{
    Cursor, Filter, ToolRow, ToolStatus, tool_find, tool_find_by_id, tool_find_version, tool_list,
    tool_list_of_server, tool_names, tool_rows, tools_after, version_list,
};

/// Channel of the notifications; the payload is a revision, or empty for news of servers.
const CHANNEL: &str = "toolcrib_registry";

/// A transaction that changes the catalog, with the revision that its changes get. It holds the lock
/// that every other one waits for: keep it short.
pub(crate) struct Write {
    transaction: Transaction<'static, Postgres>,
    /// What the changed rows are stamped with.
    pub revision: i64,
    /// What the trail is told of it.
    events: Vec<Event>,
}

impl Write {
    /// Takes the lock and the next revision. Dropped without `commit`, nothing of it remains.
    pub(crate) async fn begin(pool: &PgPool) -> Result<Self, Error> {
        let mut transaction = pool.begin().await?;
        let revision = sqlx::query_scalar!("UPDATE registry.revision SET value = value + 1 RETURNING value")
            .fetch_one(&mut *transaction)
            .await?;
        Ok(Self { transaction, revision, events: Vec::new() })
    }

    /// Has the trail told of a change, once this is committed.
    pub(crate) fn tell(&mut self, event: Event) {
        self.events.push(event);
    }

    /// Undoes what was written; others may write once this is done.
    pub(crate) async fn give_up(self) -> Result<(), Error> {
        Ok(self.transaction.rollback().await?)
    }

    /// Makes the changes seen by all, and tells the watchers.
    pub(crate) async fn commit(mut self) -> Result<(), Error> {
        trail::record(&mut self.transaction, &self.events).await?;
        sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, self.revision.to_string())
            .execute(&mut *self.transaction)
            .await?;
        Ok(self.transaction.commit().await?)
    }
}

/// Tells the trail of what changed nothing.
pub(crate) async fn event_insert(pool: &PgPool, event: Event) -> Result<(), Error> {
    trail::record(&mut *pool.acquire().await?, &[event]).await
}

/// The last revision of the catalog: every change up to it can be read.
pub(crate) async fn revision(pool: &PgPool) -> Result<i64, Error> {
    Ok(sqlx::query_scalar!("SELECT value FROM registry.revision").fetch_one(pool).await?)
}
