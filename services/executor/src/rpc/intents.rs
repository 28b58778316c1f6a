//! Intents and erasures, as the contract tells them to the audit service.

use chrono::{DateTime, SubsecRound, Utc};
use proto::executor::v1::{
    EraseUserRequest, EraseUserResponse, Intent, ListIntentsRequest, ListIntentsResponse,
};
use uuid::Uuid;

use crate::{
    Error,
    events::timestamp,
    list_intents::{Asked, Listed, MAX_IDS, has_ended, latest_end},
    store::{Erased, IntentRow, Subject},
};

/// Longest name of an end user, in bytes: no caller has a longer one.
const MAX_USER: usize = 1_000;

pub(super) fn asked(request: ListIntentsRequest) -> Result<Asked, Error> {
    if request.execution_ids.len() > MAX_IDS {
        return Err(Error::invalid("execution_ids", format!("at most {MAX_IDS} are looked up at once")));
    }
    let ids = request.execution_ids.iter().map(|text| id("execution_ids", text)).collect::<Result<_, _>>()?;
    let after = match request.after_execution_id.as_str() {
        "" => None,
        text => Some(id("after_execution_id", text)?),
    };
    Ok(Asked {
        team: request.team_id,
        after,
        from: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        to: time("end_time", request.end_time)?,
        ids,
        page_size: request.page_size,
    })
}

pub(super) fn listed(listed: Listed) -> ListIntentsResponse {
    let intents = listed.intents.iter().map(intent).collect();
    ListIntentsResponse { intents, more: listed.more, teams: listed.teams }
}

fn intent(row: &IntentRow) -> Intent {
    Intent {
        execution_id: row.id.to_string(),
        time: Some(timestamp(row.create_time)),
        ended: has_ended(row),
        end_time: row.end_time.map(timestamp),
        latest_end_time: latest_end(row).map(timestamp),
    }
}

pub(super) fn subject(request: EraseUserRequest) -> Result<Subject, Error> {
    let named = |field: &'static str, text: String, most: usize| match text.len() {
        length if length == 0 || length > most => {
            Err(Error::invalid(field, format!("must be set, to at most {most} bytes")))
        }
        _ => Ok(text),
    };
    Ok(Subject {
        team: named("team_id", request.team_id, 200)?,
        user: named("user", request.user, MAX_USER)?,
        before: time("end_time", request.end_time)?,
        erasure: id("erasure_id", &request.erasure_id)?,
    })
}

pub(super) fn erased(erased: Erased, done: bool) -> EraseUserResponse {
    let Erased { executions, cached, artifacts, .. } = erased;
    EraseUserResponse { executions, cached, artifacts, done }
}

fn id(field: &'static str, text: &str) -> Result<Uuid, Error> {
    text.parse().map_err(|_| Error::invalid(field, "is not set or not a UUID"))
}

fn time(field: &'static str, at: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Error> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .map(|at| at.trunc_subsecs(6))
        .ok_or_else(|| Error::invalid(field, "is not set or not a time"))
}
