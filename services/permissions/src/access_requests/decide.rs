//! Approves or denies an access request: once, by somebody else, of the role that it takes, who saw what it is for.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use proto::permissions::v1 as wire;
use types::Caller;
use uuid::Uuid;

use super::{
    Refusal, State,
    list::{get, unknown},
    refusal::role,
    standing, tell,
    tool::Registry,
    words,
};
use crate::{
    Error, condition,
    store::{self, AccessRequestRow, DecisionRow},
    teams::Teams,
    webhooks::News,
};

/// How long an approval serves where the decision does not say.
const TTL: TimeDelta = TimeDelta::hours(1);
/// The longest that it may.
const MAX_TTL: TimeDelta = TimeDelta::days(90);

/// What somebody decides.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    pub id: Uuid,
    pub approve: bool,
    pub scope: wire::ApprovalScope,
    pub conditions: Vec<wire::ArgumentCondition>,
    pub ttl_s: i64,
    pub reason: String,
    pub arguments_digest: String,
}

/// Decides, and gives the request as it is then, with the revision from which every decision knows it.
pub(crate) async fn decide(
    (database, teams, registry): (&Database, &Teams, Registry<'_>),
    caller: &Caller,
    verdict: Verdict,
    now: DateTime<Utc>,
) -> Result<(AccessRequestRow, i64), Error> {
    let (id, approve) = (verdict.id, verdict.approve);
    let request = get(database, caller, id, now).await?;
    check_decider(caller, &request)?;
    if let Some(refusal) = closed(&request) {
        return Err(refusal.into());
    }
    if verdict.arguments_digest != request.arguments_digest {
        return Err(Refusal::OtherArguments { id }.into());
    }
    let rules = teams.rules(&caller.team, redact::Added::default());
    let decision = checked(caller, &rules, verdict, now)?;
    if approve {
        check_definition(registry, caller, &request).await?;
    }
    let decided = write(database, caller, (id, decision), now).await?;
    let Some((row, revision)) = decided else {
        // Somebody else was faster, or its time ran out meanwhile.
        let row = get(database, caller, id, now).await?;
        return Err(closed(&row).map_or_else(|| unknown(id), Error::from));
    };
    teams.changed(&caller.team, revision);
    Ok((standing(row, now), revision))
}

/// In one transaction with what tells of it. `None`: it does not wait any more.
async fn write(
    database: &Database,
    caller: &Caller,
    (id, decision): (Uuid, DecisionRow),
    now: DateTime<Utc>,
) -> Result<Option<(AccessRequestRow, i64)>, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revision = store::revision_next(&mut transaction, &caller.team, now).await?;
    let decision = DecisionRow { revision, ..decision };
    let decided = store::access_request_decide(&mut transaction, &caller.team, id, &decision).await?;
    let Some(row) = decided else { return Ok(None) };
    let news = if row.state == State::Approved.as_str() { News::Approved } else { News::Denied };
    tell(&mut transaction, news, &row, Some(caller), now).await?;
    announce(&mut transaction, &row, revision).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(Some((row, revision)))
}

/// Wakes whoever waits for it, in every process, once the transaction is committed.
pub(super) async fn announce(
    connection: &mut store::Connection,
    row: &AccessRequestRow,
    revision: i64,
) -> Result<(), Error> {
    let serves_others = row.state == State::Approved.as_str() && row.scope.as_deref() != Some("once");
    let decided = store::Decided {
        team: row.team_id.clone(),
        id: row.request_id,
        revision,
        others: serves_others.then(|| (row.agent_id.clone(), row.tool_name.clone())),
    };
    Ok(store::decided_tell(connection, &decided).await?)
}

/// Neither the agent that asks nor the person it acts for, under whichever name they come back.
fn check_decider(caller: &Caller, request: &AccessRequestRow) -> Result<(), Refusal> {
    let needed = role(&request.approver_role);
    let (agent, user) = (&request.agent_id, &request.end_user);
    let is_user = !user.is_empty() && (*user == caller.user || *user == caller.agent);
    if *agent == caller.agent || *agent == caller.user || is_user {
        return Err(Refusal::Own { role: needed.as_str() });
    }
    if caller.role < needed {
        return Err(Refusal::Role { id: request.request_id, needed: needed.as_str() });
    }
    Ok(())
}

/// Why a request cannot be decided any more; `None` while it waits.
fn closed(request: &AccessRequestRow) -> Option<Refusal> {
    let (id, expire_time) = (request.request_id, request.expire_time);
    match (&request.decided_by, request.decide_time) {
        (Some(decided_by), Some(decide_time)) => {
            let (state, reason) = (told(request), request.decision_reason.as_str());
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            Some(Refusal::AlreadyDecided { id, state, decided_by: decided_by.clone(), decide_time, reason })
        }
        _ if request.state == State::Expired.as_str() => Some(Refusal::Expired { id, expire_time }),
        _ => None,
    }
}

/// What was decided, in words, whatever became of it since.
fn told(request: &AccessRequestRow) -> String {
    match request.scope.as_deref() {
        None => "denied".to_owned(),
        Some("once") => "approved for one call".to_owned(),
        Some("arguments") => "approved for calls whose arguments meet its conditions".to_owned(),
        Some(_) => "approved for all calls of the tool".to_owned(),
    }
}

/// The decision as it is written.
fn checked(
    caller: &Caller,
    rules: &redact::Rules,
    verdict: Verdict,
    now: DateTime<Utc>,
) -> Result<DecisionRow, Error> {
    let reason = words(rules, "reason", &verdict.reason)?;
    let denial = DecisionRow {
        state: State::Denied.as_str(),
        decided_by: caller.agent.clone(),
        decided_role: caller.role.as_str(),
        decide_time: now,
        reason,
        scope: None,
        conditions: Vec::new(),
        expire_time: None,
        revision: 0,
    };
    if !verdict.approve {
        if denial.reason.is_empty() {
            return Err(Error::invalid("reason", "is empty; say why it is denied"));
        }
        return Ok(denial);
    }
    let conditions = condition::parse("conditions", verdict.conditions)?;
    let scope = match verdict.scope {
        wire::ApprovalScope::Once => "once",
        wire::ApprovalScope::Tool => "tool",
        wire::ApprovalScope::Arguments if conditions.is_empty() => {
            return Err(Error::invalid("conditions", "is empty; give 1 to 32, or another scope"));
        }
        wire::ApprovalScope::Arguments => "arguments",
        wire::ApprovalScope::Unspecified => {
            return Err(Error::invalid("scope", "is not set; choose ONCE, ARGUMENTS or TOOL"));
        }
    };
    if scope != "arguments" && !conditions.is_empty() {
        return Err(Error::invalid("conditions", "are for scope ARGUMENTS alone; leave them out"));
    }
    let expire_time = Some(now + ttl(verdict.ttl_s)?);
    Ok(DecisionRow { state: State::Approved.as_str(), scope: Some(scope), conditions, expire_time, ..denial })
}

fn ttl(seconds: i64) -> Result<TimeDelta, Error> {
    let most = MAX_TTL.num_seconds();
    match seconds {
        0 => Ok(TTL),
        1.. if seconds <= most => Ok(TimeDelta::seconds(seconds)),
        _ => Err(Error::invalid("ttl_s", format!("is {seconds}; it must be 1 to {most}, or 0 for an hour"))),
    }
}

/// What is approved is what was asked for: not a definition that came after it.
async fn check_definition(
    registry: Registry<'_>,
    caller: &Caller,
    request: &AccessRequestRow,
) -> Result<(), Error> {
    let serving = registry.serving(caller, &request.tool_name).await?;
    if serving.digest == request.tool_digest {
        return Ok(());
    }
    Err(Refusal::DefinitionChanged { tool: request.tool_name.clone(), serving: serving.digest }.into())
}
