//! From a name to the tool that runs: the snapshot first, then the registry itself, so that a tool
//! registered a moment ago is found.

use std::{sync::Arc, time::Duration};

use ::rpc::{Link, Outgoing};
use catalog::Catalog;
use proto::registry::v1::{
    GetToolRequest, Tool, ToolDefinition, ToolStatus, get_tool_request::Key,
    registry_service_client::RegistryServiceClient,
};
use types::{Caller, Kind};

use crate::Error;

/// Names offered for one that does not exist.
const MAX_NEAREST: usize = 3;
/// Jaro-Winkler similarity from which a name is offered.
const NEAR: f64 = 0.75;
/// How long the registry may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Finds tools.
#[derive(Debug, Clone)]
pub(crate) struct Resolver {
    pub catalog: Catalog,
    pub registry: Link,
    pub outgoing: Outgoing,
}

impl Resolver {
    /// The callable tool of this name or version id.
    pub(crate) async fn resolve(&self, caller: &Caller, name: &str) -> Result<Arc<Tool>, Error> {
        let tool = match self.catalog.find(&caller.team, name) {
            Some(tool) => tool,
            None => self.ask(caller, name).await?,
        };
        match tool.status() {
            ToolStatus::Active | ToolStatus::Deprecated => Ok(tool),
            ToolStatus::Quarantined => Err(unavailable(name, "quarantined")),
            ToolStatus::Disabled | ToolStatus::Unspecified => Err(unavailable(name, "disabled")),
        }
    }

    async fn ask(&self, caller: &Caller, name: &str) -> Result<Arc<Tool>, Error> {
        let by_id = name.parse::<uuid::Uuid>().is_ok();
        let key = if by_id { Key::Id(name.to_owned()) } else { Key::Name(name.to_owned()) };
        let request = GetToolRequest { key: Some(key), version: String::new() };
        let ask = || {
            let (mut client, request) = (RegistryServiceClient::new(self.registry.clone()), request.clone());
            async move { client.get_tool(self.outgoing.request(caller, TIMEOUT, request)).await }
        };
        match self.outgoing.read(ask).await {
            Ok(answer) => answer
                .tool
                .map(|tool| {
                    if !by_id {
                        self.catalog.upsert(tool.clone());
                    }
                    Arc::new(tool)
                })
                .ok_or_else(|| Error::Internal("the registry answered without a tool".into())),
            Err(status) if rpc::kind_of(&status) == Kind::NotFound => Err(self.not_found(caller, name)),
            Err(status) => Err(Error::Peer { service: "registry", status: status.to_string() }),
        }
    }

    fn not_found(&self, caller: &Caller, name: &str) -> Error {
        let tools = self.catalog.team(&caller.team);
        Error::ToolNotFound {
            name: name.to_owned(),
            nearest: nearest(name, tools.keys().map(String::as_str)),
        }
    }
}

/// The definition of a tool; one without is the registry's fault.
pub(crate) fn definition(tool: &Tool) -> Result<&ToolDefinition, Error> {
    tool.definition.as_ref().ok_or_else(|| Error::Internal("a tool without a definition".into()))
}

fn unavailable(name: &str, status: &'static str) -> Error {
    Error::ToolUnavailable { tool: name.to_owned(), status }
}

/// The names most like one, best first.
fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted = name.to_lowercase();
    let similar = |known: &'a str| {
        let contained = !wanted.is_empty() && known.contains(&wanted);
        let last = known.rsplit('.').next().unwrap_or(known);
        let score = strsim::jaro_winkler(&wanted, known).max(strsim::jaro_winkler(&wanted, last));
        (if contained { score.max(NEAR) } else { score }, known)
    };
    let mut found: Vec<(f64, &str)> = names.map(similar).filter(|(score, _)| *score >= NEAR).collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    found.into_iter().take(MAX_NEAREST).map(|(_, name)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_name_and_nonsense_finds_none() {
        let names = ["python_sandbox", "pandas_analyzer", "file_operations", "time.get_current_time"];
        assert_eq!(nearest("python_sandbx", names.into_iter())[0], "python_sandbox");
        assert_eq!(nearest("get_current_tim", names.into_iter())[0], "time.get_current_time");
        assert_eq!(nearest("pandas", names.into_iter())[0], "pandas_analyzer");
        assert!(nearest("zzzz", names.into_iter()).is_empty());
    }
}
