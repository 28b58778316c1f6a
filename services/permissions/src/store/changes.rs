//! All that decisions rest on, of one team, since a revision. Never writes.

use std::collections::HashMap;

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::grant::GrantRow;
use crate::policies::AgentFacts;

/// What changed in a team after a revision, up to another one, and the budget as it is.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Everything up to this revision is told.
    pub revision: i64,
    /// Most that calls may cost on a day, in micro USD; 0: no budget.
    pub daily_micro_usd: i64,
    pub agents: Vec<AgentFacts>,
    /// Made or revoked.
    pub grants: Vec<GrantRow>,
}

/// What changed after a revision, in one consistent read; below 0 tells all that stands. `None` when there
/// is no such team.
pub(crate) async fn changes_get(pool: &PgPool, team: &str, after: i64) -> Result<Option<Changes>, Error> {
    let rows = sqlx::query!(
        "SELECT t.revision, coalesce(b.daily_micro_usd, 0) AS \"daily_micro_usd!\",
                x.grant_id AS \"grant_id?\", x.agent_id AS \"agent_id?\",
                x.specialization AS \"specialization?\", x.disabled AS \"disabled?\",
                x.tool_name AS \"tool_name?\", x.max_per_hour AS \"max_per_hour?\",
                x.read_only AS \"read_only?\", x.max_sensitivity AS \"max_sensitivity?\",
                x.expire_time AS \"expire_time?\", x.created_by AS \"created_by?\",
                x.create_time AS \"create_time?\", x.revoke_time AS \"revoke_time?\"
         FROM permissions.team t
         LEFT JOIN permissions.budget b ON b.team_id = t.team_id
         LEFT JOIN LATERAL (
             SELECT NULL::uuid AS grant_id, a.agent_id, a.specialization, a.disabled, NULL AS tool_name,
                    NULL::bigint AS max_per_hour, NULL::boolean AS read_only, NULL AS max_sensitivity,
                    NULL::timestamptz AS expire_time, NULL AS created_by,
                    NULL::timestamptz AS create_time, NULL::timestamptz AS revoke_time
             FROM permissions.agent a WHERE a.team_id = $1 AND a.revision > $2
             UNION ALL
             SELECT g.grant_id, g.agent_id, g.specialization, NULL, g.tool_name, g.max_per_hour,
                    g.read_only, g.max_sensitivity, g.expire_time, g.created_by, g.create_time, g.revoke_time
             FROM permissions.tool_grant g
             WHERE g.team_id = $1 AND g.revision > $2 AND ($2 >= 0 OR g.revoke_time IS NULL)
         ) x ON true
         WHERE t.team_id = $1",
        team,
        after,
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (revision, daily_micro_usd) = (first.revision, first.daily_micro_usd);
    let mut changes = Changes { revision, daily_micro_usd, agents: Vec::new(), grants: Vec::new() };
    for row in rows {
        if let (None, Some(name), Some(disabled)) = (row.grant_id, &row.agent_id, row.disabled) {
            let specialization = row.specialization.clone().unwrap_or_default();
            let (team, name) = (team.to_owned(), name.clone());
            changes.agents.push(AgentFacts { team, name, specialization, disabled });
        }
        // What a grant cannot be without is never null; a row that had such a null would allow nothing.
        let grant = || {
            Some(GrantRow {
                team_id: team.to_owned(),
                grant_id: row.grant_id?,
                agent_id: row.agent_id,
                specialization: row.specialization,
                tool_name: row.tool_name?,
                max_per_hour: row.max_per_hour?,
                read_only: row.read_only?,
                max_sensitivity: row.max_sensitivity,
                expire_time: row.expire_time,
                created_by: row.created_by?,
                create_time: row.create_time?,
                revoke_time: row.revoke_time,
            })
        };
        changes.grants.extend(grant());
    }
    Ok(Some(changes))
}

/// Places that an agent has taken in a window under some grants; a grant without any is left out.
pub(crate) async fn counters_used(
    pool: &PgPool,
    team: &str,
    agent: &str,
    grants: &[Uuid],
    window_start: DateTime<Utc>,
) -> Result<HashMap<Uuid, i64>, Error> {
    let rows = sqlx::query!(
        "SELECT grant_id, used FROM permissions.counter
         WHERE team_id = $1 AND grant_id = ANY($3) AND agent_id = $2 AND window_start = $4",
        team,
        agent,
        grants,
        window_start,
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.grant_id, row.used)).collect())
}
