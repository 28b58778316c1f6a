//! Gives a credential its next version: because someone asks for it, or because its time has come.

use chrono::{DateTime, Utc};
use types::Caller;

use super::{
    Credentials, check,
    list::Credential,
    put::{Next, Origin},
    secret::Secret,
    source::{Ungiven, Wanted},
};
use crate::{
    Error,
    store::{self, CredentialRow, DueRotation},
    trail,
};

impl Credentials {
    /// Gives a credential its next version, now; without a secret, its source gives it.
    pub(crate) async fn rotate(
        &self,
        caller: &Caller,
        name: String,
        secret: Option<Secret>,
        expire_time: Option<DateTime<Utc>>,
    ) -> Result<Credential, Error> {
        self.0.keys.keys()?;
        if let Some(wrong) = check::name(&name) {
            return Err(Error::Invalid(vec![wrong]));
        }
        let (this, caller) = (self.clone(), caller.clone());
        self.detached(async move {
            let team = caller.team.clone();
            let (secret, origin) = if let Some(secret) = secret {
                (secret, Origin::Operator)
            } else {
                let seen = store::credential_seen(this.0.database.pool()?, &team, &name).await?;
                let asked = this.next_of(&team, &this.row(&team, &name).await?).await;
                let secret = match asked {
                    Ok(secret) => secret,
                    Err(told @ Ungiven::Operator) => {
                        return Err(Error::invalid("secret", format!("is not given: {told}")));
                    }
                    Err(told @ Ungiven::Source(_)) => {
                        let event =
                            trail::credential_failed(&caller, &name, &format!("cannot be rotated: {told}"));
                        store::event_insert(this.0.database.pool()?, event).await?;
                        return Err(ungiven(&name, &told));
                    }
                };
                (secret, Origin::Source { seen, is_due: false })
            };
            let next = Next { caller, name: name.clone(), secret, origin, expire_time, put: None };
            this.add(next).await?;
            this.find(&team, &name).await
        })
        .await
    }

    /// Rotates what is due from its source; gives whether the source had something new.
    pub(super) async fn rotate_due(&self, due: &DueRotation) -> Result<bool, Error> {
        let (team, name) = (due.team_id.as_str(), due.name.as_str());
        let seen = store::credential_seen(self.0.database.pool()?, team, name).await?;
        // What was revoked since the claim does not come back by itself.
        if !seen.as_ref().is_some_and(|seen| seen.is_scheduled) {
            return Ok(false);
        }
        let row = self.row(team, name).await?;
        let secret = self.next_of(team, &row).await.map_err(|told| ungiven(name, &told))?;
        let origin = Origin::Source { seen, is_due: true };
        let (caller, name) = (trail::own(team), name.to_owned());
        self.add(Next { caller, name, secret, origin, expire_time: None, put: None }).await
    }

    async fn row(&self, team: &str, name: &str) -> Result<CredentialRow, Error> {
        let row = store::credential_find(self.0.database.pool()?, team, name).await?;
        row.ok_or_else(|| Error::CredentialNotFound(name.to_owned()))
    }

    async fn next_of(&self, team: &str, row: &CredentialRow) -> Result<Secret, Ungiven> {
        let wanted = Wanted { team, name: &row.name, version: row.last_version + 1 };
        self.ask(&row.rotation.source, wanted).await
    }
}

fn ungiven(name: &str, told: &Ungiven) -> Error {
    Error::CredentialUnavailable {
        name: name.to_owned(),
        why: format!("cannot be rotated: {told}"),
        retry_after: None,
    }
}
