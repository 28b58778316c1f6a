//! Rotates an API key: issues another with the same agent and scopes, and lets the old one live on for a while, so that
//! whoever presents it can change over without a pause. The old one never lives longer than it would have.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use types::Caller;

use crate::{
    Error, Keys,
    issue_key::{Issued, WantedKey, check_bounds, check_ttl, make_key},
    scopes,
    store::{self, HeldKey},
    trail::{self, Action},
};

/// How long both keys are valid when it is not said, in seconds: a day.
const DEFAULT_OVERLAP_S: i64 = 86_400;
/// Longest that both may be valid, in seconds: 30 days.
const MAX_OVERLAP_S: i64 = 30 * 86_400;

/// A key in place of another.
#[derive(Debug)]
pub(crate) struct Rotated {
    pub new: Issued,
    /// When the old key ends.
    pub old_expire_time: DateTime<Utc>,
}

/// Issues a key in place of one of the caller's team. `overlap_s` and `ttl_s` are as in the contract.
pub(crate) async fn rotate_key(
    database: &Database,
    keys: &Keys,
    caller: &Caller,
    key_id: &str,
    (overlap_s, ttl_s): (i64, i64),
    now: DateTime<Utc>,
) -> Result<Rotated, Error> {
    if !(0..=MAX_OVERLAP_S).contains(&overlap_s) {
        let description = format!("is {overlap_s}; it must be 0 (a day) to {MAX_OVERLAP_S} seconds");
        return Err(Error::invalid("overlap_s", description));
    }
    check_ttl("ttl_s", ttl_s)?;
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let held = store::key_hold(&mut transaction, &caller.team, key_id).await?;
    let held = held.ok_or_else(|| Error::no_key(key_id))?;
    check_live(key_id, &held, now)?;
    if let Some(by) = &held.replaced_by
        && store::key_is_live(&mut transaction, &caller.team, by, now).await?
    {
        let why =
            format!("was rotated already, and key {by} is valid in its place: rotate or revoke that one");
        return Err(not_rotatable(key_id, &why));
    }
    let agent = store::agent_hold(&mut transaction, &caller.team, &held.agent_id).await?;
    let (agent, _) = agent.ok_or_else(|| Error::no_agent(&held.agent_id))?;
    // A key whose scopes are all of a later version can be read by no process of this one.
    let scopes =
        scopes::kept(&held.scopes).ok_or_else(|| not_rotatable(key_id, "has scopes not known here"))?;
    check_bounds(caller, &agent.role, &scopes)?;
    let life_s = life_s(&held);
    let overlap = TimeDelta::seconds(if overlap_s == 0 { DEFAULT_OVERLAP_S } else { overlap_s });
    let old_expire_time = held.expire_time.map_or(now + overlap, |end| end.min(now + overlap));
    let wanted = WantedKey {
        agent: held.agent_id,
        ttl_s: if ttl_s == 0 { life_s } else { ttl_s },
        scopes,
        note: held.note,
    };
    let new = make_key(&mut transaction, keys, caller, wanted, now).await?;
    store::key_replace(&mut transaction, &caller.team, key_id, &new.key_id, old_expire_time, life_s).await?;
    let message = format!(
        "key {key_id} of agent {} rotated: {} takes its place, and it ends {}",
        agent.agent_id,
        new.key_id,
        old_expire_time.to_rfc3339()
    );
    trail::record(&mut transaction, &trail::event(Action::IdentityChanged, caller, message)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(Rotated { new, old_expire_time })
}

/// How long the key was valid from its issue, in seconds; 0: without end.
fn life_s(held: &HeldKey) -> i64 {
    let between = |end: DateTime<Utc>| (end - held.create_time).num_seconds().max(1);
    held.life_s.unwrap_or_else(|| held.expire_time.map_or(0, between))
}

fn check_live(key_id: &str, held: &HeldKey, now: DateTime<Utc>) -> Result<(), Error> {
    if held.revoke_time.is_some() {
        return Err(not_rotatable(key_id, "was revoked; issue another"));
    }
    if held.expire_time.is_some_and(|end| end <= now) {
        return Err(not_rotatable(key_id, "has ended; issue another"));
    }
    Ok(())
}

fn not_rotatable(key_id: &str, why: &str) -> Error {
    Error::NotRotatable { key_id: key_id.to_owned(), why: why.to_owned() }
}
