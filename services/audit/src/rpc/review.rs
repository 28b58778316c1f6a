//! Reviews on the wire.

use ::rpc::{Call, status};
use chrono::Utc;
use proto::audit::v1::{RecordReviewRequest, RecordReviewResponse};
use tonic::{Request, Response, Status};

use super::{Service, id, time};
use crate::{
    Error,
    payload::timestamp,
    review::{self, Review},
};

pub(super) async fn record_review(
    service: &Service,
    request: Request<RecordReviewRequest>,
) -> Result<Response<RecordReviewResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let review = review(request.into_inner()).map_err(|error| status(&error))?;
    let (database, journal) = (&service.database, &service.journal);
    let recorded = review::record(database, journal, &call.caller, review, Utc::now()).await;
    let (event_id, time) = recorded.map_err(|error| status(&error))?;
    Ok(Response::new(RecordReviewResponse { event_id: event_id.to_string(), time: Some(timestamp(time)) }))
}

fn review(request: RecordReviewRequest) -> Result<Review, Error> {
    let of = |(at, text): (usize, &String)| {
        let field = format!("event_ids[{at}]");
        id(&field, text)?.ok_or_else(|| Error::invalid(field, "is empty"))
    };
    let mut event_ids = request.event_ids.iter().enumerate().map(of).collect::<Result<Vec<_>, _>>()?;
    event_ids.sort_unstable();
    event_ids.dedup();
    Ok(Review {
        event_ids,
        start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
        end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
        conclusion: request.conclusion,
        follow_up: request.follow_up,
        request_id: request.request_id,
    })
}
