//! What may be known of credentials: never a secret.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use keyring::Keys;

use super::{Credentials, rotation::State};
use crate::{
    Error,
    store::{self, CredentialRow, VersionRow},
};

/// How long before the end of a version it is told.
const WARN_BEFORE: TimeDelta = TimeDelta::days(7);

/// A credential with its newest versions, newest first.
#[derive(Debug, Clone)]
pub(crate) struct Credential {
    pub row: CredentialRow,
    pub versions: Vec<VersionRow>,
    /// What an operator should look at; empty: nothing.
    pub warning: String,
}

impl Credential {
    fn new(row: CredentialRow, versions: Vec<VersionRow>, keys: Option<&Keys>, now: DateTime<Utc>) -> Self {
        let mut warning = warning(&row, &versions, now);
        if let Some(missing) = keys.map(|keys| missing(&versions, keys)).filter(|told| !told.is_empty()) {
            warning =
                [warning, missing].into_iter().filter(|told| !told.is_empty()).collect::<Vec<_>>().join("; ");
        }
        Self { row, versions, warning }
    }
}

impl Credentials {
    /// Every credential of a team, in order of name.
    pub(crate) async fn list(&self, team: &str) -> Result<Vec<Credential>, Error> {
        let pool = self.0.database.pool()?;
        let mut versions: HashMap<String, Vec<VersionRow>> = HashMap::new();
        for version in store::credential_versions(pool, team, None).await? {
            versions.entry(version.name.clone()).or_default().push(version);
        }
        let (now, keys) = (Utc::now(), self.0.keys.keys().ok());
        let rows = store::credential_list(pool, team).await?.into_iter();
        Ok(rows
            .map(|row| {
                let versions = versions.remove(&row.name).unwrap_or_default();
                Credential::new(row, versions, keys.as_deref(), now)
            })
            .collect())
    }

    /// What an operator should look at, of every credential of a team, each with its name.
    pub(crate) async fn warnings(&self, team: &str) -> Result<Vec<String>, Error> {
        let all = self.list(team).await?.into_iter().filter(|each| !each.warning.is_empty());
        Ok(all.map(|each| format!("{}: {}", each.row.name, each.warning)).collect())
    }

    /// One credential.
    pub(crate) async fn find(&self, team: &str, name: &str) -> Result<Credential, Error> {
        let pool = self.0.database.pool()?;
        let row = store::credential_find(pool, team, name).await?;
        let row = row.ok_or_else(|| Error::CredentialNotFound(name.to_owned()))?;
        let versions = store::credential_versions(pool, team, Some(name)).await?;
        Ok(Credential::new(row, versions, self.0.keys.keys().ok().as_deref(), Utc::now()))
    }
}

/// Which wrapping keys are gone that versions still need.
fn missing(versions: &[VersionRow], keys: &Keys) -> String {
    let ids: BTreeSet<&str> = versions.iter().filter_map(|each| each.key_id.as_deref()).collect();
    let told: Vec<_> = ids.into_iter().filter(|id| keys.find(id).is_none()).collect();
    if told.is_empty() {
        return String::new();
    }
    format!(
        "wrapping key {} is missing; put it back at the end of registry.credentials.key_file",
        told.join(", ")
    )
}

fn warning(row: &CredentialRow, versions: &[VersionRow], now: DateTime<Utc>) -> String {
    let mut told = Vec::new();
    let is_over = |end: Option<DateTime<Utc>>| end.is_some_and(|end| end <= now);
    let usable = |each: &&VersionRow| match each.state {
        State::Active => !is_over(each.expire_time),
        State::Retiring => !is_over(each.expire_time) && !is_over(each.retire_time),
        State::Pending | State::Revoked => false,
    };
    let active = versions.iter().filter(usable).find(|each| each.state == State::Active);
    let date = |time: DateTime<Utc>| time.format("%F %H:%M UTC");
    match (active, versions.iter().find(usable)) {
        (_, None) => {
            let newest = versions.first();
            let ended = newest.and_then(|newest| newest.expire_time).filter(|end| *end <= now);
            let how =
                ended.map_or(String::new(), |end| format!(" since the last one ended at {}", date(end)));
            told.push(format!("no version may be used{how}; give it the next"));
        }
        (None, Some(left)) => {
            let version = left.version;
            told.push(format!("only version {version} is left, which is being retired; give it the next"));
        }
        (Some(active), Some(_)) => {
            if let Some(end) = active.expire_time.filter(|end| *end <= now + WARN_BEFORE) {
                told.push(format!("version {} ends at {}; give it the next", active.version, date(end)));
            }
            if !active.fetch_error.is_empty() {
                told.push(format!(
                    "no token can be fetched with version {}: {}",
                    active.version, active.fetch_error
                ));
            }
        }
    }
    if !row.last_error.is_empty() {
        let again =
            row.next_rotation_time.map_or(String::new(), |time| format!("; tried again at {}", date(time)));
        told.push(format!("the last rotation failed: {}{again}", row.last_error));
    } else if let Some(due) = row.next_rotation_time.filter(|due| *due + TimeDelta::minutes(5) <= now) {
        told.push(format!("its rotation is due since {}; give it the next", date(due)));
    }
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::{Kind, Rotation};

    fn row() -> CredentialRow {
        CredentialRow {
            name: "key".into(),
            kind: Kind::ApiKey,
            last_version: 2,
            rotation: Rotation::default(),
            next_rotation_time: None,
            last_error: String::new(),
        }
    }

    fn version(state: State, expire_time: Option<DateTime<Utc>>) -> VersionRow {
        VersionRow {
            name: "key".into(),
            version: 2,
            state,
            create_time: DateTime::UNIX_EPOCH,
            expire_time,
            retire_time: None,
            last_used_time: None,
            fetch_error: String::new(),
            key_id: None,
        }
    }

    #[test]
    fn an_end_is_told_seven_days_ahead_and_when_it_has_come() {
        let now = DateTime::UNIX_EPOCH;
        let told = |left: TimeDelta| warning(&row(), &[version(State::Active, Some(now + left))], now);
        assert_eq!(told(TimeDelta::days(7) + TimeDelta::seconds(1)), "");
        assert!(told(TimeDelta::days(7)).contains("version 2 ends at 1970-01-08 00:00 UTC"));
        assert!(told(TimeDelta::seconds(1)).contains("version 2 ends"));
        assert!(told(TimeDelta::zero()).contains("no version may be used since the last one ended"));
        assert_eq!(warning(&row(), &[version(State::Active, None)], now), "");
    }

    #[test]
    fn what_is_missing_or_failed_is_told() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1);
        assert!(warning(&row(), &[version(State::Revoked, None)], now).contains("no version may be used;"));
        assert!(warning(&row(), &[], now).contains("no version may be used"));
        let mut left = version(State::Retiring, None);
        left.retire_time = Some(now + TimeDelta::minutes(1));
        assert!(warning(&row(), &[left], now).contains("only version 2 is left"));
        let mut failing = version(State::Active, None);
        failing.fetch_error = "invalid_grant".into();
        assert!(warning(&row(), &[failing], now).contains("invalid_grant"));
        let failed = CredentialRow { last_error: "gone".into(), next_rotation_time: Some(now), ..row() };
        let active = [version(State::Active, None)];
        assert!(warning(&failed, &active, now).contains("failed: gone; tried again at 1970-01-02 00:00 UTC"));
        let due = CredentialRow { next_rotation_time: Some(now - TimeDelta::minutes(5)), ..row() };
        assert!(warning(&due, &active, now).contains("is due since"));
    }
}
