//! `WatchTrail`: events as they arrive.

use std::pin::Pin;

use ::rpc::{Call, status};
use futures_util::{Stream, StreamExt};
use proto::audit::v1::{WatchTrailRequest, WatchTrailResponse};
use tonic::{Request, Response, Status};

use super::{Service, query::filter};
use crate::{Error, store::Filter};

/// What a watcher is sent.
pub(super) type Events = Pin<Box<dyn Stream<Item = Result<WatchTrailResponse, Status>> + Send>>;

pub(super) async fn watch_trail(
    service: &Service,
    request: Request<WatchTrailRequest>,
) -> Result<Response<Events>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let WatchTrailRequest { filter: asked, after_sequence } = request.into_inner();
    let filter = filter(&asked.unwrap_or_default()).map_err(|error| status(&error))?;
    // They say which part of the past is asked for, and this is about the future.
    let filter = Filter { start_time: None, end_time: None, ..filter };
    let watch = service.watches.watch(&call.caller.team, filter, after_sequence).await;
    let steps = watch.map_err(|error| status(&error))?;
    let subjects = service.journal.subjects.clone();
    let events = steps.then(move |step| {
        let subjects = subjects.clone();
        async move {
            let step = step?;
            let events = subjects.events(step.rows).await?;
            Ok::<_, Error>(WatchTrailResponse { events, sequence: step.position })
        }
    });
    Ok(Response::new(Box::pin(events.map(|event| event.map_err(|error| status(&error))))))
}
