//! Writes a team's policies and takes them out of force. One that is not valid changes nothing: the version that is in
//! force stays, and so do all decisions.

use std::fmt;

use ::rpc::{Details, ErrorReason, FieldViolation};
use ::store::Database;
use chrono::{DateTime, Utc};
use types::{Caller, Kind};

use crate::{
    Error, names,
    policies::{
        literals,
        team::{Fault, TeamPolicy, schema},
    },
    store::{self, PolicyRow},
    teams::Teams,
    trail::{self, Action},
};

/// Most policies of a team that are in force.
const MAX_POLICIES: i64 = 50;

/// A policy that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The text is no policy that could be in force.
    #[error("policy {:?} is not valid, and nothing was changed: {}", .0.name, first(.0))]
    Faulty(Fault),
    /// Another version is there than the one it was to take the place of.
    #[error(
        "policy {name:?} {found}, and was to be replaced at version {expected}; read it again, then write it"
    )]
    Version {
        /// Its name.
        name: String,
        /// The version that was expected.
        expected: i64,
        /// What is there.
        found: Found,
    },
}

/// The first complaint, and how many more there are.
fn first(fault: &Fault) -> String {
    let told = fault.complaints.first().map(ToString::to_string).unwrap_or_default();
    match fault.complaints.len() {
        0 | 1 => told,
        count => format!("{told} (and {} more)", count - 1),
    }
}

/// What there is of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// This version, which is in force.
    InForce(i64),
    /// This version, which was taken out of force.
    Removed(i64),
}

impl fmt::Display for Found {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => formatter.write_str("does not exist"),
            Self::InForce(version) => write!(formatter, "is at version {version}"),
            Self::Removed(version) => write!(formatter, "was removed at version {version}"),
        }
    }
}

impl Refusal {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Faulty(_) => Kind::Invalid,
            Self::Version { .. } => Kind::Precondition,
        }
    }

    pub(crate) fn reason(&self) -> ErrorReason {
        match self {
            Self::Faulty(_) => ErrorReason::InvalidRequest,
            Self::Version { .. } => ErrorReason::EtagMismatch,
        }
    }

    pub(crate) fn details(&self) -> Details {
        let mut details = Details::default();
        if let Self::Faulty(fault) = self {
            let violation = |complaint: &crate::policies::complaint::Complaint| FieldViolation {
                field: "text".into(),
                description: complaint.to_string(),
            };
            details.violations.extend(fault.complaints.iter().map(violation));
        }
        details
    }
}

/// The policy to write.
#[derive(Debug, Clone)]
pub(crate) struct NewPolicy {
    pub name: String,
    pub text: String,
    pub validate_only: bool,
    /// 0: whichever there is.
    pub expected_version: i64,
}

/// Reads a policy of a team as it would be in force.
pub(crate) fn checked(team: &str, name: &str, text: &str) -> Result<TeamPolicy, Error> {
    let schema = schema().ok_or_else(|| Error::Policies("the schema cannot be read".into()))?;
    let policy = TeamPolicy::parse(schema, name, text).map_err(Refusal::Faulty)?;
    let complaints = literals::check(policy.policy(), team, text);
    if complaints.is_empty() {
        Ok(policy)
    } else {
        Err(Refusal::Faulty(Fault { name: name.to_owned(), complaints }).into())
    }
}

/// Writes a policy of the caller's team as its next version; the same text as is in force is the same version.
pub(crate) async fn put_policy(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    new: NewPolicy,
    now: DateTime<Utc>,
) -> Result<PolicyRow, Error> {
    names::name("name", &new.name)?;
    if new.expected_version < 0 {
        return Err(Error::invalid("expected_version", "must be a version, or 0 for whichever there is"));
    }
    checked(&caller.team, &new.name, &new.text)?;
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    // Policies of a team change one after the other.
    store::team_hold(&mut transaction, &caller.team).await?;
    let newest = store::policy_newest(&mut transaction, &caller.team, &new.name).await?;
    let version = match next(newest.as_ref(), &new)? {
        Next::Same(row) => return Ok(row.clone()),
        Next::Version(version) => version,
    };
    if store::policies_count(&mut transaction, &caller.team, &new.name).await? >= MAX_POLICIES {
        let description =
            format!("the team has {MAX_POLICIES} policies in force already, the most; remove one first");
        return Err(Error::invalid("name", description));
    }
    let mut policy = PolicyRow {
        name: new.name,
        version,
        policy_text: new.text,
        created_by: caller.agent.clone(),
        create_time: now,
        remove_time: None,
        revision: 0,
    };
    if new.validate_only {
        return Ok(policy);
    }
    policy.revision = store::revision_next(&mut transaction, &caller.team, now).await?;
    store::policy_end(&mut transaction, &caller.team, &policy.name, now, policy.revision).await?;
    store::policy_insert(&mut transaction, &caller.team, &policy).await?;
    let message = format!("policy {} version {version} put in force", policy.name);
    trail::record(&mut transaction, &trail::event(Action::PolicyChanged, caller, message)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(&caller.team, policy.revision);
    Ok(policy)
}

/// What a text becomes.
#[derive(Debug, PartialEq, Eq)]
enum Next<'a> {
    /// The version that is in force already.
    Same(&'a PolicyRow),
    /// A new version.
    Version(i64),
}

fn next<'a>(newest: Option<&'a PolicyRow>, new: &NewPolicy) -> Result<Next<'a>, Refusal> {
    let found = match newest {
        None => Found::Nothing,
        Some(row) if row.remove_time.is_some() => Found::Removed(row.version),
        Some(row) => Found::InForce(row.version),
    };
    if new.expected_version != 0 && found != Found::InForce(new.expected_version) {
        return Err(Refusal::Version { name: new.name.clone(), expected: new.expected_version, found });
    }
    match (newest, found) {
        (Some(row), Found::InForce(_)) if row.policy_text == new.text => Ok(Next::Same(row)),
        (Some(row), _) => Ok(Next::Version(row.version + 1)),
        (None, _) => Ok(Next::Version(1)),
    }
}

/// Takes a policy of the caller's team out of force. Removing it again answers the same.
pub(crate) async fn remove_policy(
    database: &Database,
    teams: &Teams,
    caller: &Caller,
    name: &str,
    now: DateTime<Utc>,
) -> Result<PolicyRow, Error> {
    names::name("name", name)?;
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    store::team_hold(&mut transaction, &caller.team).await?;
    let newest = store::policy_newest(&mut transaction, &caller.team, name).await?;
    let mut policy = newest.ok_or_else(|| no_policy(name))?;
    if policy.remove_time.is_some() {
        return Ok(policy);
    }
    policy.revision = store::revision_next(&mut transaction, &caller.team, now).await?;
    policy.remove_time = Some(now);
    store::policy_end(&mut transaction, &caller.team, name, now, policy.revision).await?;
    let message = format!("policy {name} version {} taken out of force", policy.version);
    trail::record(&mut transaction, &trail::event(Action::PolicyChanged, caller, message)).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(&caller.team, policy.revision);
    Ok(policy)
}

/// There is no policy of this name.
pub(crate) fn no_policy(name: &str) -> Error {
    let hint = "see them with: toolcrib policies list --removed";
    Error::NotFound { what: "policy", name: name.to_owned(), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: i64, text: &str, removed: bool) -> PolicyRow {
        PolicyRow {
            name: "p".into(),
            version,
            policy_text: text.into(),
            created_by: "root".into(),
            create_time: DateTime::UNIX_EPOCH,
            remove_time: removed.then_some(DateTime::UNIX_EPOCH),
            revision: 1,
        }
    }

    fn put(text: &str, expected_version: i64) -> NewPolicy {
        NewPolicy { name: "p".into(), text: text.into(), validate_only: false, expected_version }
    }

    #[test]
    fn a_text_is_the_version_in_force_or_the_next_one() {
        let (live, gone) = (row(3, "a", false), row(3, "a", true));
        assert_eq!(next(None, &put("a", 0)).unwrap(), Next::Version(1));
        assert_eq!(next(Some(&live), &put("a", 0)).unwrap(), Next::Same(&live));
        assert_eq!(next(Some(&live), &put("b", 3)).unwrap(), Next::Version(4));
        assert_eq!(next(Some(&gone), &put("a", 0)).unwrap(), Next::Version(4), "back in force");
        for (newest, expected, told) in [
            (None, 1, "does not exist"),
            (Some(&live), 2, "is at version 3"),
            (Some(&live), 4, "is at version 3"),
            (Some(&gone), 3, "was removed at version 3"),
        ] {
            let refusal = next(newest, &put("b", expected)).unwrap_err();
            assert_eq!(refusal.kind(), Kind::Precondition);
            assert!(refusal.to_string().contains(told), "{refusal}");
        }
    }
}
