//! What the trail tells of the audit service's own work, as events of it. No name of a user is ever in one: they outlast
//! every erasure.

use proto::audit::v1::{Action, Result as Outcome};
use uuid::Uuid;

use crate::{
    payload::Draft,
    store::{ErasureRow, FindingRow},
};

/// That executions and trail do not agree. It has the id of the finding, so that it is there once.
pub(crate) fn discrepancy(finding: FindingRow) -> Draft {
    let FindingRow { team_id, id, kind, execution_id, message, .. } = finding;
    let mut draft = Draft::own(&team_id, "", Action::DiscrepancyFound, Outcome::Failure, message);
    draft.record.id = id;
    draft.record.execution_id = Some(execution_id).filter(|id| *id != Uuid::nil());
    draft.record.reason = kind;
    draft
}

/// That a data subject is erased: by pseudonym, and why, both in the header, so that the leaf proves them. It has the id
/// of the erasure, and no payload.
pub(crate) fn erased(team: &str, erasure: &ErasureRow) -> Draft {
    let (agent, nothing) = (&erasure.agent_id, String::new());
    let mut draft = Draft::own(team, agent, Action::SubjectErased, Outcome::Success, nothing);
    draft.record.id = erasure.id;
    draft.record.event_time = erasure.request_time;
    draft.record.subject_id = erasure.subject_id;
    draft.record.reason.clone_from(&erasure.reason);
    draft
}
