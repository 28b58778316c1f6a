//! Takes an access request, or answers with the one that is open for the same call. It promises nothing: who may
//! decide it, and whether an approval would help at all, is looked up here; what it allows is decided upon later.

use ::rpc::ErrorReason;
use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;
use types::{Caller, Role};
use uuid::Uuid;

use super::{
    Refusal, State, tell,
    tool::{Registry, Serving},
    words,
};
use crate::{
    Error,
    authorize::Desk,
    decide::{Arguments, Decided, Particulars, candidates, decide},
    names,
    policies::{Budget, Call},
    store::{self, AccessRequestRow, Windows},
    webhooks::News,
};

/// How long a request waits where it does not say.
const TTL: TimeDelta = TimeDelta::days(1);
/// Shortest and longest that it may. What waits is counted: shorter ones would not be.
const LEAST_TTL_S: i64 = 60;
const MAX_TTL: TimeDelta = TimeDelta::days(7);
/// Most requests of an agent that wait.
const MAX_OF_AGENT: i64 = 100;
/// Most requests of a team that wait.
const MAX_OF_TEAM: i64 = 1_000;
/// Largest sanitised arguments that are kept, in bytes of JSON text.
const MAX_ARGUMENTS: usize = 64 * 1024;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewAccessRequest {
    pub tool_name: String,
    /// Empty: that of the version that serves.
    pub tool_digest: String,
    /// As they will be sent; sanitised where a service gives the digest beside them.
    pub arguments_json: String,
    pub arguments_digest: String,
    pub justification: String,
    pub ttl_s: i64,
    pub execution_id: Option<Uuid>,
    /// Who may decide it, where a service was told.
    pub approver_role: Option<Role>,
}

/// What is told of a call that needs no approval.
const ALLOWED: &str = "names a tool of which the grants allow this call already; make it";

/// What a call needs.
#[derive(Debug)]
enum Need {
    /// An approval of this role, which allows the call by itself where no grant does.
    Approval { role: Role, is_grant: bool },
    /// This one has been approved, and serves it.
    Nothing(Box<AccessRequestRow>),
}

/// Asks for access in the caller's name.
pub(crate) async fn request(
    (database, desk, registry): (&Database, &Desk, Registry<'_>),
    caller: &Caller,
    new: NewAccessRequest,
    now: DateTime<Utc>,
) -> Result<AccessRequestRow, Error> {
    let expire_time = now + checked(caller, &new)?;
    let rules = desk.teams.rules(&caller.team, redact::Added::default());
    let justification = words(&rules, "justification", &new.justification)?;
    let (need, wanted) = match new.approver_role.filter(|_| caller.is_service()) {
        // Permissions itself has told, a moment ago and of this very call.
        Some(role) => (Need::Approval { role, is_grant: false }, of_service(new)?),
        None => looked_up((database, desk, registry), caller, new, now).await?,
    };
    let (role, is_grant) = match need {
        Need::Approval { role, is_grant } => (role, is_grant),
        Need::Nothing(approved) => return Ok(*approved),
    };
    let row = AccessRequestRow {
        team_id: caller.team.clone(),
        request_id: types::new_id(),
        agent_id: caller.agent.clone(),
        end_user: caller.user.clone(),
        tool_name: wanted.tool_name,
        tool_digest: wanted.tool_digest,
        arguments_digest: wanted.arguments_digest,
        arguments_json: wanted.arguments_json,
        justification,
        approver_role: role.as_str().to_owned(),
        is_grant,
        execution_id: wanted.execution_id,
        state: State::Pending.as_str().to_owned(),
        create_time: now,
        expire_time,
        decided_by: None,
        decided_role: None,
        decide_time: None,
        decision_reason: String::new(),
        scope: None,
        conditions: store::Conditions::default(),
        revision: 0,
        revoked_by: None,
        revoke_time: None,
        revoke_reason: String::new(),
    };
    keep(database, caller, row, now).await
}

/// How long it waits, once all that need not be looked up is right.
fn checked(caller: &Caller, new: &NewAccessRequest) -> Result<TimeDelta, Error> {
    names::tool("tool_name", &new.tool_name)?;
    names::digest("tool_digest", &new.tool_digest)?;
    if new.justification.trim().is_empty() && !caller.is_service() {
        return Err(Error::invalid("justification", "is empty; say why the call is needed"));
    }
    for (field, is_set) in [
        ("arguments_digest", !new.arguments_digest.is_empty()),
        ("execution_id", new.execution_id.is_some()),
        ("approver_role", new.approver_role.is_some()),
    ] {
        if is_set && !caller.is_service() {
            return Err(Error::invalid(field, "is for services of the suite; leave it out"));
        }
    }
    let most = MAX_TTL.num_seconds();
    match new.ttl_s {
        0 => Ok(TTL),
        LEAST_TTL_S.. if new.ttl_s <= most => Ok(TimeDelta::seconds(new.ttl_s)),
        _ => Err(Error::invalid(
            "ttl_s",
            format!("is {}; it must be {LEAST_TTL_S} to {most}, or 0 for a day", new.ttl_s),
        )),
    }
}

/// A request of a service that knows the definition, and has sanitised the arguments.
fn of_service(new: NewAccessRequest) -> Result<NewAccessRequest, Error> {
    if new.tool_digest.is_empty() {
        return Err(Error::invalid("tool_digest", "is not set"));
    }
    let is_digest =
        new.arguments_digest.len() == 64 && new.arguments_digest.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_digest {
        return Err(Error::invalid("arguments_digest", "is not the SHA-256 of the arguments, in hex"));
    }
    if new.arguments_json.len() > 2 * MAX_ARGUMENTS {
        return Err(Error::invalid("arguments_json", format!("has more than {MAX_ARGUMENTS} bytes")));
    }
    Ok(new)
}

/// A request of an agent: for the version that serves, with the digest of these arguments.
async fn looked_up(
    (database, desk, registry): (&Database, &Desk, Registry<'_>),
    caller: &Caller,
    new: NewAccessRequest,
    now: DateTime<Utc>,
) -> Result<(Need, NewAccessRequest), Error> {
    let text = if new.arguments_json.trim().is_empty() { "{}" } else { &new.arguments_json };
    let arguments: Value = serde_json::from_str(text)
        .map_err(|error| Error::invalid("arguments_json", format!("is not JSON: {error}")))?;
    if !arguments.is_object() {
        return Err(Error::invalid("arguments_json", "must be a JSON object"));
    }
    let serving = registry.serving(caller, &new.tool_name).await?;
    if !new.tool_digest.is_empty() && new.tool_digest != serving.digest {
        return Err(Refusal::DefinitionChanged { tool: new.tool_name, serving: serving.digest }.into());
    }
    let arguments_digest = if new.arguments_digest.is_empty() {
        types::digest_json(&arguments).map_err(|error| Error::invalid("arguments_json", error.to_string()))?
    } else {
        new.arguments_digest
    };
    let need = need((database, desk), caller, &serving, (&arguments, &arguments_digest), now).await?;
    let schema: Option<Value> = serde_json::from_str(&serving.input_schema_json).ok();
    let rules = desk.teams.rules(&caller.team, serving.redaction);
    let wanted = NewAccessRequest {
        tool_digest: serving.digest,
        arguments_json: rules.json(&arguments, schema.as_ref(), MAX_ARGUMENTS),
        arguments_digest,
        ..new
    };
    Ok((need, wanted))
}

/// Who decides on a call that this agent may not make now.
async fn need(
    (database, desk): (&Database, &Desk),
    caller: &Caller,
    serving: &Serving,
    (arguments, arguments_digest): (&Value, &str),
    now: DateTime<Utc>,
) -> Result<Need, Error> {
    let tool = serving.facts.name.as_str();
    let standings = desk.teams.standings(&caller.team, &caller.agent, &[tool], 0).await?;
    let standing = standings.and_then(|mut standings| standings.pop());
    let mut standing = standing.ok_or_else(|| Error::no_agent(&caller.agent))?;
    let particulars = Particulars {
        team: &caller.team,
        agent: &caller.agent,
        user: &caller.user,
        tool,
        tool_digest: &serving.digest,
        arguments_digest,
        // Of sanitised arguments nobody can tell whether they meet a condition.
        arguments: if caller.is_service() { Arguments::NotYet } else { Arguments::Given(Some(arguments)) },
        now,
    };
    let pool = database.pool()?;
    let grants: Vec<Uuid> = standing.grants.iter().map(|grant| grant.grant_id).collect();
    let used = store::grants_used(pool, &caller.team, Some(&caller.agent), &grants, Windows::of(now)).await?;
    loop {
        let candidates = candidates(&standing.grants, &standing.approvals, &used, &particulars);
        let call = Call { user: &caller.user, arguments: Some(arguments), budget: Budget::NONE, now };
        let sides = (&standing.agent, &serving.facts);
        match decide(&desk.policies, sides, call, Some(&standing.policies), &candidates) {
            Decided::Allowed { index, .. } => {
                let approval = index.and_then(|index| candidates[index].approval);
                let Some(served) = approval else { return Err(Error::invalid("tool_name", ALLOWED)) };
                let row = store::access_request_get(pool, &caller.team, served.id).await?;
                if let Some(row) = row.filter(|row| row.state == State::Approved.as_str()) {
                    return Ok(Need::Nothing(Box::new(row)));
                }
                // It has served, and that is not known here yet.
                standing.approvals.retain(|approval| approval.id != served.id);
            }
            Decided::Denied { reason, index, policies } => {
                let nearest = index.and_then(|index| candidates[index].grant.approver_role);
                return denied(reason, nearest, &policies);
            }
        }
    }
}

/// Who can lift a denial.
fn denied(reason: ErrorReason, nearest: Option<Role>, policies: &[String]) -> Result<Need, Error> {
    let useless = |message: String| Err(Refusal::Useless { reason, message }.into());
    match (reason, nearest) {
        (ErrorReason::ApprovalRequired, Some(role)) => Ok(Need::Approval { role, is_grant: false }),
        (ErrorReason::AgentDisabled, _) => useless("the agent is disabled; an admin can enable it".into()),
        (ErrorReason::PolicyDenied, _) => useless(format!(
            "the team's policies forbid it ({}); an admin can change them",
            policies.join(", ")
        )),
        (ErrorReason::Internal, _) => useless("the policies could not be evaluated".into()),
        _ => Ok(Need::Approval { role: Role::Admin, is_grant: true }),
    }
}

/// Writes it, unless the same is open: then that one is given. The team is held, so that the bounds are exact.
async fn keep(
    database: &Database,
    caller: &Caller,
    row: AccessRequestRow,
    now: DateTime<Utc>,
) -> Result<AccessRequestRow, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    store::team_hold(&mut transaction, &row.team_id).await?;
    if let Some(open) = store::access_request_find(&mut transaction, &row).await? {
        if open.expire_time > now {
            let completed = (row.justification.as_str(), row.execution_id);
            let open =
                store::access_request_complete(&mut transaction, &row.team_id, open.request_id, completed)
                    .await?;
            transaction.commit().await.map_err(::store::Error::from)?;
            return Ok(open);
        }
        store::access_request_end(&mut transaction, &open).await?;
        tell(&mut transaction, News::Expired, &open, None, now).await?;
    }
    let (of_agent, of_team) =
        store::access_requests_count(&mut transaction, &row.team_id, &row.agent_id, now).await?;
    if of_agent >= MAX_OF_AGENT {
        let whose = format!("agent {:?}", row.agent_id);
        return Err(Refusal::TooMany { whose, most: MAX_OF_AGENT }.into());
    }
    if of_team >= MAX_OF_TEAM {
        return Err(Refusal::TooMany { whose: format!("team {:?}", row.team_id), most: MAX_OF_TEAM }.into());
    }
    store::access_request_insert(&mut transaction, &row).await?;
    tell(&mut transaction, News::Created, &row, Some(caller), now).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(row)
}
