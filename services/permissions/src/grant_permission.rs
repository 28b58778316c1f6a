//! Makes and revokes grants. A grant names a tool, which need not be registered yet; a later decision
//! knows it as soon as its revision is given.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Sensitivity};
use uuid::Uuid;

use crate::{
    Error,
    authorize::window_start,
    names,
    store::{self, GrantRow, ListedGrant},
    teams::Teams,
};

/// Who a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Grantee {
    Agent(String),
    Specialization(String),
}

/// The grant to make.
#[derive(Debug, Clone)]
pub(crate) struct NewGrant {
    pub grantee: Option<Grantee>,
    pub tool_name: String,
    pub max_per_hour: i64,
    pub read_only: bool,
    pub max_sensitivity: Option<Sensitivity>,
    pub expire_time: Option<DateTime<Utc>>,
}

/// Makes a grant in the caller's team.
pub(crate) async fn grant_permission(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    new: NewGrant,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    names::tool("grant.tool_name", &new.tool_name)?;
    if new.max_per_hour < 0 {
        let description = format!("is {}; it must be 0 (no limit) or more", new.max_per_hour);
        return Err(Error::invalid("grant.max_per_hour", description));
    }
    if new.expire_time.is_some_and(|end| end <= now) {
        return Err(Error::invalid("grant.expire_time", "is past; it must be in the future, or unset"));
    }
    let (agent_id, specialization) = match new.grantee {
        Some(Grantee::Agent(agent)) => (Some(agent), None),
        Some(Grantee::Specialization(specialization)) => (None, Some(specialization)),
        None => return Err(Error::invalid("grant.grantee", "is not set; set agent_id or specialization")),
    };
    let pool = database.pool()?;
    if let Some(agent) = &agent_id {
        store::agent_get(pool, &caller.team, agent).await?.ok_or_else(|| Error::no_agent(agent))?;
    }
    if let Some(specialization) = &specialization {
        let field = "grant.specialization";
        names::specialization(field, specialization)?;
        if specialization.is_empty() {
            return Err(Error::invalid(field, "is empty; name one, or set agent_id"));
        }
    }
    let grant = GrantRow {
        team_id: caller.team.clone(),
        grant_id: types::new_id(),
        agent_id,
        specialization,
        tool_name: new.tool_name,
        max_per_hour: new.max_per_hour,
        read_only: new.read_only,
        max_sensitivity: new.max_sensitivity.map(|level| level.to_string()),
        expire_time: new.expire_time,
        created_by: caller.agent.clone(),
        create_time: now,
        revoke_time: None,
    };
    let revision = store::grant_insert(pool, &caller.team, &grant).await?;
    teams.changed(&caller.team, revision);
    Ok(ListedGrant { grant, used: 0, revision })
}

/// Revokes a grant of the team. Revoking it again answers the same.
pub(crate) async fn revoke_permission(
    database: &Database,
    teams: &Teams,
    team: &str,
    grant: Uuid,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    let revoked = store::grant_revoke(database.pool()?, team, grant, now, window_start(now)).await?;
    if let Some(revoked) = &revoked {
        teams.changed(team, revoked.revision);
    }
    let hint = "list them: toolcrib grants list";
    revoked.ok_or_else(|| Error::NotFound { what: "grant", name: grant.to_string(), hint })
}
