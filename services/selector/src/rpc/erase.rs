//! EraseUser on the wire.

use ::rpc::Call;
use proto::selector::v1::{EraseUserRequest, EraseUserResponse};

use super::{Service, id, time};
use crate::{Error, erase_user, store::Subject};

/// Longest name of an end user, in bytes: no caller has a longer one.
const MAX_USER: usize = 1_000;

pub(super) async fn erase(
    service: &Service,
    _: Call,
    request: EraseUserRequest,
) -> Result<EraseUserResponse, Error> {
    let subject = subject(request)?;
    let (erased, done) =
        erase_user::erase(&service.database, &subject, service.selection_write_timeout).await?;
    Ok(EraseUserResponse { selections: erased.selections, feedback: erased.feedback, done })
}

fn subject(request: EraseUserRequest) -> Result<Subject, Error> {
    if request.team_id.is_empty() || request.team_id.contains('\0') {
        return Err(Error::invalid("team_id", "is not set, or contains NUL"));
    }
    if request.user.is_empty() || request.user.len() > MAX_USER || request.user.contains('\0') {
        return Err(Error::invalid("user", format!("must be set, to at most {MAX_USER} bytes without NUL")));
    }
    let unset = || Error::invalid("erasure_id", "is not set; it names the erasure that is counted under");
    Ok(Subject {
        before: time("end_time", request.end_time)?,
        erasure: id("erasure_id", &request.erasure_id)?.ok_or_else(unset)?,
        team: request.team_id,
        user: request.user,
    })
}
