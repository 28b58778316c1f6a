//! PinTool, UnpinTool and ListPins on the wire.

use ::rpc::Call;
use chrono::Utc;
use proto::{
    selector::v1::{
        ListPinsRequest, ListPinsResponse, Pin as WirePin, PinToolRequest, PinToolResponse, UnpinToolRequest,
        UnpinToolResponse,
    },
    types::v1 as wire,
};

use super::{Service, category, id, timestamp};
use crate::{Error, pins::Pin};

pub(super) async fn pin(
    service: &Service,
    call: Call,
    request: PinToolRequest,
) -> Result<PinToolResponse, Error> {
    let pin = Pin {
        id: types::new_id(),
        tool_name: request.tool_name,
        agent_id: request.agent_id,
        category: category("category", request.category)?,
        note: request.note,
        create_agent_id: call.caller.agent.clone(),
        create_time: Utc::now(),
    };
    let selector = &service.selector;
    let index = selector.indexes.of(&call).await?;
    let pin = selector.pins.pin(&service.database, &call.caller, &index, pin).await?;
    Ok(PinToolResponse { pin: Some(told(pin)) })
}

pub(super) async fn unpin(
    service: &Service,
    call: Call,
    request: UnpinToolRequest,
) -> Result<UnpinToolResponse, Error> {
    let id = id("pin_id", &request.pin_id)?.ok_or_else(|| Error::invalid("pin_id", "is not set"))?;
    service.selector.pins.unpin(&service.database, &call.caller.team, id).await?;
    Ok(UnpinToolResponse {})
}

pub(super) async fn list(
    service: &Service,
    call: Call,
    _: ListPinsRequest,
) -> Result<ListPinsResponse, Error> {
    let pins = service.selector.pins.list(&service.database, &call.caller.team).await?;
    Ok(ListPinsResponse { pins: pins.into_iter().map(told).collect() })
}

fn told(pin: Pin) -> WirePin {
    WirePin {
        pin_id: pin.id.to_string(),
        tool_name: pin.tool_name,
        agent_id: pin.agent_id,
        category: pin.category.map_or(0, |category| wire::Category::from(category).into()),
        note: pin.note,
        create_agent_id: pin.create_agent_id,
        create_time: Some(timestamp(pin.create_time)),
    }
}
