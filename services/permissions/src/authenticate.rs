//! Tells who presents a key or a token. Every failure is the same to the one who asks: nothing here may tell it why. The
//! true cause goes to the log and the trail.

use std::{net::IpAddr, sync::Arc};

use ::store::Database;
use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret, SecretString};
use types::{Caller, Role};

use crate::{
    Error, Keys,
    failed_authentications::{FailedAuthentications, Failure},
    scopes,
    store::{self, KeyOwner},
    token::{Claimed, Issuers, NotTaken},
    uses::Uses,
};

/// What is told of a key that looks like none.
const NO_KEY: &str = "an API key";

/// Knows keys and tokens.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub database: Database,
    pub keys: Keys,
    pub issuers: Issuers,
    pub uses: Arc<Uses>,
    pub failures: Arc<FailedAuthentications>,
}

/// Who presented a credential, and when that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub caller: Caller,
    pub expire_time: Option<DateTime<Utc>>,
}

/// Why somebody is nobody.
enum Refused {
    Because(Failure),
    /// Nobody could be asked.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Authenticator {
    /// Whose the credential is, if it is valid now. `peer` is where it came from.
    pub(crate) async fn authenticate(
        &self,
        credential: &SecretString,
        peer: &str,
        now: DateTime<Utc>,
    ) -> Result<Identity, Error> {
        // No key has a dot, and every token has two.
        let is_token = credential.expose_secret().contains('.');
        let found = if is_token {
            self.by_token(credential, now).await
        } else {
            by_key(&self.database, &self.keys, credential, now).await
        };
        match found {
            Ok(identity) => {
                if !is_token {
                    self.uses.note(&identity.caller, now);
                }
                Ok(identity)
            }
            Err(Refused::Failed(error)) => Err(error),
            Err(Refused::Because(failure)) => {
                let peer = peer.parse::<IpAddr>().map(|peer| peer.to_canonical().to_string());
                self.failures.note(Failure { peer: peer.unwrap_or_default(), ..failure });
                Err(Error::Unauthenticated)
            }
        }
    }

    async fn by_token(&self, token: &SecretString, now: DateTime<Utc>) -> Result<Identity, Refused> {
        let claimed = self.issuers.read(token.expose_secret(), now).await.map_err(|not_taken| {
            let NotTaken { cause, token, team } = not_taken;
            Refused::Because(failure(cause, token, (&team, "")))
        })?;
        let because =
            |cause| Refused::Because(failure(cause, claimed.id.clone(), (&claimed.team, &claimed.agent)));
        let agent = store::agent_get(self.database.pool()?, &claimed.team, &claimed.agent).await?;
        let agent = agent.ok_or_else(|| because("its team has no such agent"))?;
        if agent.disabled {
            return Err(because("its agent is disabled"));
        }
        let role = agent.role.parse::<Role>().map_err(|_| because("its agent's role is not known"))?;
        let Claimed { team, user, scopes, id, expire_time, .. } = claimed;
        let caller = Caller {
            team,
            agent: agent.agent_id,
            specialization: agent.specialization,
            role,
            key_id: id,
            scopes,
            user,
            service: None,
        };
        Ok(Identity { caller, expire_time: Some(expire_time) })
    }
}

/// Whether a key is valid now. For a process that kept one.
pub async fn key_is_valid(database: &Database, keys: &Keys, key: &SecretString) -> Result<bool, Error> {
    match by_key(database, keys, key, Utc::now()).await {
        Ok(_) => Ok(true),
        Err(Refused::Because(_)) => Ok(false),
        Err(Refused::Failed(error)) => Err(error),
    }
}

async fn by_key(
    database: &Database,
    keys: &Keys,
    key: &SecretString,
    now: DateTime<Utc>,
) -> Result<Identity, Refused> {
    let unknown = |cause| Refused::Because(failure(cause, NO_KEY.to_owned(), ("", "")));
    let key_id = keys.id_of(key).ok_or_else(|| unknown("it is malformed"))?;
    let owner = store::key_owner_get(database.pool()?, key_id).await?;
    let owner = owner.ok_or_else(|| unknown("it is not known"))?;
    let because =
        |cause| Refused::Because(failure(cause, format!("key {key_id}"), (&owner.team_id, &owner.agent_id)));
    if let Some(cause) = fault(&owner, keys.matches(key, &owner.digest), now) {
        return Err(because(cause));
    }
    let role = owner.role.parse::<Role>().map_err(|_| because("its agent's role is not known"))?;
    let scopes = scopes::kept(&owner.scopes).ok_or_else(|| because("its scopes are not known"))?;
    let caller = Caller {
        team: owner.team_id,
        agent: owner.agent_id,
        specialization: owner.specialization,
        role,
        key_id: key_id.to_owned(),
        scopes,
        user: String::new(),
        service: None,
    };
    Ok(Identity { caller, expire_time: owner.expire_time })
}

/// What makes a known key invalid.
fn fault(owner: &KeyOwner, matches: bool, now: DateTime<Utc>) -> Option<&'static str> {
    match owner {
        _ if !matches => Some("its secret is wrong"),
        KeyOwner { revoke_time: Some(_), .. } => Some("it was revoked"),
        KeyOwner { expire_time: Some(end), .. } if *end <= now => Some("it has ended"),
        KeyOwner { disabled: true, .. } => Some("its agent is disabled"),
        KeyOwner { .. } => None,
    }
}

/// Where it came from is added by who knows.
fn failure(cause: &'static str, credential: String, (team, agent): (&str, &str)) -> Failure {
    Failure { team: team.to_owned(), agent: agent.to_owned(), cause, credential, peer: String::new() }
}
