//! How the registry is.

use ::rpc::Call;
use proto::registry::v1::{GetRegistryHealthRequest, GetRegistryHealthResponse, ServerHealth};

use super::{
    Service,
    mapping::{server_state, timestamp},
};
use crate::{
    Error,
    health::{self, Answers},
    store::{ServerRow, ServerState},
};

pub(super) async fn health(
    service: &Service,
    call: &Call,
    _: GetRegistryHealthRequest,
) -> Result<GetRegistryHealthResponse, Error> {
    let threshold = service.servers.threshold;
    let survey = health::survey(&service.database, &call.caller.team, threshold).await?;
    let count = |tools: i64| i32::try_from(tools).unwrap_or(i32::MAX);
    Ok(GetRegistryHealthResponse {
        state: server_state(survey.state).into(),
        healthy_ratio: survey.healthy_ratio,
        threshold,
        servers: survey.servers.into_iter().map(server).collect(),
        active_tools: count(survey.tools.active),
        quarantined_tools: count(survey.tools.quarantined),
        disabled_tools: count(survey.tools.disabled),
        pending_tools: count(survey.tools.pending),
        revision: survey.revision,
        credential_warnings: service.credentials.warnings(&call.caller.team).await?,
    })
}

fn server(row: ServerRow) -> ServerHealth {
    let answers = Answers::of(&row);
    ServerHealth {
        name: row.name,
        state: server_state(row.state).into(),
        health: answers.health(),
        error_rate: 1.0 - answers.health(),
        latency_ms: answers.latency_ms(),
        last_seen_time: row.last_seen_time.map(timestamp),
        tool_count: i32::try_from(row.tool_count).unwrap_or(i32::MAX),
        last_error: if row.state == ServerState::Healthy { String::new() } else { row.last_error },
    }
}
