//! Takes an approval back: from the revision on that it gives, no decision rests on it. What runs already is not stopped,
//! and who asked may ask again.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::Caller;
use uuid::Uuid;

use super::{Refusal, State, decide::announce, list::get, list::unknown, refusal::role, tell, words};
use crate::{
    Error,
    store::{self, AccessRequestRow, RevocationRow},
    teams::Teams,
    webhooks::News,
};

/// What somebody takes back, and why.
#[derive(Debug, Clone)]
pub(crate) struct Revocation {
    pub id: Uuid,
    pub reason: String,
}

/// Revokes, and gives the request as it is then, with the revision from which every decision knows it.
pub(crate) async fn revoke(
    (database, teams): (&Database, &Teams),
    caller: &Caller,
    Revocation { id, reason }: Revocation,
    now: DateTime<Utc>,
) -> Result<(AccessRequestRow, i64), Error> {
    let rules = teams.rules(&caller.team, redact::Added::default());
    let reason = words(&rules, "reason", &reason)?;
    if reason.is_empty() {
        return Err(Error::invalid("reason", "is empty; say why the approval is revoked"));
    }
    let request = get(database, caller, id, now).await?;
    let needed = role(&request.approver_role);
    if caller.role < needed {
        return Err(Refusal::Role { id, needed: needed.as_str() }.into());
    }
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revision = store::revision_next(&mut transaction, &caller.team, now).await?;
    let revoked_by = caller.agent.clone();
    let revocation = RevocationRow { revoked_by, revoke_time: now, reason, revision };
    let revoked = store::access_request_revoke(&mut transaction, &caller.team, id, &revocation).await?;
    let Some(row) = revoked else {
        drop(transaction);
        let row = get(database, caller, id, now).await?;
        return Err(not_in_force(&row).map_or_else(|| unknown(id), Error::from));
    };
    tell(&mut transaction, News::Revoked, &row, Some(caller), now).await?;
    announce(&mut transaction, &row, revision).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(&caller.team, revision);
    Ok((row, revision))
}

/// Why there is nothing to revoke; `None` where it just was in force.
fn not_in_force(request: &AccessRequestRow) -> Option<Refusal> {
    let id = request.request_id;
    if let (Some(revoked_by), Some(revoke_time)) = (&request.revoked_by, request.revoke_time) {
        let (revoked_by, reason) = (revoked_by.clone(), request.revoke_reason.clone());
        return Some(Refusal::AlreadyRevoked { id, revoked_by, revoke_time, reason });
    }
    let by = request.decided_by.as_deref().unwrap_or_default();
    let told = match request.state.as_str() {
        word if word == State::Pending.as_str() => {
            format!("waits for a decision; deny it: toolcrib approvals deny {id}")
        }
        word if word == State::Denied.as_str() => format!("was denied by {by:?}"),
        word if word == State::Expired.as_str() && by.is_empty() => "ended and was not decided".to_owned(),
        word if word == State::Expired.as_str() => {
            format!("was approved by {by:?}, and the approval has ended")
        }
        word if word == State::Approved.as_str() => return None,
        _ => format!("was approved by {by:?} for one call, which it has served"),
    };
    Some(Refusal::NotApproved { id, state: request.state.clone(), told })
}
