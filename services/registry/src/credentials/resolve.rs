//! Gives what a request has to carry: the version in use, or the other one that is still valid where a server has
//! just refused it. The only way by which a secret leaves.

use std::{sync::Arc, time::Duration};

use keyring::Keys;

use super::{
    Credentials, check,
    envelope::Owner,
    rotation::State,
    sealed,
    secret::{Basic, MutualTls, Secret, Text},
};
use crate::{
    Error,
    store::{self, LiveVersion},
};

/// How long an answer may be used: with the time that an answer takes, a revocation bites within a second.
const FRESH: Duration = Duration::from_millis(900);
/// A token so new was not the one that was refused.
const NEW_TOKEN: Duration = Duration::from_secs(1);

/// What a request has to carry.
pub(crate) struct Resolved {
    pub version: i32,
    pub material: Material,
    /// How long it may be used without asking again.
    pub fresh: Duration,
}

/// What it is.
#[allow(missing_debug_implementations, reason = "is secret")]
pub(crate) enum Material {
    /// A key, to be sent as it is.
    ApiKey(Text),
    /// User and password.
    Basic(Basic),
    /// A token of OAuth 2.0.
    Bearer(Text),
    /// A client certificate.
    MutualTls(MutualTls),
}

impl Credentials {
    /// What a request with this credential has to carry now. `refused` is a version that a server has just refused,
    /// or 0.
    pub(crate) async fn resolve(&self, team: &str, name: &str, refused: i32) -> Result<Resolved, Error> {
        if let Some(wrong) = check::name(name) {
            return Err(Error::Invalid(vec![wrong]));
        }
        self.0.keys.keys()?;
        let pool = self.0.database.pool()?;
        let live = store::version_live(pool, team, name, None).await?;
        let chosen = choose(&live, refused);
        let Some(chosen) = chosen else { return Err(self.without(team, name).await?) };
        let kind = sealed::kind(&chosen.kind)?;
        if kind.fetches()
            && live.iter().any(|each| each.version == refused)
            && store::token_drop(pool, team, name, refused, NEW_TOKEN).await?
        {
            tracing::info!(team, credential = name, version = refused, "a refused token is given up");
        }
        let mut fresh = chosen.left_ms.map_or(FRESH, |left| millis(left).min(FRESH));
        let material = if kind.fetches() {
            let (token, left) = self.token(team, name, chosen.version).await?;
            fresh = fresh.min(left);
            Material::Bearer(token)
        } else {
            let owner = Owner { team, name, version: chosen.version, kind };
            match sealed::open(&*self.keys_for(&chosen.key_id)?, owner, chosen)?.plain.secret {
                Secret::ApiKey(key) => Material::ApiKey(key),
                Secret::Basic(basic) => Material::Basic(basic),
                Secret::MutualTls(pair) => Material::MutualTls(pair),
                Secret::OAuth2Client(_) | Secret::OAuth2Refresh(_) => return Err(Error::Sealing),
            }
        };
        if chosen.unmarked {
            store::version_mark_used(pool, team, name, chosen.version).await?;
        }
        Ok(Resolved { version: chosen.version, material, fresh })
    }

    /// The wrapping keys, read again where this one is not among them.
    pub(super) fn keys_for(&self, key_id: &str) -> Result<Arc<Keys>, Error> {
        Ok(self.0.keys.keys_with(key_id)?)
    }

    /// Why there is nothing to give.
    async fn without(&self, team: &str, name: &str) -> Result<Error, Error> {
        let known = self.find(team, name).await?;
        let why = format!("has no version that may be used: {}", known.warning);
        Ok(Error::CredentialUnavailable { name: name.to_owned(), why, retry_after: None })
    }
}

/// The active version before the retiring one, and one that was refused only where there is no other.
fn choose(live: &[LiveVersion], refused: i32) -> Option<&LiveVersion> {
    live.iter().min_by_key(|each| (each.version == refused, each.state != State::Active))
}

/// Milliseconds that are left; none where the time is over.
pub(super) fn millis(left: i64) -> Duration {
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(version: i32, state: State) -> LiveVersion {
        LiveVersion {
            kind: "api_key".into(),
            version,
            state,
            key_id: String::new(),
            wrapped_key: vec![],
            sealed: vec![],
            left_ms: None,
            token: None,
            token_left_ms: None,
            token_life_ms: None,
            fetch_wait_ms: None,
            fetch_failures: 0,
            fetch_error: String::new(),
            unmarked: false,
        }
    }

    #[test]
    fn a_refused_version_is_given_only_where_there_is_no_other() {
        let both = [live(3, State::Active), live(2, State::Retiring)];
        let chosen = |live: &[LiveVersion], refused| choose(live, refused).map(|each| each.version);
        assert_eq!(chosen(&both, 0), Some(3));
        assert_eq!(chosen(&both, 3), Some(2));
        assert_eq!(chosen(&both, 2), Some(3));
        assert_eq!(chosen(&both, 1), Some(3));
        assert_eq!(chosen(&both[..1], 3), Some(3));
        assert_eq!(chosen(&both[1..], 0), Some(2));
        assert_eq!(chosen(&[], 0), None);
    }
}
