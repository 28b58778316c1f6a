//! AppendEvents: an event as it comes over the wire, into a draft.

use ::rpc::status;
use proto::audit::v1::{AppendEventsRequest, AppendEventsResponse, Event};
use tonic::{Request, Response, Status};
use trail::Payload;

use super::{Service, id, time};
use crate::{
    Error,
    adopt::duration_us,
    payload::{Draft, micros, word},
    store::RecordRow,
};

pub(super) async fn append_events(
    service: &Service,
    request: Request<AppendEventsRequest>,
) -> Result<Response<AppendEventsResponse>, Status> {
    if service.checkpoints.is_blocked() {
        return Err(status(&Error::Blocked));
    }
    let events = request.into_inner().events.into_iter().enumerate();
    let drafts = events.map(|(index, event)| draft(index, event)).collect::<Result<_, _>>();
    let done = service.journal.append(drafts.map_err(|error| status(&error))?).await;
    let done = done.map_err(|error| status(&error))?;
    let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
    Ok(Response::new(AppendEventsResponse { appended: count(done.new), duplicates: count(done.duplicates) }))
}

fn draft(index: usize, event: Event) -> Result<Draft, Error> {
    let field = |name: &str| format!("events[{index}].{name}");
    let required =
        |name: &str, value: Option<String>| value.ok_or_else(|| Error::invalid(field(name), "is not set"));
    let intent = event.intent_time.map(|at| time(&field("intent_time"), Some(at))).transpose()?;
    let record = RecordRow {
        id: id(&field("id"), &event.id)?.ok_or_else(|| Error::invalid(field("id"), "is not set"))?,
        action: required("action", word(event.action().as_str_name(), "ACTION_"))?,
        result: required("result", word(event.result().as_str_name(), "RESULT_"))?,
        team_id: required("team_id", (!event.team_id.is_empty()).then(|| event.team_id.clone()))?,
        event_time: micros(time(&field("time"), event.time)?),
        execution_id: id(&field("execution_id"), &event.execution_id)?,
        decision_id: id(&field("decision_id"), &event.decision_id)?,
        classification: Option::<types::Sensitivity>::from(event.sensitivity())
            .unwrap_or(types::Sensitivity::Internal)
            .to_string(),
        agent_id: event.agent_id,
        tool_name: event.tool_name,
        tool_version: event.tool_version,
        tool_digest: event.tool_digest,
        task_id: event.task_id,
        trace_id: event.trace_id,
        reason: event.reason,
        duration_us: duration_us(event.duration_ms),
        cost_micro_usd: event.cost_micro_usd,
        intent_time: intent.map(micros),
        // Set by the service alone.
        sequence: 0,
        subject_id: None,
        payload_hmac: Vec::new(),
        payload: None,
    };
    let payload = Payload {
        user: event.user,
        message: event.message,
        arguments_json: event.arguments_json,
        arguments_digest: event.arguments_digest,
        result_digest: event.result_digest,
        result_summary_json: event.result_summary_json,
    };
    Ok(Draft { record, payload })
}
