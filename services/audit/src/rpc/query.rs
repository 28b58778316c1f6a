//! `QueryTrail`: the filter as it comes over the wire.

use ::rpc::{Call, status};
use proto::audit::v1::{QueryTrailRequest, QueryTrailResponse};
use tonic::{Request, Response, Status};

use super::{Service, id, time};
use crate::{
    Error,
    payload::{timestamp, word},
    query,
    store::Filter,
};

pub(super) async fn query_trail(
    service: &Service,
    request: Request<QueryTrailRequest>,
) -> Result<Response<QueryTrailResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let request = request.into_inner();
    let page = (request.page_size, request.page_token.as_str());
    let filter = filter(&request).map_err(|error| status(&error))?;
    let subjects = &service.journal.subjects;
    let read = query::query(&service.database, &service.pages, subjects, &call.caller, filter, page).await;
    let found = read.map_err(|error| status(&error))?;
    let events = subjects.events(found.rows).await.map_err(|error| status(&error))?;
    Ok(Response::new(QueryTrailResponse {
        events,
        next_page_token: found.next_page_token,
        available_start_time: found.available_start_time.map(timestamp),
    }))
}

/// The filter of a request.
pub(super) fn filter(request: &QueryTrailRequest) -> Result<Filter, Error> {
    let text = |value: &str| (!value.is_empty()).then(|| value.to_owned());
    let classification: Option<types::Sensitivity> = request.sensitivity().into();
    Ok(Filter {
        agent_id: text(&request.agent_id),
        tool_name: text(&request.tool_name),
        task_id: text(&request.task_id),
        execution_id: id("execution_id", &request.execution_id)?,
        action: word(request.action().as_str_name(), "ACTION_"),
        result: word(request.result().as_str_name(), "RESULT_"),
        start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
        user: text(&request.user),
        classification: classification.map(|classification| classification.to_string()),
        subject_id: id("subject_id", &request.subject_id)?,
    })
}
