//! Ends versions of a credential at once; what was sealed in them is destroyed.

use types::Caller;

use super::{Credentials, check, check::violation, list::Credential};
use crate::{Error, store, trail};

impl Credentials {
    /// Ends a version, or all of them.
    pub(crate) async fn revoke(
        &self,
        caller: &Caller,
        name: &str,
        version: i32,
    ) -> Result<Credential, Error> {
        let team = caller.team.as_str();
        let mut wrong: Vec<_> = check::name(name).into_iter().collect();
        if version < 0 {
            wrong.push(violation("version", "must be that of a version, or 0 for all of them"));
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let pool = self.0.database.pool()?;
        let only = (version > 0).then_some(version);
        let told = match only {
            Some(version) => format!("version {version} was revoked"),
            None => "every version of it was revoked".to_owned(),
        };
        let event = trail::credential(caller, name, &told);
        let ended = store::credential_revoke(pool, team, name, only, event).await?;
        // Told before anything else can fail: a credential that is not there has none to find.
        let credential = self.find(team, name).await?;
        if ended == 0 {
            return Err(Error::CredentialVersionNotFound { name: name.to_owned(), version });
        }
        tracing::info!(team, credential = name, version, "credential revoked");
        Ok(credential)
    }
}
