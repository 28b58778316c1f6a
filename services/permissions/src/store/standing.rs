//! All that decisions read, for one tool or many, in one query. Never writes.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgPool;
use uuid::Uuid;

use super::grant::GrantRow;
use crate::decide::Candidate;

/// Where an agent stands with some tools: who it is, what could allow a call, and what the execution holds.
#[derive(Debug)]
pub(crate) struct Standing {
    pub specialization: String,
    pub disabled: bool,
    /// The agent's own grants first, then those of its specialization, each oldest first.
    pub candidates: Vec<Candidate>,
    pub held: Option<Held>,
}

/// The place that an execution holds.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub decision_id: Uuid,
    pub grant_id: Uuid,
    pub agent_id: String,
    pub window_start: DateTime<Utc>,
    pub tool_name: String,
    pub tool_digest: String,
    pub arguments_digest: String,
    pub used: i64,
    pub quota_limit: i64,
}

/// Reads the standing of an agent with some tools; `None` when there is no such agent.
pub(crate) async fn standing_get(
    pool: &PgPool,
    team: &str,
    agent: &str,
    tools: &[String],
    execution: Option<Uuid>,
    window_start: DateTime<Utc>,
) -> Result<Option<Standing>, Error> {
    let rows = sqlx::query!(
        "SELECT a.specialization, a.disabled,
                g.grant_id AS \"grant_id?\", g.agent_id AS \"grant_agent?\",
                g.specialization AS \"grant_specialization?\", g.tool_name AS \"grant_tool?\",
                g.max_per_hour AS \"max_per_hour?\",
                g.read_only AS \"read_only?\", g.max_sensitivity AS \"max_sensitivity?\",
                g.expire_time AS \"expire_time?\", g.created_by AS \"created_by?\",
                g.create_time AS \"create_time?\", coalesce((
                    SELECT c.used FROM permissions.counter c
                    WHERE c.team_id = $1 AND c.grant_id = g.grant_id AND c.agent_id = $2
                      AND c.window_start = $5
                ), 0) AS \"used!\",
                r.decision_id AS \"held_id?\", r.grant_id AS \"held_grant?\", r.agent_id AS \"held_agent?\",
                r.window_start AS \"held_window?\", r.tool_name AS \"held_tool?\",
                r.tool_digest AS \"held_tool_digest?\", r.arguments_digest AS \"held_arguments_digest?\",
                r.used AS \"held_used?\", r.quota_limit AS \"held_limit?\"
         FROM permissions.agent a
         LEFT JOIN LATERAL (
             SELECT * FROM permissions.tool_grant o
             WHERE o.team_id = $1 AND o.agent_id = $2 AND o.tool_name = ANY($3) AND o.revoke_time IS NULL
             UNION ALL
             SELECT * FROM permissions.tool_grant s
             WHERE s.team_id = $1 AND s.specialization = a.specialization AND s.tool_name = ANY($3)
               AND s.revoke_time IS NULL
         ) g ON true
         LEFT JOIN permissions.reservation r
             ON r.team_id = $1 AND r.execution_id = $4 AND r.state IN ('reserved', 'committed')
         WHERE a.team_id = $1 AND a.agent_id = $2
         ORDER BY g.agent_id IS NULL, g.grant_id",
        team,
        agent,
        tools,
        execution,
        window_start,
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (specialization, disabled) = (first.specialization.clone(), first.disabled);
    let held = || {
        Some(Held {
            decision_id: first.held_id?,
            grant_id: first.held_grant?,
            agent_id: first.held_agent.clone()?,
            window_start: first.held_window?,
            tool_name: first.held_tool.clone()?,
            tool_digest: first.held_tool_digest.clone()?,
            arguments_digest: first.held_arguments_digest.clone()?,
            used: first.held_used?,
            quota_limit: first.held_limit?,
        })
    };
    let held = held();
    let candidates = rows.into_iter().filter_map(|row| {
        let grant = GrantRow {
            team_id: team.to_owned(),
            grant_id: row.grant_id?,
            agent_id: row.grant_agent,
            specialization: row.grant_specialization,
            tool_name: row.grant_tool?,
            max_per_hour: row.max_per_hour?,
            read_only: row.read_only?,
            max_sensitivity: row.max_sensitivity,
            expire_time: row.expire_time,
            created_by: row.created_by?,
            create_time: row.create_time?,
            revoke_time: None,
        };
        Some(Candidate { grant, used: row.used })
    });
    Ok(Some(Standing { specialization, disabled, candidates: candidates.collect(), held }))
}
