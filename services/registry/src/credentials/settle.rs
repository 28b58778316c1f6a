//! Lets a version that was tried be used, or takes it back. A version that holds a token must not be lost: with it the
//! server may have replaced the refresh token that the operator gave.

use std::time::Duration;

use tokio::time::Instant;
use types::Caller;

use super::{Credentials, rotation::Rotation, secret::Kind, token::PATIENCE};
use crate::{Error, store::CredentialWrite, trail};

/// Pause before the database is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A version that was kept and tried.
pub(super) struct Tried<'a> {
    /// Who had it tried, and for which team.
    pub caller: &'a Caller,
    pub name: &'a str,
    pub version: i32,
    pub works: bool,
    /// How the credential is rotated from now on; `None`: as before.
    pub rotation: Option<&'a Rotation>,
}

impl Credentials {
    /// Settles it; gives whether it was kept. A moment of the database's is waited out.
    pub(super) async fn settle_in_time(&self, tried: &Tried<'_>) -> Result<bool, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.settle(tried).await {
                Err(Error::Store(error)) if Instant::now() < deadline => {
                    tracing::warn!(%error, credential = tried.name, "a version cannot be settled yet");
                    tokio::time::sleep(PAUSE).await;
                }
                other => return other,
            }
        }
    }

    /// Settles it once.
    pub(super) async fn settle(&self, tried: &Tried<'_>) -> Result<bool, Error> {
        let Tried { caller, name, version, .. } = *tried;
        let mut write = CredentialWrite::begin(self.0.database.pool()?, &caller.team, name).await?;
        let Some(row) = write.row.clone() else {
            return Err(Error::CredentialNotFound(name.to_owned()));
        };
        if !tried.works && write.discard(version).await? {
            let told = format!("version {version} was taken back: no token was given with it");
            write.tell(trail::credential_failed(caller, name, &told));
            write.commit().await?;
            return Ok(false);
        }
        put_in_use(write, row.kind, tried, tried.rotation.unwrap_or(&row.rotation)).await?;
        Ok(true)
    }
}

/// Ends the write by letting the version be used.
pub(super) async fn put_in_use(
    mut write: CredentialWrite,
    kind: Kind,
    tried: &Tried<'_>,
    rotation: &Rotation,
) -> Result<(), Error> {
    let Tried { caller, name, version, .. } = *tried;
    let team = caller.team.as_str();
    write.define(kind, rotation).await?;
    let is_used = write.activate(version, rotation).await?;
    let told = if is_used { "is used from now on" } else { "has ended unused" };
    write.tell(trail::credential(caller, name, &format!("version {version} {told}")));
    write.commit().await?;
    tracing::info!(team, credential = name, version, kind = kind.as_str(), is_used, "credential kept");
    Ok(())
}
