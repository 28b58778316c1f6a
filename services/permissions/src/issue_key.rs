//! Issues and revokes API keys. The key is in the answer and nowhere else.

use ::store::Database;
use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;

use crate::{
    Error, Keys,
    store::{self, NewKeyRow},
};

/// Longest life of a key: ten years, in seconds.
const MAX_TTL_S: i64 = 10 * 365 * 86_400;

/// A key as its owner gets it.
#[derive(Debug)]
pub(crate) struct Issued {
    pub key: SecretString,
    pub key_id: String,
    pub expire_time: Option<DateTime<Utc>>,
}

/// Issues a key for an agent; `ttl_s` is its life in seconds, 0 for no end.
pub(crate) async fn issue_key(
    database: &Database,
    keys: &Keys,
    owner: (&str, &str),
    ttl_s: i64,
    created_by: &str,
    now: DateTime<Utc>,
) -> Result<Issued, Error> {
    let (team, agent) = owner;
    if !(0..=MAX_TTL_S).contains(&ttl_s) {
        let description = format!("is {ttl_s}; it must be 0 (no end) to {MAX_TTL_S} seconds");
        return Err(Error::invalid("ttl_s", description));
    }
    let pool = database.pool()?;
    store::agent_get(pool, team, agent).await?.ok_or_else(|| Error::no_agent(agent))?;
    let expire_time = (ttl_s > 0).then(|| now + TimeDelta::seconds(ttl_s));
    let new = keys.make();
    let row = NewKeyRow {
        key_id: new.id.clone(),
        agent_id: agent.to_owned(),
        digest: new.digest,
        created_by: created_by.to_owned(),
        create_time: now,
        expire_time,
    };
    store::key_insert(pool, team, &row).await?;
    Ok(Issued { key: new.key, key_id: new.id, expire_time })
}

/// Revokes a key of the team, at once. Revoking it again changes nothing.
pub(crate) async fn revoke_key(
    database: &Database,
    team: &str,
    key_id: &str,
    now: DateTime<Utc>,
) -> Result<(), Error> {
    if store::key_revoke(database.pool()?, team, key_id, now).await? {
        return Ok(());
    }
    let hint = "its id is the third part of the key";
    Err(Error::NotFound { what: "API key", name: key_id.to_owned(), hint })
}
