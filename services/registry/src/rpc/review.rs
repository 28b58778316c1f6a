//! Definitions that wait for approval: parse, call the use case, map.

use ::rpc::Call;
use proto::registry::v1::{self as wire, ApproveDefinitionRequest, ApproveDefinitionResponse};

use super::{Service, mapping::View};
use crate::{
    Error,
    change::{Change, Kind},
    review::{self, Question},
};

pub(super) async fn approve(
    service: &Service,
    call: &Call,
    request: ApproveDefinitionRequest,
) -> Result<ApproveDefinitionResponse, Error> {
    let ApproveDefinitionRequest { name, digest, reject, note } = request;
    let question = Question { name, digest, reject, note };
    let caller = &call.caller;
    let answer = review::review(&service.database, caller, question).await?;
    let view = View::of(caller);
    Ok(ApproveDefinitionResponse {
        tool: Some(view.tool(&answer.tool)?),
        pending: Some(view.tool(&answer.pending)?),
        changes: changes(answer.changes),
        decided: answer.decided,
    })
}

/// Differences of two definitions.
pub(super) fn changes(changes: Vec<Change>) -> Vec<wire::DefinitionChange> {
    changes.into_iter().map(change).collect()
}

fn change(change: Change) -> wire::DefinitionChange {
    let kind = match change.kind {
        Kind::Breaking => wire::ChangeKind::Breaking,
        Kind::Addition => wire::ChangeKind::Addition,
        Kind::Patch => wire::ChangeKind::Patch,
    };
    wire::DefinitionChange {
        kind: kind.into(),
        path: change.path,
        description: change.description,
        before_json: change.before,
        after_json: change.after,
    }
}
