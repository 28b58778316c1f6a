//! Grants. A grant never changes once made, except that it is revoked, once.

use ::store::Error;
use chrono::{DateTime, Utc};
use serde_json::Value;
use sqlx::{PgConnection, PgPool, types::Json};
use types::Role;
use uuid::Uuid;

use super::tally::{Used, Windows};
use crate::{condition::Condition, hours::Hours};

/// Lets an agent, or every agent of a specialization, call tools: exactly one of the two is set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct GrantRow {
    pub team_id: String,
    pub grant_id: Uuid,
    pub agent_id: Option<String>,
    pub specialization: Option<String>,
    /// A tool, "PREFIX.*" or "*".
    pub tool_name: String,
    /// Most calls of one agent in a clock hour; 0: no limit.
    pub max_per_hour: i64,
    /// On a day; 0: no limit.
    pub max_per_day: i64,
    /// In all; 0: no limit.
    pub max_total: i64,
    pub read_only: bool,
    pub max_sensitivity: Option<String>,
    pub expire_time: Option<DateTime<Utc>>,
    /// When calls are allowed; `None`: always.
    pub hours: Option<Hours>,
    /// What the arguments must be.
    pub conditions: Vec<Condition>,
    /// Whose approval each call needs.
    pub approver_role: Option<Role>,
    pub note: String,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    pub revoke_time: Option<DateTime<Utc>>,
}

impl GrantRow {
    /// A grant to an agent, or else to a specialization, that asks for nothing and ends never.
    pub(crate) fn plain(
        team: &str,
        (agent_id, specialization): (Option<String>, Option<String>),
        tool: &str,
        (created_by, create_time): (&str, DateTime<Utc>),
    ) -> Self {
        Self {
            team_id: team.to_owned(),
            grant_id: types::new_id(),
            agent_id,
            specialization,
            tool_name: tool.to_owned(),
            max_per_hour: 0,
            max_per_day: 0,
            max_total: 0,
            read_only: false,
            max_sensitivity: None,
            expire_time: None,
            hours: None,
            conditions: Vec::new(),
            approver_role: None,
            note: String::new(),
            created_by: created_by.to_owned(),
            create_time,
            revoke_time: None,
        }
    }

    /// Whether calls under it are counted.
    pub(crate) fn is_limited(&self) -> bool {
        self.max_per_hour > 0 || self.max_per_day > 0 || self.max_total > 0
    }
}

/// A grant as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ListedGrant {
    pub grant: GrantRow,
    /// Calls of all its agents in the windows asked for.
    pub used: Used,
    /// Revision of its last change.
    pub revision: i64,
}

/// What a listing asks for; `None` matches all.
#[derive(Debug, Clone, Default)]
pub(crate) struct GrantFilter {
    pub grant_id: Option<Uuid>,
    pub agent_id: Option<String>,
    pub specialization: Option<String>,
    pub tool_name: Option<String>,
    pub include_revoked: bool,
    /// Only what applies to this agent: its own grants and those of its specialization.
    pub applies_to: Option<String>,
}

/// A grant as the table has it.
pub(super) struct Stored {
    pub team_id: String,
    pub grant_id: Uuid,
    pub agent_id: Option<String>,
    pub specialization: Option<String>,
    pub tool_name: String,
    pub max_per_hour: i64,
    pub max_per_day: i64,
    pub max_total: i64,
    pub read_only: bool,
    pub max_sensitivity: Option<String>,
    pub expire_time: Option<DateTime<Utc>>,
    pub hours: Option<Value>,
    pub conditions: Value,
    pub approver_role: Option<String>,
    pub note: String,
    pub created_by: String,
    pub create_time: DateTime<Utc>,
    pub revoke_time: Option<DateTime<Utc>>,
    pub revision: i64,
}

impl Stored {
    /// The grant and the revision of its last change. `None`, with a word in the log, where it asks for something
    /// that this version cannot read: then it allows nothing.
    pub(super) fn read(self) -> Option<(GrantRow, i64)> {
        let grant_id = self.grant_id;
        let unread = |what: &str| tracing::error!(grant.id = %grant_id, "grant with {what} that cannot be read allows nothing");
        let hours = self.hours.map(serde_json::from_value).transpose();
        let hours = hours.map_err(|_| unread("hours")).ok()?;
        let conditions = serde_json::from_value(self.conditions).map_err(|_| unread("conditions")).ok()?;
        let role = self.approver_role.map(|word| word.parse()).transpose();
        let grant = GrantRow {
            team_id: self.team_id,
            grant_id,
            agent_id: self.agent_id,
            specialization: self.specialization,
            tool_name: self.tool_name,
            max_per_hour: self.max_per_hour,
            max_per_day: self.max_per_day,
            max_total: self.max_total,
            read_only: self.read_only,
            max_sensitivity: self.max_sensitivity,
            expire_time: self.expire_time,
            hours,
            conditions,
            approver_role: role.map_err(|_| unread("an approver")).ok()?,
            note: self.note,
            created_by: self.created_by,
            create_time: self.create_time,
            revoke_time: self.revoke_time,
        };
        Some((grant, self.revision))
    }
}

/// Adds a grant as of a revision.
pub(crate) async fn grant_add(
    connection: &mut PgConnection,
    team: &str,
    grant: &GrantRow,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "INSERT INTO permissions.tool_grant (
             team_id, grant_id, agent_id, specialization, tool_name, max_per_hour, max_per_day, max_total,
             read_only, max_sensitivity, expire_time, hours, conditions, approver_role, note, created_by,
             create_time, revision)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        team,
        grant.grant_id,
        grant.agent_id,
        grant.specialization,
        grant.tool_name,
        grant.max_per_hour,
        grant.max_per_day,
        grant.max_total,
        grant.read_only,
        grant.max_sensitivity,
        grant.expire_time,
        grant.hours.as_ref().map(Json) as _,
        Json(&grant.conditions) as _,
        grant.approver_role.map(Role::as_str),
        grant.note,
        grant.created_by,
        grant.create_time,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The tool of a grant and whether it is in force, locked until the transaction ends; `None` when there is none.
pub(crate) async fn grant_hold(
    connection: &mut PgConnection,
    team: &str,
    grant: Uuid,
) -> Result<Option<(String, bool)>, Error> {
    let row = sqlx::query!(
        "SELECT tool_name, revoke_time IS NULL AS \"live!\" FROM permissions.tool_grant
         WHERE team_id = $1 AND grant_id = $2 FOR UPDATE",
        team,
        grant,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| (row.tool_name, row.live)))
}

/// Revokes a grant as of a revision.
pub(crate) async fn grant_end(
    connection: &mut PgConnection,
    team: &str,
    grant: Uuid,
    now: DateTime<Utc>,
    revision: i64,
) -> Result<(), Error> {
    sqlx::query!(
        "UPDATE permissions.tool_grant SET revoke_time = $3, revision = $4
         WHERE team_id = $1 AND grant_id = $2",
        team,
        grant,
        now,
        revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Grants of a team below an id, newest first, with what is used of them.
pub(crate) async fn grant_list(
    pool: &PgPool,
    team: &str,
    filter: &GrantFilter,
    windows: Windows,
    before: Option<Uuid>,
    limit: i64,
) -> Result<Vec<ListedGrant>, Error> {
    let rows = sqlx::query_as!(
        Stored,
        "SELECT g.team_id, g.grant_id, g.agent_id, g.specialization, g.tool_name, g.max_per_hour, g.max_per_day,
                g.max_total, g.read_only, g.max_sensitivity, g.expire_time, g.hours, g.conditions,
                g.approver_role, g.note, g.created_by, g.create_time, g.revoke_time, g.revision
         FROM permissions.tool_grant g
         WHERE g.team_id = $1
           AND ($2::uuid IS NULL OR g.grant_id < $2)
           AND ($3::text IS NULL OR g.agent_id = $3)
           AND ($4::text IS NULL OR g.specialization = $4)
           AND ($5::text IS NULL OR g.tool_name = $5)
           AND ($6 OR g.revoke_time IS NULL)
           AND ($8::uuid IS NULL OR g.grant_id = $8)
           AND ($7::text IS NULL OR g.agent_id = $7 OR g.specialization = (
               SELECT a.specialization FROM permissions.agent a WHERE a.team_id = $1 AND a.agent_id = $7))
         ORDER BY g.grant_id DESC
         LIMIT $9",
        team,
        before,
        filter.agent_id,
        filter.specialization,
        filter.tool_name,
        filter.include_revoked,
        filter.applies_to,
        filter.grant_id,
        limit,
    )
    .fetch_all(pool)
    .await?;
    let grants: Vec<_> = rows.into_iter().filter_map(Stored::read).collect();
    let ids: Vec<Uuid> = grants.iter().map(|(grant, _)| grant.grant_id).collect();
    let used = super::tally::grants_used(pool, team, None, &ids, windows).await?;
    let listed = grants.into_iter().map(|(grant, revision)| {
        let used = used.get(&grant.grant_id).copied().unwrap_or_default();
        ListedGrant { grant, used, revision }
    });
    Ok(listed.collect())
}
