//! `ExportTrail`: the trail as the lines of a file.

use std::pin::Pin;

use ::rpc::{Call, status};
use futures_util::{Stream, StreamExt};
use proto::audit::v1::{ExportTrailRequest, ExportTrailResponse};
use tonic::{Request, Response, Status};

use super::{Service, time};
use crate::export::{self, Asked, Part};

/// What whoever exports is sent.
pub(super) type Lines = Pin<Box<dyn Stream<Item = Result<ExportTrailResponse, Status>> + Send>>;

pub(super) async fn export_trail(
    service: &Service,
    request: Request<ExportTrailRequest>,
) -> Result<Response<Lines>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let request = request.into_inner();
    let begun = async {
        let asked = Asked {
            start_time: request.start_time.map(|at| time("start_time", Some(at))).transpose()?,
            end_time: request.end_time.map(|at| time("end_time", Some(at))).transpose()?,
            headers_only: request.headers_only,
        };
        let signer = service.checkpoints.signer();
        export::export(&service.database, &service.journal, signer, &call.caller, asked).await
    };
    let parts = begun.await.map_err(|error| status(&error))?;
    let lines = parts.map(|part| part.map(message).map_err(|error| status(&error)));
    Ok(Response::new(Box::pin(lines)))
}

fn message(part: Part) -> ExportTrailResponse {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    ExportTrailResponse {
        lines: part.lines,
        records: number(part.records),
        total_records: number(part.total),
    }
}
