//! RecordFeedback on the wire.

use ::rpc::Call;
use proto::selector::v1::{RecordFeedbackRequest, RecordFeedbackResponse};
use uuid::Uuid;

use super::{Service, id};
use crate::{
    Error,
    learn::{Said, give},
};

pub(super) async fn record(
    service: &Service,
    call: Call,
    request: RecordFeedbackRequest,
) -> Result<RecordFeedbackResponse, Error> {
    let said = said(request)?;
    service.selector.selections.written().await;
    let place = (&service.database, &service.learned, &service.catalog);
    let (feedback, replaced) = give(place, &call.caller, said).await?;
    Ok(RecordFeedbackResponse { feedback_id: feedback.to_string(), replaced })
}

fn said(request: RecordFeedbackRequest) -> Result<Said, Error> {
    let unset = || Error::invalid("selection_id", "is not set; SelectTools gave it with its answer");
    let selection_id = id("selection_id", &request.selection_id)?.ok_or_else(unset)?;
    let request_id = id("request_id", &request.request_id)?.as_ref().map(Uuid::to_string).unwrap_or_default();
    if request.tool_name.contains('\0') {
        return Err(Error::invalid("tool_name", "must not contain NUL"));
    }
    Ok(Said {
        selection_id,
        tool_name: request.tool_name,
        quality: request.quality,
        comment: request.comment,
        followed: request.followed,
        request_id,
    })
}
