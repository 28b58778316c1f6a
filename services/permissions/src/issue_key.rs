//! Issues and revokes API keys. The key is in the answer and nowhere else, and opens nothing that its issuer's own key
//! does not.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use types::{Caller, Role, Scope};

use crate::{
    Error, Keys, names,
    store::{self, NewKeyRow},
    trail::{self, Action},
};

/// Longest life of a key: ten years, in seconds.
const MAX_TTL_S: i64 = 10 * 365 * 86_400;
/// Most characters of a note.
const MAX_NOTE: usize = 200;

/// A key as its owner gets it.
#[derive(Debug)]
pub(crate) struct Issued {
    pub key: SecretString,
    pub key_id: String,
    pub expire_time: Option<DateTime<Utc>>,
}

/// What a new key is to be.
#[derive(Debug, Clone, Default)]
pub(crate) struct WantedKey {
    pub agent: String,
    /// Its life in seconds; 0: no end.
    pub ttl_s: i64,
    /// None: all that the agent's role may.
    pub scopes: Vec<Scope>,
    pub note: String,
}

/// Issues a key for an agent of the caller's team.
pub(crate) async fn issue_key(
    database: &Database,
    keys: &Keys,
    caller: &Caller,
    wanted: WantedKey,
    now: DateTime<Utc>,
) -> Result<Issued, Error> {
    check_ttl("ttl_s", wanted.ttl_s)?;
    names::text("note", &wanted.note, MAX_NOTE)?;
    let pool = database.pool()?;
    let agent = store::agent_get(pool, &caller.team, &wanted.agent).await?;
    let agent = agent.ok_or_else(|| Error::no_agent(&wanted.agent))?;
    check_bounds(caller, &agent.role, &wanted.scopes)?;
    let mut transaction = pool.begin().await.map_err(::store::Error::from)?;
    let issued = make_key(&mut transaction, keys, caller, wanted, now).await?;
    let message = format!("key {} of agent {} issued", issued.key_id, agent.agent_id);
    trail::record(&mut transaction, &trail::event(Action::IdentityChanged, caller, message)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(issued)
}

/// Makes a key and keeps its digest.
pub(crate) async fn make_key(
    connection: &mut store::Connection,
    keys: &Keys,
    caller: &Caller,
    mut wanted: WantedKey,
    now: DateTime<Utc>,
) -> Result<Issued, Error> {
    let expire_time = (wanted.ttl_s > 0).then(|| now + TimeDelta::seconds(wanted.ttl_s));
    wanted.scopes.sort_unstable();
    wanted.scopes.dedup();
    let new = keys.make();
    let row = NewKeyRow {
        key_id: new.id.clone(),
        agent_id: wanted.agent,
        digest: new.digest,
        scopes: wanted.scopes.iter().map(|scope| scope.as_str().to_owned()).collect(),
        note: wanted.note,
        created_by: caller.agent.clone(),
        create_time: now,
        expire_time,
    };
    store::key_insert(connection, &caller.team, &row).await?;
    Ok(Issued { key: new.key, key_id: new.id, expire_time })
}

/// Checks how long a key is to be valid.
pub(crate) fn check_ttl(field: &str, ttl_s: i64) -> Result<(), Error> {
    if (0..=MAX_TTL_S).contains(&ttl_s) {
        return Ok(());
    }
    let description = format!("is {ttl_s}; it must be 0 (see the contract) to {MAX_TTL_S} seconds");
    Err(Error::invalid(field, description))
}

/// Refuses a key that would open more than its issuer's: an agent of a higher role, or scopes that the issuer's own key
/// does not have.
pub(crate) fn check_bounds(caller: &Caller, role: &str, scopes: &[Scope]) -> Result<(), Error> {
    // A role of a later version is above all that are known.
    if !role.parse::<Role>().is_ok_and(|role| role <= caller.role) {
        return Err(Error::RoleExceeded { needed: role.to_owned() });
    }
    if caller.scopes.is_empty() {
        return Ok(());
    }
    let missing: Vec<&str> = if scopes.is_empty() {
        Scope::ALL.into_iter().filter(|scope| !caller.has_scope(*scope)).map(Scope::as_str).collect()
    } else {
        scopes.iter().filter(|scope| !caller.has_scope(**scope)).map(|scope| scope.as_str()).collect()
    };
    if missing.is_empty() {
        return Ok(());
    }
    let own = caller.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(", ");
    Err(Error::ScopesExceeded { missing: missing.join(", "), own })
}

/// Revokes a key of the caller's team, at once. Revoking it again changes nothing.
pub(crate) async fn revoke_key(
    database: &Database,
    caller: &Caller,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    let revoked = store::key_revoke(&mut transaction, &caller.team, key_id, now).await?;
    let (agent, is_new) = revoked.ok_or_else(|| Error::no_key(key_id))?;
    if is_new {
        let message = format!("key {key_id} of agent {agent} revoked");
        trail::record(&mut transaction, &trail::event(Action::IdentityChanged, caller, message)).await?;
    }
    transaction.commit().await.map_err(::store::Error::from)?;
    Ok(())
}
