//! The gRPC face of the audit service: parse, call the use case, map. The one mapping of an event.

use ::rpc::{Call, PageKey, status};
use ::store::Database;
use chrono::{DateTime, Utc};
use proto::{
    audit::v1::{
        Action, AppendEventsRequest, AppendEventsResponse, Event, QueryTrailRequest, QueryTrailResponse,
        Result as Outcome, audit_service_server::AuditService,
    },
    types::v1::Sensitivity,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    Error, append,
    ledger::Ledger,
    query,
    store::{EventRow, Filter},
};

pub(crate) struct Service {
    pub database: Database,
    pub ledger: Ledger,
    pub pages: PageKey,
}

#[tonic::async_trait]
impl AuditService for Service {
    async fn append_events(
        &self,
        request: Request<AppendEventsRequest>,
    ) -> Result<Response<AppendEventsResponse>, Status> {
        let events =
            request.into_inner().events.into_iter().enumerate().map(|(index, event)| row(index, event));
        let events = events.collect::<Result<_, _>>().map_err(|error| status(&error))?;
        let done = append::append(&self.ledger, events).await.map_err(|error| status(&error))?;
        let count = |number: usize| i32::try_from(number).unwrap_or(i32::MAX);
        Ok(Response::new(AppendEventsResponse {
            appended: count(done.new),
            duplicates: count(done.duplicates),
        }))
    }

    async fn query_trail(
        &self,
        request: Request<QueryTrailRequest>,
    ) -> Result<Response<QueryTrailResponse>, Status> {
        let call = Call::of(&request).map_err(|status| *status)?;
        let request = request.into_inner();
        let page = (request.page_size, request.page_token.as_str());
        let filter = filter(&request).map_err(|error| status(&error))?;
        let (rows, next_page_token) = query::query(&self.database, &self.pages, &call.caller, filter, page)
            .await
            .map_err(|error| status(&error))?;
        let events = rows.into_iter().map(event).collect();
        Ok(Response::new(QueryTrailResponse { events, next_page_token }))
    }
}

fn filter(request: &QueryTrailRequest) -> Result<Filter, Error> {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    Ok(Filter {
        agent_id: text(&request.agent_id),
        tool_name: text(&request.tool_name),
        task_id: text(&request.task_id),
        execution_id: id("execution_id", &request.execution_id)?,
        action: word(request.action().as_str_name(), "ACTION_"),
        result: word(request.result().as_str_name(), "RESULT_"),
        start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
    })
}

fn row(index: usize, event: Event) -> Result<EventRow, Error> {
    let field = |name: &str| format!("events[{index}].{name}");
    let required =
        |name: &str, value: Option<String>| value.ok_or_else(|| Error::invalid(field(name), "is not set"));
    Ok(EventRow {
        id: id(&field("id"), &event.id)?.ok_or_else(|| Error::invalid(field("id"), "is not set"))?,
        action: required("action", word(event.action().as_str_name(), "ACTION_"))?,
        result: required("result", word(event.result().as_str_name(), "RESULT_"))?,
        team_id: required("team_id", (!event.team_id.is_empty()).then(|| event.team_id.clone()))?,
        event_time: time(&field("time"), event.time)?,
        execution_id: id(&field("execution_id"), &event.execution_id)?,
        decision_id: id(&field("decision_id"), &event.decision_id)?,
        sensitivity: Option::<types::Sensitivity>::from(event.sensitivity())
            .unwrap_or(types::Sensitivity::Internal)
            .to_string(),
        sequence: 0,
        agent_id: event.agent_id,
        tool_name: event.tool_name,
        tool_version: event.tool_version,
        tool_digest: event.tool_digest,
        task_id: event.task_id,
        trace_id: event.trace_id,
        reason: event.reason,
        message: event.message,
        arguments_json: event.arguments_json,
        arguments_digest: event.arguments_digest,
        result_digest: event.result_digest,
        duration_ms: event.duration_ms,
        cost_micro_usd: event.cost_micro_usd,
    })
}

fn event(row: EventRow) -> Event {
    let text = |id: Option<Uuid>| id.map(|id| id.to_string()).unwrap_or_default();
    let action = Action::from_str_name(&format!("ACTION_{}", row.action.to_uppercase())).unwrap_or_default();
    let result = Outcome::from_str_name(&format!("RESULT_{}", row.result.to_uppercase())).unwrap_or_default();
    let sensitivity =
        row.sensitivity.parse::<types::Sensitivity>().map(Sensitivity::from).unwrap_or_default();
    Event {
        id: row.id.to_string(),
        team_id: row.team_id,
        time: Some(timestamp(row.event_time)),
        action: action.into(),
        result: result.into(),
        agent_id: row.agent_id,
        tool_name: row.tool_name,
        tool_version: row.tool_version,
        tool_digest: row.tool_digest,
        execution_id: text(row.execution_id),
        task_id: row.task_id,
        trace_id: row.trace_id,
        reason: row.reason,
        message: row.message,
        arguments_json: row.arguments_json,
        arguments_digest: row.arguments_digest,
        result_digest: row.result_digest,
        duration_ms: row.duration_ms,
        cost_micro_usd: row.cost_micro_usd,
        sensitivity: sensitivity.into(),
        decision_id: text(row.decision_id),
        sequence: row.sequence,
    }
}

/// `ACTION_TOOL_INVOKED` is stored as `tool_invoked`; the unspecified value is `None`.
fn word(name: &str, prefix: &str) -> Option<String> {
    let word = name.trim_start_matches(prefix).to_lowercase();
    (word != "unspecified").then_some(word)
}

fn id(field: &str, text: &str) -> Result<Option<Uuid>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| Error::invalid(field, "is not a UUID"))
}

fn time(field: &str, at: Option<prost_types::Timestamp>) -> Result<DateTime<Utc>, Error> {
    at.and_then(|at| DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?))
        .ok_or_else(|| Error::invalid(field, "is not set or not a time"))
}

fn timestamp(at: DateTime<Utc>) -> prost_types::Timestamp {
    let nanos = i32::try_from(at.timestamp_subsec_nanos()).unwrap_or(0);
    prost_types::Timestamp { seconds: at.timestamp(), nanos }
}
