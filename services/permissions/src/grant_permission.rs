//! Makes and revokes grants. What a grant names is there, and what it limits leaves something to allow; a later
//! decision knows it as soon as its revision is given.

use ::store::Database;
use chrono::{DateTime, Utc};
use proto::permissions::v1 as wire;
use types::{Caller, Role, Sensitivity};
use uuid::Uuid;

use crate::{
    Error,
    access_requests::Registry,
    condition,
    hours::Hours,
    names, pattern,
    store::{self, GrantFilter, GrantRow, ListedGrant, Used, Windows},
    teams::Teams,
    trail::{self, Action, Event},
};

/// Most characters of a note.
const MAX_NOTE: usize = 500;

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
    pub max_per_day: i64,
    pub max_total: i64,
    pub read_only: bool,
    pub max_sensitivity: Option<Sensitivity>,
    pub expire_time: Option<DateTime<Utc>>,
    pub hours: Option<wire::AllowedHours>,
    pub conditions: Vec<wire::ArgumentCondition>,
    pub approver_role: Option<Role>,
    pub note: String,
}

/// Makes a grant in the caller's team.
pub(crate) async fn grant_permission(
    database: &Database,
    teams: &Teams,
    registry: &Registry<'_>,
    caller: &Caller,
    new: NewGrant,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    let grant = checked(caller, new, now)?;
    grantee_is_known(database, &grant).await?;
    registry.knows(caller, &grant.tool_name).await?;
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revision = store::revision_next(&mut transaction, &caller.team, now).await?;
    store::grant_add(&mut transaction, &caller.team, &grant, revision).await?;
    trail::record(&mut transaction, &told(caller, &grant)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(&caller.team, revision);
    Ok(ListedGrant { grant, used: Used::default(), revision })
}

/// The grant, when it makes sense by itself.
fn checked(caller: &Caller, new: NewGrant, now: DateTime<Utc>) -> Result<GrantRow, Error> {
    pattern::check("grant.tool_name", &new.tool_name)?;
    let limits = [
        ("grant.max_per_hour", new.max_per_hour),
        ("grant.max_per_day", new.max_per_day),
        ("grant.max_total", new.max_total),
    ];
    for (field, limit) in limits {
        if limit < 0 {
            return Err(Error::invalid(field, format!("is {limit}; it must be 0 (no limit) or more")));
        }
    }
    if new.expire_time.is_some_and(|end| end <= now) {
        return Err(Error::invalid("grant.expire_time", "is past; it must be in the future, or unset"));
    }
    if new.approver_role == Some(Role::Agent) {
        let description = "is AGENT, and agents decide no access requests; set AUDITOR, OPERATOR or ADMIN";
        return Err(Error::invalid("grant.approver_role", description));
    }
    if new.note.chars().count() > MAX_NOTE || new.note.chars().any(char::is_control) {
        let description = format!("must have at most {MAX_NOTE} characters and no control characters");
        return Err(Error::invalid("grant.note", description));
    }
    let holder = holder(new.grantee)?;
    Ok(GrantRow {
        max_per_hour: new.max_per_hour,
        max_per_day: new.max_per_day,
        max_total: new.max_total,
        read_only: new.read_only,
        max_sensitivity: new.max_sensitivity.map(|level| level.to_string()),
        expire_time: new.expire_time,
        hours: new.hours.map(|hours| Hours::parse("grant.hours", hours)).transpose()?,
        conditions: condition::parse("grant.conditions", new.conditions)?,
        approver_role: new.approver_role,
        note: new.note,
        ..GrantRow::plain(&caller.team, holder, &new.tool_name, (&caller.agent, now))
    })
}

fn holder(grantee: Option<Grantee>) -> Result<(Option<String>, Option<String>), Error> {
    match grantee {
        None => Err(Error::invalid("grant.grantee", "is not set; set agent_id or specialization")),
        Some(Grantee::Agent(agent)) => {
            names::name("grant.agent_id", &agent)?;
            Ok((Some(agent), None))
        }
        Some(Grantee::Specialization(specialization)) => {
            names::specialization("grant.specialization", &specialization)?;
            if specialization.is_empty() {
                return Err(Error::invalid("grant.specialization", "is empty; name one, or set agent_id"));
            }
            Ok((None, Some(specialization)))
        }
    }
}

/// An agent is there; a specialization is known when an agent has it.
async fn grantee_is_known(database: &Database, grant: &GrantRow) -> Result<(), Error> {
    let (pool, team) = (database.pool()?, grant.team_id.as_str());
    if let Some(agent) = &grant.agent_id {
        store::agent_get(pool, team, agent).await?.ok_or_else(|| Error::no_agent(agent))?;
    }
    if let Some(specialization) = &grant.specialization
        && store::agent_list(pool, team, Some(specialization), None, 1).await?.is_empty()
    {
        let hint = "no agent has it; an admin can make one: toolcrib agents create NAME --specialization SPECIALIZATION";
        return Err(Error::NotFound { what: "specialization", name: specialization.clone(), hint });
    }
    Ok(())
}

/// Revokes a grant of the team. Revoking it again answers the same.
pub(crate) async fn revoke_permission(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    grant: Uuid,
    now: DateTime<Utc>,
) -> Result<ListedGrant, Error> {
    let (pool, team) = (database.pool()?, caller.team.as_str());
    let mut transaction = pool.begin().await.map_err(::store::Error::from)?;
    if let Some((tool, true)) = store::grant_hold(&mut transaction, team, grant).await? {
        let revision = store::revision_next(&mut transaction, team, now).await?;
        store::grant_end(&mut transaction, team, grant, now, revision).await?;
        let message = format!("grant {grant} of {tool} revoked");
        let event = trail::event(Action::PermissionChanged, caller, message);
        trail::record(&mut transaction, &Event { tool_name: tool, ..event }).await?;
        transaction.commit().await.map_err(::store::Error::from)?;
        teams.changed(team, revision);
    } else {
        transaction.rollback().await.map_err(::store::Error::from)?;
    }
    let filter = GrantFilter { grant_id: Some(grant), include_revoked: true, ..GrantFilter::default() };
    let revoked = store::grant_list(pool, team, &filter, Windows::of(now), None, 1).await?.pop();
    let hint = "list them: toolcrib grants list";
    revoked.ok_or_else(|| Error::NotFound { what: "grant", name: grant.to_string(), hint })
}

/// The event of a new grant.
fn told(caller: &Caller, grant: &GrantRow) -> Event {
    let holder = match (&grant.agent_id, &grant.specialization) {
        (Some(agent), _) => format!("agent {agent}"),
        (None, specialization) => {
            format!("specialization {:?}", specialization.as_deref().unwrap_or_default())
        }
    };
    let message = format!("grant {} of {} to {holder} made", grant.grant_id, grant.tool_name);
    Event { tool_name: grant.tool_name.clone(), ..trail::event(Action::PermissionChanged, caller, message) }
}
