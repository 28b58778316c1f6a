//! Tells who presents a key. Every failure is the same to the one who asks: nothing here may tell why.

use ::store::Database;
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use types::{Caller, Role};

use crate::{Error, Keys, store};

/// Whom the key belongs to, if it is valid now.
pub(crate) async fn authenticate(
    database: &Database,
    keys: &Keys,
    key: &SecretString,
    now: DateTime<Utc>,
) -> Result<Caller, Error> {
    let key_id = keys.id_of(key).ok_or(Error::Unauthenticated)?;
    let owner = store::key_owner_get(database.pool()?, key_id).await?.ok_or(Error::Unauthenticated)?;
    let live = owner.revoke_time.is_none() && owner.expire_time.is_none_or(|end| now < end);
    if !keys.matches(key, &owner.digest) || !live || owner.disabled {
        return Err(Error::Unauthenticated);
    }
    Ok(Caller {
        team: owner.team_id,
        agent: owner.agent_id,
        specialization: owner.specialization,
        role: owner.role.parse::<Role>().map_err(|_| Error::Unauthenticated)?,
        key_id: key_id.to_owned(),
        scopes: Vec::new(),
        user: String::new(),
        service: None,
    })
}

/// Whether a key is valid now. For a process that kept one.
pub async fn key_is_valid(database: &Database, keys: &Keys, key: &SecretString) -> Result<bool, Error> {
    match authenticate(database, keys, key, Utc::now()).await {
        Ok(_) => Ok(true),
        Err(Error::Unauthenticated) => Ok(false),
        Err(other) => Err(other),
    }
}
