//! Legal holds on the wire.

use ::rpc::{Call, status};
use chrono::Utc;
use proto::audit::v1::{
    Hold as WireHold, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, PlaceHoldResponse,
    ReleaseHoldRequest, ReleaseHoldResponse,
};
use tonic::{Request, Response, Status};

use super::{Service, time};
use crate::{
    Error,
    holds::{self, Hold, NewHold},
    payload::timestamp,
};

pub(super) async fn place_hold(
    service: &Service,
    request: Request<PlaceHoldRequest>,
) -> Result<Response<PlaceHoldResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let new = new(request.into_inner()).map_err(|error| status(&error))?;
    let placed = holds::place(&service.database, &service.journal, &call.caller, new, Utc::now()).await;
    let hold = Some(hold(placed.map_err(|error| status(&error))?));
    Ok(Response::new(PlaceHoldResponse { hold }))
}

fn new(request: PlaceHoldRequest) -> Result<NewHold, Error> {
    Ok(NewHold {
        start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
        name: request.name,
        reason: request.reason,
        user: request.user,
        agent_id: request.agent_id,
    })
}

pub(super) async fn release_hold(
    service: &Service,
    request: Request<ReleaseHoldRequest>,
) -> Result<Response<ReleaseHoldResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let ReleaseHoldRequest { name, reason } = request.into_inner();
    let (database, journal) = (&service.database, &service.journal);
    let released = holds::release(database, journal, &call.caller, (&name, &reason), Utc::now()).await;
    let hold = Some(hold(released.map_err(|error| status(&error))?));
    Ok(Response::new(ReleaseHoldResponse { hold }))
}

pub(super) async fn list_holds(
    service: &Service,
    request: Request<ListHoldsRequest>,
) -> Result<Response<ListHoldsResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let with_released = request.get_ref().show_released;
    let listed = holds::list(&service.database, &service.journal, &call.caller.team, with_released).await;
    let holds = listed.map_err(|error| status(&error))?.into_iter().map(hold).collect();
    Ok(Response::new(ListHoldsResponse { holds }))
}

fn hold(hold: Hold) -> WireHold {
    let Hold { row, user } = hold;
    WireHold {
        name: row.name,
        reason: row.reason,
        user,
        agent_id: row.agent_id,
        start_time: row.start_time.map(timestamp),
        end_time: row.end_time.map(timestamp),
        place_agent_id: row.place_agent_id,
        place_time: Some(timestamp(row.place_time)),
        release_time: row.release_time.map(timestamp),
    }
}
