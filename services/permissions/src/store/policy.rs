//! Policies of teams. A version never changes once written, except that it ends, once.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

/// Most policies, or versions of one, that are listed.
const MAX_LISTED: i64 = 1_000;

/// One version of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PolicyRow {
    pub name: String,
    /// From 1.
    pub version: i64,
    pub policy_text: String,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    /// When another version took its place, or none did; `None` while it is in force.
    pub remove_time: Option<DateTime<Utc>>,
    /// Revision of its last change.
    pub revision: i64,
}

/// The newest version of a policy, in force or not.
pub(crate) async fn policy_newest(
    connection: &mut PgConnection,
    team: &str,
    name: &str,
) -> Result<Option<PolicyRow>, Error> {
    let row = sqlx::query_as!(
        PolicyRow,
        "SELECT name, version, policy_text, created_by, create_time, remove_time, revision
         FROM permissions.policy WHERE team_id = $1 AND name = $2 ORDER BY version DESC LIMIT 1",
        team,
        name,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row)
}

/// How many policies are in force besides this one.
pub(crate) async fn policies_count(
    connection: &mut PgConnection,
    team: &str,
    besides: &str,
) -> Result<i64, Error> {
    let count = sqlx::query_scalar!(
        "SELECT count(*) AS \"count!\" FROM permissions.policy
         WHERE team_id = $1 AND name <> $2 AND remove_time IS NULL",
        team,
        besides,
    )
    .fetch_one(connection)
    .await?;
    Ok(count)
}

/// Ends the version that is in force, if there is one.
pub(crate) async fn policy_end(
    connection: &mut PgConnection,
    team: &str,
    name: &str,
    now: DateTime<Utc>,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE permissions.policy SET remove_time = $3, revision = $4
         WHERE team_id = $1 AND name = $2 AND remove_time IS NULL",
        team,
        name,
        now,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds a version.
pub(crate) async fn policy_insert(
    connection: &mut PgConnection,
    team: &str,
    policy: &PolicyRow,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.policy
             (team_id, name, version, policy_text, created_by, create_time, remove_time, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        team,
        policy.name,
        policy.version,
        policy.policy_text,
        policy.created_by,
        policy.create_time,
        policy.remove_time,
        policy.revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The newest version of each policy, by name; of those in force only, unless told otherwise.
pub(crate) async fn policy_list(
    pool: &PgPool,
    team: &str,
    include_removed: bool,
) -> Result<Vec<PolicyRow>, Error> {
    let rows = sqlx::query_as!(
        PolicyRow,
        "SELECT DISTINCT ON (name)
             name, version, policy_text, created_by, create_time, remove_time, revision
         FROM permissions.policy WHERE team_id = $1 AND ($2 OR remove_time IS NULL)
         ORDER BY name, version DESC LIMIT $3",
        team,
        include_removed,
        MAX_LISTED,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Every version of a policy, newest first.
pub(crate) async fn policy_versions(pool: &PgPool, team: &str, name: &str) -> Result<Vec<PolicyRow>, Error> {
    let rows = sqlx::query_as!(
        PolicyRow,
        "SELECT name, version, policy_text, created_by, create_time, remove_time, revision
         FROM permissions.policy WHERE team_id = $1 AND name = $2 ORDER BY version DESC LIMIT $3",
        team,
        name,
        MAX_LISTED,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows)
}

/// Versions that were written or ended after a revision, each policy's in their order; below 0, all in force.
pub(super) async fn policies_since(
    connection: &mut PgConnection,
    team: &str,
    after: i64,
) -> Result<Vec<PolicyRow>, Error> {
    let rows = sqlx::query_as!(
        PolicyRow,
        "SELECT name, version, policy_text, created_by, create_time, remove_time, revision
         FROM permissions.policy
         WHERE team_id = $1 AND revision > $2 AND ($2 >= 0 OR remove_time IS NULL)
         ORDER BY name, version",
        team,
        after,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows)
}
