//! How the trail is, on the wire.

use ::rpc::Call;
use chrono::{DateTime, Utc};
use prost_types::Timestamp;
use proto::audit::v1::{CheckpointPlace, GetTrailHealthRequest, GetTrailHealthResponse};
use tonic::{Request, Response, Status};

use super::{Service, reconcile::finding};
use crate::{health, reconcile};

pub(super) async fn get_trail_health(
    service: &Service,
    request: Request<GetTrailHealthRequest>,
) -> Result<Response<GetTrailHealthResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let health = health::trail_health(&service.checkpoints, &service.database, &call.caller.team).await;
    let health = health.map_err(|error| ::rpc::status(&error))?;
    let interval = service.reconciler.interval;
    let compared = reconcile::standing(&service.database, &call.caller.team, interval, Utc::now()).await;
    let compared = compared.map_err(|error| ::rpc::status(&error))?;
    let faults: Vec<String> = health.faults.into_iter().chain(compared.faults).collect();
    let places = health.places.into_iter().map(|place| CheckpointPlace {
        place: place.place,
        copied_size: place.copied_size,
        copy_time: place.copy_time.map(timestamp),
        failure: place.failure,
    });
    Ok(Response::new(GetTrailHealthResponse {
        healthy: faults.is_empty(),
        tree_size: health.tree_size,
        unsigned_events: health.unsigned,
        sign_time: health.sign_time.map(timestamp),
        places: places.collect(),
        reconcile_time: compared.until_time.map(timestamp),
        reconciled_executions: compared.executions,
        findings: compared.findings.into_iter().map(finding).collect(),
        open_findings: compared.open,
        faults,
    }))
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp { seconds: at.timestamp(), nanos: at.timestamp_subsec_nanos().try_into().unwrap_or(0) }
}
