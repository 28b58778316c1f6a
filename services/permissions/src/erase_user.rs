//! Erases what is kept of an end user: their access requests keep who asked for which tool and what was decided, and
//! lose the user, the arguments and every reason in words. What waits or is in force for them ends, so that no approval
//! is left that would hold for calls of nobody. May be repeated, by any process and after any death.

use ::store::Database;
use chrono::{DateTime, Utc};
use types::Caller;

use crate::{
    Error,
    store::{self, Erased, ErasedRequest, Subject},
    teams::Teams,
    trail::{self, Action, Event},
};

/// Access requests emptied in one transaction.
const BATCH: i64 = 500;

/// Erases, and tells what went under this erasure so far and whether that was all: events that were written before may
/// still wait to be sent.
pub(crate) async fn erase(
    database: &Database,
    teams: &Teams,
    subject: &Subject,
    now: DateTime<Utc>,
) -> Result<(Erased, bool), Error> {
    while erase_some(database, teams, subject, now).await? == BATCH {}
    let mut connection = database.pool()?.acquire().await.map_err(::store::Error::from)?;
    let erased = store::user_deliveries_erase(&mut connection, subject).await?;
    let (team, user) = (trail::team_field(&subject.team), trail::user_field(&subject.user));
    let waits = store::is_in_outbox(&mut connection, (&team, &user), erased.quiet_time).await?;
    Ok((erased, !waits))
}

async fn erase_some(
    database: &Database,
    teams: &Teams,
    subject: &Subject,
    now: DateTime<Utc>,
) -> Result<i64, Error> {
    let mut transaction = database.pool()?.begin().await.map_err(::store::Error::from)?;
    // Holds the team, as whoever changes an access request does.
    let revision = store::revision_next(&mut transaction, &subject.team, now).await?;
    let erased = store::user_requests_erase(&mut transaction, subject, revision, BATCH).await?;
    if erased.is_empty() {
        return Ok(0);
    }
    let ended: Vec<Event> =
        erased.iter().filter(|request| request.was_open).map(|request| told(subject, request)).collect();
    trail::record_all(&mut transaction, &ended).await?;
    transaction.commit().await.map_err(::store::Error::from)?;
    teams.changed(&subject.team, revision);
    Ok(i64::try_from(erased.len()).unwrap_or(i64::MAX))
}

/// That a request ended. It names no user.
fn told(subject: &Subject, request: &ErasedRequest) -> Event {
    let own = Caller {
        team: subject.team.clone(),
        agent: request.agent_id.clone(),
        ..Caller::service("permissions")
    };
    let message = format!("access request {} ended with the erasure of its data subject", request.request_id);
    Event { tool_name: request.tool_name.clone(), ..trail::event(Action::AccessDecided, &own, message) }
}
