//! `toolcrib health`: whether the edge and each service behind it serve.

use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{
    client::Client,
    error::Error,
    json::services,
    output::{Output, Tone, View},
    table::{Table, cell, toned},
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
    if output.is_json() {
        let services: Vec<_> = states
            .iter()
            .map(|(service, state)| json!({ "service": service, "state": state.name() }))
            .collect();
        output.json(&json!({ "services": services }))?;
    } else {
        output.view(|view| table(&states, view))?;
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

    #[test]
    fn only_serving_is_serving_and_a_lost_connection_is_an_error() {
        assert_eq!(state(Ok(ServingStatus::Serving as i32)).unwrap(), State::Serving);
        assert_eq!(state(Ok(ServingStatus::NotServing as i32)).unwrap(), State::NotServing);
        assert_eq!(state(Ok(77)).unwrap(), State::Unknown);
        assert_eq!(state(Err(Status::not_found("x"))).unwrap(), State::Unknown);
        assert!(state(Err(Status::unavailable("x"))).is_err());
    }
}
