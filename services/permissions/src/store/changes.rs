//! All that decisions rest on, of one team, since a revision. Never writes.

use ::store::Error;
use sqlx::{PgConnection, PgPool};
use types::Role;

use super::{
    access_request::{AccessRequestRow, approvals_since},
    grant::{GrantRow, Stored},
    policy::{PolicyRow, policies_since},
};
use crate::policies::AgentFacts;

/// What changed in a team after a revision, up to another one, and the budget as it is.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Everything up to this revision is told; a later change may be too.
    pub revision: i64,
    /// Most that calls may cost on a day, in micro USD; 0: no budget.
    pub daily_micro_usd: i64,
    pub agents: Vec<AgentFacts>,
    /// Made or revoked.
    pub grants: Vec<GrantRow>,
    /// Versions that were written or ended, each policy's in their order.
    pub policies: Vec<PolicyRow>,
    /// Access requests that were approved, and approvals that ended.
    pub approvals: Vec<AccessRequestRow>,
}

/// What changed after a revision; below 0 tells all that stands. `None` when there is no such team. The revision is
/// read first: what changes while the rest is read is told again with the next one.
pub(crate) async fn changes_get(pool: &PgPool, team: &str, after: i64) -> Result<Option<Changes>, Error> {
    let mut connection = pool.acquire().await?;
    let head = sqlx::query!(
        "SELECT t.revision, coalesce(b.daily_micro_usd, 0) AS \"daily_micro_usd!\"
         FROM permissions.team t LEFT JOIN permissions.budget b ON b.team_id = t.team_id
         WHERE t.team_id = $1",
        team,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(head) = head else { return Ok(None) };
    let mut changes = Changes {
        revision: head.revision,
        daily_micro_usd: head.daily_micro_usd,
        agents: Vec::new(),
        grants: Vec::new(),
        policies: Vec::new(),
        approvals: Vec::new(),
    };
    if changes.revision > after {
        changes.agents = agents(&mut connection, team, after).await?;
        changes.grants = grants(&mut connection, team, after).await?;
        changes.policies = policies_since(&mut connection, team, after).await?;
        changes.approvals = approvals_since(&mut connection, team, after).await?;
    }
    Ok(Some(changes))
}

async fn agents(connection: &mut PgConnection, team: &str, after: i64) -> Result<Vec<AgentFacts>, Error> {
    let rows = sqlx::query!(
        "SELECT agent_id, specialization, role, disabled FROM permissions.agent
         WHERE team_id = $1 AND revision > $2",
        team,
        after,
    )
    .fetch_all(connection)
    .await?;
    let agents = rows.into_iter().map(|row| AgentFacts {
        team: team.to_owned(),
        name: row.agent_id,
        specialization: row.specialization,
        role: row.role.parse().unwrap_or(Role::Agent),
        disabled: row.disabled,
    });
    Ok(agents.collect())
}

async fn grants(connection: &mut PgConnection, team: &str, after: i64) -> Result<Vec<GrantRow>, Error> {
    let rows = sqlx::query_as!(
        Stored,
        "SELECT team_id, grant_id, agent_id, specialization, tool_name, max_per_hour, max_per_day, max_total,
                read_only, max_sensitivity, expire_time, hours, conditions, approver_role, note, created_by,
                create_time, revoke_time, revision
         FROM permissions.tool_grant
         WHERE team_id = $1 AND revision > $2 AND ($2 >= 0 OR revoke_time IS NULL)",
        team,
        after,
    )
    .fetch_all(connection)
    .await?;
    Ok(rows.into_iter().filter_map(Stored::read).map(|(grant, _)| grant).collect())
}
