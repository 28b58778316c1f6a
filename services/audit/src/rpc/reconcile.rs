//! The comparison of executions with the trail, on the wire.

use ::rpc::Call;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use proto::audit::v1::{Finding, ReconcileTrailRequest, ReconcileTrailResponse};
use tonic::{Request, Response, Status};

use super::Service;
use crate::{Error, payload::timestamp, reconcile, store::FindingRow};

pub(super) async fn reconcile_trail(
    service: &Service,
    request: Request<ReconcileTrailRequest>,
) -> Result<Response<ReconcileTrailResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let start = request.into_inner().start_time.map(start_time).transpose();
    let start = start.map_err(|error| ::rpc::status(&error))?;
    let done = reconcile::reconcile(&service.reconciler, &call.caller.team, start).await;
    let done = done.map_err(|error| ::rpc::status(&error))?;
    Ok(Response::new(ReconcileTrailResponse {
        executions: done.executions,
        events: done.events,
        findings: done.findings.into_iter().map(finding).collect(),
    }))
}

/// What was found, as it is told.
pub(super) fn finding(row: FindingRow) -> Finding {
    Finding {
        id: row.id.to_string(),
        kind: row.kind,
        execution_id: if row.execution_id.is_nil() { String::new() } else { row.execution_id.to_string() },
        find_time: Some(timestamp(row.find_time)),
        resolve_time: row.resolve_time.map(timestamp),
        message: row.message,
    }
}

fn start_time(at: Timestamp) -> Result<DateTime<Utc>, Error> {
    u32::try_from(at.nanos)
        .ok()
        .and_then(|nanos| DateTime::from_timestamp(at.seconds, nanos))
        .ok_or_else(|| Error::invalid("start_time", "is not a time"))
}
