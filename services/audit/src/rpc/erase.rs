//! Erasures on the wire.

use ::rpc::Call;
use proto::audit::v1::{EraseSubjectRequest, EraseSubjectResponse, ErasedPart};
use tonic::{Request, Response, Status};

use super::Service;
use crate::{
    erase::Asked,
    store::{ErasureRow, Part},
};

pub(super) async fn erase_subject(
    service: &Service,
    request: Request<EraseSubjectRequest>,
) -> Result<Response<EraseSubjectResponse>, Status> {
    let call = Call::of(&request).map_err(|status| *status)?;
    let EraseSubjectRequest { user, reason, request_id } = request.into_inner();
    let asked = Asked { user, reason, request_id };
    let erasure = service.eraser.erase(&call.caller, &asked, call.deadline).await;
    Ok(Response::new(answer(erasure.map_err(|error| ::rpc::status(&error))?)))
}

fn answer(erasure: ErasureRow) -> EraseSubjectResponse {
    let part = |Part { part, records, done, failure }: Part| ErasedPart { part, records, done, failure };
    EraseSubjectResponse {
        erasure_id: erasure.id.to_string(),
        done: erasure.done_time.is_some(),
        parts: erasure.parts.0.into_iter().map(part).collect(),
        certificate: erasure.certificate,
    }
}
