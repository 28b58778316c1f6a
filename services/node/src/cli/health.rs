//! `toolcrib health`: whether the edge and each service behind it serve, and how the selector matches words.

use proto::selector::v1::{GetSelectorHealthRequest, GetSelectorHealthResponse, Mode};
use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{
    client::Client,
    error::Error,
    json::{self, services},
    output::{Output, Tone, View},
    table::{Table, cell, details, toned},
    words::word,
};

/// What the edge calls itself in a list of services: health knows it by the empty name.
const EDGE: &str = "edge";

/// Runs the command.
pub async fn run(client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut states = Vec::new();
    for service in [String::new()].into_iter().chain(services()) {
        let asked = HealthCheckRequest { service: service.clone() };
        let state = state(client.health().check(asked).await.map(|answer| answer.into_inner().status))?;
        states.push((if service.is_empty() { EDGE.to_owned() } else { service }, state));
    }
    // Whether it serves is told to everybody, the rest to members of a team.
    let selector = client.selector().get_selector_health(GetSelectorHealthRequest {}).await;
    let selector = selector.ok().map(tonic::Response::into_inner);
    if output.is_json() {
        let services: Vec<_> = states
            .iter()
            .map(|(service, state)| json!({ "service": service, "state": state.name() }))
            .collect();
        let mut told = json!({ "services": services });
        if let Some(selector) = &selector {
            told["selector"] = json::of(selector)?;
        }
        output.json(&told)?;
    } else {
        output.view(|view| page(&states, selector.as_ref(), view))?;
    }
    if states.iter().all(|(_, state)| *state == State::Serving) { Ok(()) } else { Err(Error::Failed) }
}

/// What health says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Serving,
    NotServing,
    Unknown,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::NotServing => "not serving",
            Self::Unknown => "unknown",
        }
    }
}

fn state(answer: Result<i32, Status>) -> Result<State, Error> {
    match answer.map(ServingStatus::try_from) {
        Ok(Ok(ServingStatus::Serving)) => Ok(State::Serving),
        Ok(Ok(ServingStatus::NotServing)) => Ok(State::NotServing),
        Ok(_) => Ok(State::Unknown),
        // The health service answers so for a name that it does not know.
        Err(status) if status.code() == Code::NotFound => Ok(State::Unknown),
        Err(status) => Err(status.into()),
    }
}

fn page(states: &[(String, State)], selector: Option<&GetSelectorHealthResponse>, view: View) -> String {
    let told = selector.map(|selector| format!("\n\n{}", matching(selector, view)));
    format!("{}{}", table(states, view), told.unwrap_or_default())
}

/// How the selector matches words for the caller's team.
fn matching(selector: &GetSelectorHealthResponse, view: View) -> String {
    let mode = if selector.mode == selector.configured_mode {
        word::<Mode>(selector.mode)
    } else {
        let (mode, configured) = (word::<Mode>(selector.mode), word::<Mode>(selector.configured_mode));
        format!("{mode}, not {configured}: {}", selector.mode_reason)
    };
    let tools = if selector.tools_loading {
        "not read from the registry yet".to_owned()
    } else {
        selector.tools.to_string()
    };
    let some = |count: i64, what: &str| if count == 0 { String::new() } else { format!("{count} {what}") };
    let pending = some(selector.vectors_pending.into(), "still to be made");
    let vectors = [selector.vectors.to_string(), pending].into_iter().filter(|part| !part.is_empty());
    let rows = [
        ("selector", mode),
        ("model", selector.model_id.clone()),
        ("tools", tools),
        ("vectors", vectors.collect::<Vec<_>>().join(", ")),
        ("memory", format!("{:.1} MB", selector.index_bytes as f64 / 1e6)),
        ("waiting", some(selector.selections_waiting.into(), "selections to be written")),
        ("lost", some(selector.selections_lost, "selections that could not be kept")),
        ("alarms", some(selector.alarms.into(), "of the tools turned worse: see toolcrib effectiveness")),
        ("model help", selector.model_state.clone()),
    ];
    details(&rows, view)
}

fn table(states: &[(String, State)], view: View) -> String {
    let mut table = Table::new(&["SERVICE", "STATE"]).whole(&[0]);
    for (service, state) in states {
        let tone = match state {
            State::Serving => Tone::Good,
            State::NotServing => Tone::Bad,
            State::Unknown => Tone::Warn,
        };
        table.row(vec![cell(service), toned(state.name(), tone)]);
    }
    table.render(view, "no services")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn the_selector_says_why_it_does_not_match_as_it_was_set() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let selector = GetSelectorHealthResponse {
            mode: Mode::Lexical.into(),
            configured_mode: Mode::Full.into(),
            mode_reason: "model.onnx is cut off".into(),
            tools: 7,
            vectors_pending: 3,
            index_bytes: 2_500_000,
            alarms: 1,
            ..GetSelectorHealthResponse::default()
        };
        let text = matching(&selector, view);
        for told in
            ["lexical, not full: model.onnx is cut off", "0, 3 still to be made", "2.5 MB", "1 of the tools"]
        {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        assert!(!text.contains("lost") && !text.contains("waiting"), "{text}");
        let loading =
            GetSelectorHealthResponse { tools_loading: true, ..GetSelectorHealthResponse::default() };
        assert!(matching(&loading, view).contains("not read from the registry yet"));
    }

    #[test]
    fn only_serving_is_serving_and_a_lost_connection_is_an_error() {
        assert_eq!(state(Ok(ServingStatus::Serving as i32)).unwrap(), State::Serving);
        assert_eq!(state(Ok(ServingStatus::NotServing as i32)).unwrap(), State::NotServing);
        assert_eq!(state(Ok(77)).unwrap(), State::Unknown);
        assert_eq!(state(Err(Status::not_found("x"))).unwrap(), State::Unknown);
        assert!(state(Err(Status::unavailable("x"))).is_err());
    }
}
