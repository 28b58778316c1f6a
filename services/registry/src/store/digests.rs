//! What tells whether a secret was a credential's before, and whether the credential changed since it was looked at.
//! Digests stay when versions end; no secret can be read from one.

use ::store::Error;
use chrono::{DateTime, Utc};
use sqlx::PgExecutor;

use super::CredentialWrite;
use crate::credentials::State;

/// What of a credential must not change between a look at it and what follows from the look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub last_version: i32,
    pub ended: i64,
    pub is_scheduled: bool,
}

/// A version that came from a secret.
#[derive(Debug, Clone)]
pub(crate) struct KnownVersion {
    pub version: i32,
    pub state: State,
    pub expire_time: Option<DateTime<Utc>>,
}

/// Where a credential stands.
pub(crate) async fn credential_seen(
    executor: impl PgExecutor<'_>,
    team: &str,
    name: &str,
) -> Result<Option<Seen>, Error> {
    let seen = sqlx::query_as!(
        Seen,
        r#"SELECT last_version, next_rotation_time IS NOT NULL AS "is_scheduled!",
                  (SELECT count(*) FROM registry.credential_version v
                   WHERE v.team_id = c.team_id AND v.name = c.name AND v.state = 'revoked') AS "ended!"
           FROM registry.credential c WHERE team_id = $1 AND name = $2"#,
        team,
        name,
    );
    Ok(seen.fetch_optional(executor).await?)
}

impl CredentialWrite {
    /// Where it stands now that nobody else changes it.
    pub(crate) async fn seen(&mut self) -> Result<Option<Seen>, Error> {
        credential_seen(&mut *self.transaction, &self.team, &self.name).await
    }

    /// The newest version of a secret with this digest, ended or not.
    pub(crate) async fn known(&mut self, digest: &[u8]) -> Result<Option<KnownVersion>, Error> {
        let known = sqlx::query_as!(
            KnownVersion,
            "SELECT version, state, expire_time FROM registry.credential_version
             WHERE team_id = $1 AND name = $2 AND digest = $3 ORDER BY version DESC LIMIT 1",
            self.team,
            self.name,
            digest,
        );
        Ok(known.fetch_optional(&mut *self.transaction).await?)
    }

    /// The wrapped key that digests are made with, and what it is wrapped under.
    pub(crate) async fn digest_key(&mut self) -> Result<Option<(String, Vec<u8>)>, Error> {
        let row = sqlx::query!(
            "SELECT digest_key_id, digest_key FROM registry.credential WHERE team_id = $1 AND name = $2",
            self.team,
            self.name,
        );
        let row = row.fetch_optional(&mut *self.transaction).await?;
        Ok(row.and_then(|row| row.digest_key_id.zip(row.digest_key)))
    }

    /// Makes digests with another key from now on.
    pub(crate) async fn set_digest_key(&mut self, key_id: &str, wrapped: &[u8]) -> Result<(), Error> {
        sqlx::query!(
            "UPDATE registry.credential SET digest_key_id = $3, digest_key = $4 WHERE team_id = $1 AND name = $2",
            self.team,
            self.name,
            key_id,
            wrapped,
        )
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}
