//! Access requests: an agent asks for a call that it may not make by itself, somebody else approves or denies it. What
//! was approved holds for that agent and that definition of the tool alone, and not a moment longer than it says.

mod decide;
mod expire;
mod list;
mod purge;
mod refusal;
mod request;
mod revoke;
mod tool;
mod watch;

use chrono::{DateTime, Utc};
use proto::audit::v1::Result as Outcome;
use serde_json::Value;
use types::{Caller, Role};
use uuid::Uuid;

pub(crate) use decide::{Verdict, decide};
pub(crate) use expire::keep_swept;
#[cfg(test)]
pub(crate) use expire::sweep;
pub(crate) use list::{get, list};
pub(crate) use purge::keep_purged;
#[cfg(test)]
pub(crate) use purge::purge;
pub use refusal::Refusal;
pub(crate) use request::{NewAccessRequest, request};
pub(crate) use revoke::{Revocation, revoke};
pub(crate) use tool::Registry;
pub(crate) use watch::Decisions;

use crate::{
    Error,
    condition::{Condition, unmet},
    decide::{Arguments, Particulars},
    store::{self, AccessRequestRow},
    trail::{self, Action, Event},
    webhooks::{self, News, Subject},
};

/// Most characters of what somebody says: why access is needed, and why it is denied.
const MAX_WORDS: usize = 1_000;

/// What became of an access request; the names are those of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Approved,
    Denied,
    Expired,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

/// An access request that was approved, as decisions rest on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Approval {
    /// Of the access request; also of the counter from which an approval for one call takes its only place.
    pub id: Uuid,
    pub agent_id: String,
    /// The end user that the agent acts for; empty: none. It serves no call for another, nor for none.
    pub user: String,
    pub tool_name: String,
    pub tool_digest: String,
    pub scope: Scope,
    pub expire_time: DateTime<Utc>,
    /// Of whoever approved it: it serves no grant that asks for a higher one.
    pub role: Role,
    /// Whether it allows the call by itself: it was approved as one that no grant allows.
    pub is_grant: bool,
}

/// What an approval allows.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scope {
    /// One call with exactly these arguments.
    Once { arguments_digest: String },
    /// Calls whose arguments meet these.
    Arguments { conditions: Vec<Condition> },
    /// Calls with any arguments.
    Tool,
}

impl Approval {
    /// That of an access request; `None` where it is not approved, or in words that this version does not know.
    pub(crate) fn of(row: AccessRequestRow) -> Option<Self> {
        if row.state != State::Approved.as_str() {
            return None;
        }
        let scope = match row.scope?.as_str() {
            "once" => Scope::Once { arguments_digest: row.arguments_digest },
            "arguments" => Scope::Arguments { conditions: row.conditions.0 },
            "tool" => Scope::Tool,
            _ => return None,
        };
        Some(Self {
            id: row.request_id,
            agent_id: row.agent_id,
            user: row.end_user,
            tool_name: row.tool_name,
            tool_digest: row.tool_digest,
            scope,
            expire_time: row.expire_time,
            role: row.decided_role?.parse().ok()?,
            is_grant: row.is_grant,
        })
    }

    /// Whether it is for one call only.
    pub(crate) fn is_once(&self) -> bool {
        matches!(self.scope, Scope::Once { .. })
    }

    fn admits(&self, arguments_digest: &str, arguments: Option<&Value>) -> bool {
        match &self.scope {
            Scope::Once { arguments_digest: approved } => {
                !approved.is_empty() && approved == arguments_digest
            }
            Scope::Arguments { conditions } => {
                !conditions.is_empty() && unmet(conditions, arguments).is_empty()
            }
            Scope::Tool => true,
        }
    }
}

/// The approval that serves a call at this time, if there is one: of several one that lasts, and else the oldest.
pub(crate) fn serving<'a>(approvals: &'a [Approval], call: &Particulars<'_>) -> Option<&'a Approval> {
    let arguments = match call.arguments {
        Arguments::NotYet => None,
        Arguments::Given(arguments) => arguments,
    };
    let serves = |approval: &&Approval| {
        approval.agent_id == call.agent
            && approval.user == call.user
            && approval.tool_name == call.tool
            && !call.tool_digest.is_empty()
            && approval.tool_digest == call.tool_digest
            && call.now < approval.expire_time
            && approval.admits(call.arguments_digest, arguments)
    };
    approvals.iter().filter(serves).min_by_key(|approval| (approval.is_once(), approval.id))
}

/// An access request as it stands at this time: what is past it has ended, also where nobody wrote that yet.
fn standing(row: AccessRequestRow, now: DateTime<Utc>) -> AccessRequestRow {
    let is_open = row.state == State::Pending.as_str() || row.state == State::Approved.as_str();
    if is_open && row.expire_time <= now {
        return AccessRequestRow { state: State::Expired.as_str().to_owned(), ..row };
    }
    row
}

/// What somebody says, on one line and without secrets.
fn words(rules: &redact::Rules, field: &str, text: &str) -> Result<String, Error> {
    if text.chars().count() > MAX_WORDS {
        return Err(Error::invalid(field, format!("has more than {MAX_WORDS} characters")));
    }
    let visible: String =
        text.chars().map(|c| if c.is_control() || types::is_hidden(c) { ' ' } else { c }).collect();
    Ok(rules.text(visible.trim()))
}

/// Tells the trail and the team's webhooks what happened to a request, in the transaction in which it does: in the
/// name of whoever did it, or of the agent that asked where time did.
async fn tell(
    connection: &mut store::Connection,
    news: News,
    row: &AccessRequestRow,
    by: Option<&Caller>,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let subject = Subject {
        id: row.request_id,
        team_id: &row.team_id,
        agent_id: &row.agent_id,
        user: &row.end_user,
        tool_name: &row.tool_name,
        tool_digest: &row.tool_digest,
        justification: &row.justification,
        approver_role: &row.approver_role,
        decided_by: row.decided_by.as_deref().unwrap_or_default(),
        decision_reason: &row.decision_reason,
        revoked_by: row.revoked_by.as_deref().unwrap_or_default(),
        revoke_reason: &row.revoke_reason,
        execution_id: row.execution_id,
        expire_time: Some(row.expire_time),
    };
    webhooks::enqueue(connection, news, &subject, now).await?;
    let own = Caller {
        team: row.team_id.clone(),
        agent: row.agent_id.clone(),
        user: row.end_user.clone(),
        ..Caller::service("permissions")
    };
    let (id, agent, reason) = (row.request_id, &row.agent_id, &row.decision_reason);
    let (result, message) = match news {
        News::Created => (Outcome::Success, format!("access request {id} was made: {}", row.justification)),
        News::Approved => {
            (Outcome::Success, format!("access request {id} of {agent} was approved: {reason}"))
        }
        News::Denied => (Outcome::Denied, format!("access request {id} of {agent} was denied: {reason}")),
        News::Expired => (Outcome::Denied, format!("access request {id} has ended")),
        News::Used => (Outcome::Success, format!("access request {id} has served its one call")),
        News::Revoked => {
            let told =
                format!("the approval of access request {id} of {agent} was revoked: {}", row.revoke_reason);
            (Outcome::Denied, told)
        }
    };
    let event = Event {
        tool_name: row.tool_name.clone(),
        execution_id: row.execution_id.map(|id| id.to_string()).unwrap_or_default(),
        result: result.into(),
        ..trail::event(Action::AccessDecided, by.unwrap_or(&own), message)
    };
    Ok(trail::record(connection, &event).await?)
}

#[cfg(test)]
mod tests;
