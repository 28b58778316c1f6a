//! GetSelectorHealth on the wire.

use ::rpc::Call;
use proto::selector::v1::{GetSelectorHealthRequest, GetSelectorHealthResponse};

use super::{Service, count, mode};
use crate::{Error, health};

pub(super) async fn get(
    service: &Service,
    call: Call,
    _: GetSelectorHealthRequest,
) -> Result<GetSelectorHealthResponse, Error> {
    let health = health::health(&service.selector, &call.caller.team).await;
    Ok(GetSelectorHealthResponse {
        mode: mode(health.mode).into(),
        configured_mode: mode(health.configured).into(),
        mode_reason: health.mode_reason,
        model_id: health.model_id,
        tools: count(health.tools),
        vectors: count(health.vectors),
        vectors_pending: count(health.vectors_pending),
        index_bytes: i64::try_from(health.index_bytes).unwrap_or(i64::MAX),
        selections_waiting: count(health.selections_waiting),
        selections_lost: i64::try_from(health.selections_lost).unwrap_or(i64::MAX),
        alarms: count(health.alarms),
        model_state: health.model_state.to_owned(),
        tools_loading: health.tools_loading,
    })
}
