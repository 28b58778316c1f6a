//! The leaf of a record: which of its columns the tree covers, and how they are written. Must never change for a record
//! that is signed.

use trail::Header;

use crate::store::RecordRow;

/// The header whose canonical bytes are the record's leaf.
pub(crate) fn header(record: &RecordRow) -> Header {
    let id = |id: Option<uuid::Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    Header {
        team_id: record.team_id.clone(),
        index: record.sequence - 1,
        id: record.id.to_string(),
        event_time: record.event_time,
        action: record.action.clone(),
        result: record.result.clone(),
        agent_id: record.agent_id.clone(),
        tool_name: record.tool_name.clone(),
        tool_version: record.tool_version.clone(),
        tool_digest: record.tool_digest.clone(),
        execution_id: id(record.execution_id),
        task_id: record.task_id.clone(),
        trace_id: record.trace_id.clone(),
        reason: record.reason.clone(),
        duration_us: record.duration_us,
        cost_micro_usd: record.cost_micro_usd,
        classification: record.classification.clone(),
        decision_id: id(record.decision_id),
        intent_time: record.intent_time,
        subject_id: id(record.subject_id),
        payload_hmac: hex::encode(&record.payload_hmac),
    }
}
