//! Erasures of end users, as the contract tells them to the audit service.

use proto::permissions::v1::{EraseUserRequest, EraseUserResponse};

use super::{Service, id, now, time};
use crate::{Error, erase_user, store::Subject};

/// Longest name of an end user, in bytes: no caller has a longer one.
const MAX_USER: usize = 1_000;

pub(super) async fn erase(service: &Service, request: EraseUserRequest) -> Result<EraseUserResponse, Error> {
    let subject = subject(request)?;
    let (erased, done) = erase_user::erase(&service.database, &service.desk.teams, &subject, now()).await?;
    Ok(EraseUserResponse { access_requests: erased.access_requests, deliveries: erased.deliveries, done })
}

fn subject(request: EraseUserRequest) -> Result<Subject, Error> {
    if request.team_id.is_empty() {
        return Err(Error::invalid("team_id", "is not set"));
    }
    if request.user.is_empty() || request.user.len() > MAX_USER {
        return Err(Error::invalid("user", format!("must be set, to at most {MAX_USER} bytes")));
    }
    let before = request.end_time.ok_or_else(|| Error::invalid("end_time", "is not set"))?;
    Ok(Subject {
        before: time("end_time", before)?,
        erasure: id("erasure_id", &request.erasure_id)?,
        team: request.team_id,
        user: request.user,
    })
}
