//! Keeps a credential, or the next version of one. A secret that a token is fetched with is tried before it is used:
//! one that does not work replaces none.

use ::rpc::FieldViolation;
use chrono::{DateTime, Utc};
use types::Caller;

use super::{
    Credentials, certificate,
    check::{self, violation},
    envelope::Owner,
    list::Credential,
    rotation::{Rotation, Source},
    sealed,
    secret::{Kind, Secret},
    settle::{Tried, put_in_use},
    source::Wanted,
};
use crate::{
    Error,
    store::{self, CredentialWrite, Seen},
    trail,
};

/// Most credentials of a team.
const MAX_CREDENTIALS: i64 = 1_000;

/// What is to be kept.
pub(crate) struct Offer {
    pub name: String,
    /// `None`: the source gives it.
    pub secret: Option<Secret>,
    pub expire_time: Option<DateTime<Utc>>,
    /// `None`: as before.
    pub rotation: Option<Rotation>,
}

/// Where a secret comes from.
pub(super) enum Origin {
    /// Whoever asks has given it.
    Operator,
    /// The credential's source gave it.
    Source {
        /// Where the credential stood before the source was asked; `None`: it was not there.
        seen: Option<Seen>,
        /// Whether nobody asked but its time has come.
        is_due: bool,
    },
}

/// A version that is to be added.
pub(super) struct Next {
    /// In whose name, and for which team.
    pub caller: Caller,
    pub name: String,
    pub secret: Secret,
    pub origin: Origin,
    pub expire_time: Option<DateTime<Utc>>,
    /// Whether a credential that is not there is made, and how it is rotated from now on.
    #[allow(clippy::option_option, reason = "whether it is put at all, and whether a rotation is given")]
    pub put: Option<Option<Rotation>>,
}

impl Credentials {
    /// Keeps a credential, or the next version of it.
    pub(crate) async fn put(&self, caller: &Caller, offer: Offer) -> Result<Credential, Error> {
        self.0.keys.keys()?;
        let mut wrong: Vec<FieldViolation> = check::name(&offer.name).into_iter().collect();
        wrong.extend(offer.rotation.iter().flat_map(|rotation| self.rotation(rotation)));
        if !wrong.is_empty() {
            return Err(Error::Invalid(wrong));
        }
        let (this, caller) = (self.clone(), caller.clone());
        self.detached(async move {
            let team = caller.team.clone();
            let (secret, origin) = match offer.secret {
                Some(secret) => (secret, Origin::Operator),
                None => this.first(&team, &offer.name, offer.rotation.as_ref()).await?,
            };
            let (name, expire_time) = (offer.name, offer.expire_time);
            let next =
                Next { caller, name: name.clone(), secret, origin, expire_time, put: Some(offer.rotation) };
            this.add(next).await?;
            this.find(&team, &name).await
        })
        .await
    }

    fn rotation(&self, rotation: &Rotation) -> Vec<FieldViolation> {
        let mut wrong = rotation.check();
        if wrong.is_empty()
            && let Source::Url(url) = &rotation.source
            && let Err(told) = self.0.outside.check(url)
        {
            wrong.push(violation("rotation.url", told));
        }
        wrong
    }

    async fn first(
        &self,
        team: &str,
        name: &str,
        rotation: Option<&Rotation>,
    ) -> Result<(Secret, Origin), Error> {
        let seen = store::credential_seen(self.0.database.pool()?, team, name).await?;
        let known = store::credential_find(self.0.database.pool()?, team, name).await?;
        let version = known.as_ref().map_or(1, |known| known.last_version + 1);
        let source =
            rotation.or(known.as_ref().map(|known| &known.rotation)).map(|rotation| &rotation.source);
        let source = source.unwrap_or(&Source::Operator);
        let asked = self.ask(source, Wanted { team, name, version }).await;
        let secret = asked.map_err(|told| Error::invalid("secret", format!("is not given: {told}")))?;
        Ok((secret, Origin::Source { seen, is_due: false }))
    }

    /// Adds a version and lets it be used. Gives whether it did: what is due and gives the same is no version.
    pub(super) async fn add(&self, next: Next) -> Result<bool, Error> {
        let kind = next.secret.kind();
        let mut expire_time = self.checked(&next.secret, next.expire_time)?;
        let (caller, name) = (next.caller.clone(), next.name.as_str());
        let team = caller.team.as_str();
        let mut write = self.begin(team, name, kind, next.put.is_some()).await?;
        if let Origin::Source { seen: Some(seen), .. } = &next.origin
            && write.seen().await?.as_ref() != Some(seen)
        {
            return Err(changed(name));
        }
        let digest = self.digest(&mut write, &next).await?;
        if let Some(known) = write.known(&digest).await? {
            let end = next.end_again(&known)?;
            if matches!(next.origin, Origin::Source { is_due: true, .. }) {
                return Ok(false);
            }
            expire_time = [expire_time, end].into_iter().flatten().min();
        }
        let Some(row) = write.row.clone() else { return Err(Error::CredentialNotFound(name.to_owned())) };
        let how = next.how();
        let rotation = next.put.flatten();
        let version = row.last_version + 1;
        let keys = self.0.keys.keys()?;
        let owner = Owner { team, name, version, kind };
        write.add(&sealed::seal(&keys, owner, next.secret, digest, expire_time)?).await?;
        let told = format!("version {version} {how} ({})", kind.as_str());
        write.tell(trail::credential(&caller, name, &told));
        let mut tried = Tried { caller: &caller, name, version, works: true, rotation: rotation.as_ref() };
        if !kind.fetches() {
            put_in_use(write, kind, &tried, rotation.as_ref().unwrap_or(&row.rotation)).await?;
            return Ok(true);
        }
        write.commit().await?;
        let token = self.try_out(team, name, version).await;
        tried.works = token.is_ok();
        if self.settle_in_time(&tried).await? { Ok(true) } else { token.map(|()| true) }
    }

    /// Locks a credential of this kind, which is made if it may be.
    async fn begin(
        &self,
        team: &str,
        name: &str,
        kind: Kind,
        may_make: bool,
    ) -> Result<CredentialWrite, Error> {
        let pool = self.0.database.pool()?;
        let mut write = CredentialWrite::begin(pool, team, name).await?;
        if write.row.is_none() && may_make {
            if write.count().await? >= MAX_CREDENTIALS {
                let told =
                    format!("would be one credential more than the {MAX_CREDENTIALS} that a team may have");
                return Err(Error::invalid("name", told));
            }
            write.create(kind).await?;
        }
        let Some(row) = write.row.clone() else { return Err(Error::CredentialNotFound(name.to_owned())) };
        if row.kind != kind {
            // What is sealed is bound to its kind, so that of a version that lives may not change.
            if !may_make || write.is_live().await? {
                let told = format!("is of kind {}; {name} is of kind {}", kind.as_str(), row.kind.as_str());
                return Err(Error::invalid("secret", told));
            }
            write.define(kind, &row.rotation).await?;
        }
        Ok(write)
    }

    /// When a secret that is fit to be kept ends.
    fn checked(
        &self,
        secret: &Secret,
        expire_time: Option<DateTime<Utc>>,
    ) -> Result<Option<DateTime<Utc>>, Error> {
        let mut wrong = check::secret(secret);
        let asked = match secret {
            Secret::OAuth2Client(client) => Some(("secret.oauth2_client.token_url", &client.token_url)),
            Secret::OAuth2Refresh(refresh) => Some(("secret.oauth2_refresh.token_url", &refresh.token_url)),
            Secret::ApiKey(_) | Secret::Basic(_) | Secret::MutualTls(_) => None,
        };
        if wrong.is_empty()
            && let Some((field, url)) = asked
            && let Err(told) = self.0.outside.check(url)
        {
            wrong.push(violation(field, told));
        }
        let mut end = expire_time;
        if let Secret::MutualTls(pair) = secret {
            match certificate::end_of(pair) {
                Ok(certified) if certified <= Utc::now() => {
                    let told = format!("ended on {}", certified.format("%F"));
                    wrong.push(violation("secret.mutual_tls.certificate_pem", told));
                }
                Ok(certified) => end = Some(end.map_or(certified, |given| given.min(certified))),
                Err(violation) => wrong.push(violation),
            }
        }
        if expire_time.is_some_and(|end| end <= Utc::now()) {
            wrong.push(violation("expire_time", "must be in the future"));
        }
        if wrong.is_empty() { Ok(end) } else { Err(Error::Invalid(wrong)) }
    }
}

impl Next {
    /// How its version came to be, as the trail is told.
    fn how(&self) -> &'static str {
        match (&self.origin, &self.put) {
            (Origin::Operator, Some(_)) => "was put",
            (Origin::Operator, None) => "was given by a rotation",
            (Origin::Source { is_due: true, .. }, _) => "was given by its source, since its time had come",
            (Origin::Source { .. }, Some(_)) => "was put as its source gave it",
            (Origin::Source { .. }, None) => "was given by its source, asked for it",
        }
    }
}

fn changed(name: &str) -> Error {
    Error::CredentialUnavailable {
        name: name.to_owned(),
        why: "cannot be rotated: its versions changed while its source was asked".into(),
        retry_after: None,
    }
}
