//! Ends versions of a credential at once; what was sealed in them is destroyed.

use super::{Credentials, check, check::violation, list::Credential};
use crate::{Error, store};

impl Credentials {
    /// Ends a version, or all of them.
    pub(crate) async fn revoke(&self, team: &str, name: &str, version: i32) -> Result<Credential, Error> {
        let mut wrong: Vec<_> = check::name(name).into_iter().collect();
        if version < 0 {
            wrong.push(violation("version", "must be that of a version, or 0 for all of them"));
        }
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let pool = self.0.database.pool()?;
        let only = (version > 0).then_some(version);
        let ended = store::credential_revoke(pool, team, name, only).await?;
        // Told before anything else can fail: a credential that is not there has none to find.
        let credential = self.find(team, name).await?;
        if ended == 0 {
            return Err(Error::CredentialVersionNotFound { name: name.to_owned(), version });
        }
        tracing::info!(team, credential = name, version, "credential revoked");
        Ok(credential)
    }
}
