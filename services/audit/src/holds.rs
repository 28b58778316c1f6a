//! Legal holds: records that they are about are neither erased nor ended until the hold is released. Every hold and every
//! release is an event of the trail, written in one transaction with it.

use ::store::{Database, Error as StoreError};
use chrono::{DateTime, Utc};
use proto::audit::v1::{Action, Result as Outcome};
use types::Caller;

use crate::{
    Error,
    append::Journal,
    payload::{Draft, micros},
    store::{self, HoldRow},
};

/// Longest name, in bytes.
const MAX_NAME: usize = 64;
/// Longest reason, in characters.
const MAX_REASON: usize = 1_000;
/// How often it is tried again where the subject is erased meanwhile.
const TRIES: usize = 5;
/// Most holds that are listed.
const MOST: i64 = 1_000;

/// A hold to place; what is empty holds all.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewHold {
    pub name: String,
    pub reason: String,
    pub user: String,
    pub agent_id: String,
    pub start_time: Option<DateTime<Utc>>,
    pub end_time: Option<DateTime<Utc>>,
}

/// A hold as it is shown: with its user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    pub row: HoldRow,
    /// Empty: every user's records.
    pub user: String,
}

/// Places a hold. A user whom the trail does not know yet is held all the same.
pub(crate) async fn place(
    database: &Database,
    journal: &Journal,
    caller: &Caller,
    new: NewHold,
    now: DateTime<Utc>,
) -> Result<Hold, Error> {
    check(&new)?;
    let (team, id) = (caller.team.as_str(), types::new_id());
    let sealed_user = match new.user.as_str() {
        "" => None,
        user => Some(journal.subjects.seal_name(team, id, user).await?),
    };
    let mut row = HoldRow {
        id,
        name: new.name,
        reason: new.reason,
        subject_id: None,
        sealed_user,
        agent_id: new.agent_id,
        start_time: new.start_time,
        end_time: new.end_time,
        place_agent_id: caller.agent.clone(),
        place_time: micros(now),
        release_time: None,
    };
    let message = format!("hold {} was placed: {}", row.name, row.reason);
    for _ in 0..TRIES {
        let draft = told(caller, &message, &new.user);
        row.subject_id = match new.user.as_str() {
            "" => None,
            _ => match journal.subjects.live(&draft).await? {
                None => continue,
                live => live,
            },
        };
        if try_place(database, journal, (team, &row), draft).await? {
            return Ok(Hold { row, user: new.user });
        }
        journal.subjects.forget(&row.subject_id.into_iter().collect::<Vec<_>>());
    }
    Err(Error::Overtaken)
}

/// Places it, with its event; `false`: its subject is erased.
async fn try_place(
    database: &Database,
    journal: &Journal,
    (team, row): (&str, &HoldRow),
    draft: Draft,
) -> Result<bool, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(StoreError::from)?;
    // An erasure that began before this is over first, and then there is nothing of its subject to hold.
    store::subjects_lock_in_txn(&mut transaction, &[team]).await?;
    let subject: Vec<_> = row.subject_id.map(|id| (team, id)).into_iter().collect();
    if !store::subjects_dead_in_txn(&mut transaction, &subject).await?.is_empty() {
        return Ok(false);
    }
    store::hold_insert(&mut transaction, team, row).await.map_err(|error| match error {
        StoreError::Conflict { .. } => Error::AlreadyExists {
            what: "hold",
            name: row.name.clone(),
            hint: "release it first, or take another name",
        },
        error => error.into(),
    })?;
    journal.append_in_txn(&mut transaction, &[draft]).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(true)
}

/// Ends a hold that is in force.
pub(crate) async fn release(
    database: &Database,
    journal: &Journal,
    caller: &Caller,
    (name, reason): (&str, &str),
    now: DateTime<Utc>,
) -> Result<Hold, Error> {
    check_name(name)?;
    check_reason(reason)?;
    let team = caller.team.as_str();
    let mut transaction = database.pool()?.begin().await.map_err(StoreError::from)?;
    let released = store::hold_release(&mut transaction, team, name, reason, micros(now)).await?;
    let row = released.ok_or_else(|| Error::NotThere {
        what: "hold in force",
        name: name.to_owned(),
        hint: "list those there are: toolcrib audit holds list",
    })?;
    let hold = open(journal, team, row).await?;
    let draft = told(caller, &format!("hold {name} was released: {reason}"), &hold.user);
    journal.append_in_txn(&mut transaction, &[draft]).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    Ok(hold)
}

/// The holds of a team, newest first.
pub(crate) async fn list(
    database: &Database,
    journal: &Journal,
    team: &str,
    with_released: bool,
) -> Result<Vec<Hold>, Error> {
    let mut holds = Vec::new();
    for row in store::hold_list(database.pool()?, team, with_released, MOST).await? {
        holds.push(open(journal, team, row).await?);
    }
    Ok(holds)
}

async fn open(journal: &Journal, team: &str, row: HoldRow) -> Result<Hold, Error> {
    let user = match &row.sealed_user {
        None => String::new(),
        Some(sealed) => journal.subjects.open_name(team, row.id, sealed).await?,
    };
    Ok(Hold { row, user })
}

/// The event, sealed as the user's where the hold is about one.
fn told(caller: &Caller, message: &str, user: &str) -> Draft {
    let mut draft =
        Draft::own(&caller.team, &caller.agent, Action::HoldChanged, Outcome::Success, message.to_owned());
    user.clone_into(&mut draft.payload.user);
    draft
}

fn check(new: &NewHold) -> Result<(), Error> {
    check_name(&new.name)?;
    check_reason(&new.reason)?;
    if let (Some(start), Some(end)) = (new.start_time, new.end_time)
        && start >= end
    {
        return Err(Error::invalid(
            "end_time",
            "is not after start_time; a hold needs some time between them",
        ));
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
        return Err(Error::invalid("name", format!("must be 1 to {MAX_NAME} letters, digits, - and _")));
    }
    Ok(())
}

fn check_reason(reason: &str) -> Result<(), Error> {
    if reason.trim().is_empty() || reason.chars().count() > MAX_REASON {
        return Err(Error::invalid("reason", format!("must be 1 to {MAX_REASON} characters, and not blank")));
    }
    Ok(())
}
