//! The tool that is asked for, as the registry has it now.

use std::time::Duration;

use ::rpc::{Link, Outgoing, kind_of};
use proto::registry::v1::{
    GetToolRequest, get_tool_request::Key, registry_service_client::RegistryServiceClient,
};
use types::{Caller, Kind};

use crate::{Error, policies::ToolFacts};

/// How long the registry may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The way to the registry.
pub(crate) struct Registry<'a> {
    pub link: &'a Link,
    pub outgoing: &'a Outgoing,
}

/// The version of a tool that serves.
#[derive(Debug, Clone)]
pub(crate) struct Serving {
    pub facts: ToolFacts,
    pub digest: String,
    pub input_schema_json: String,
    /// What is taken out of its arguments before they are stored, besides what always is.
    pub redaction: redact::Added,
    /// What a call costs, in micro USD.
    pub cost_micro_usd: i64,
}

impl Registry<'_> {
    /// The tool of this name.
    pub(crate) async fn serving(&self, caller: &Caller, name: &str) -> Result<Serving, Error> {
        let request = GetToolRequest { key: Some(Key::Name(name.to_owned())), version: String::new() };
        let ask = || {
            let (mut client, request) = (RegistryServiceClient::new(self.link.clone()), request.clone());
            async move { client.get_tool(self.outgoing.request(caller, TIMEOUT, request)).await }
        };
        let answer = match self.outgoing.read(ask).await {
            Ok(answer) => answer,
            Err(status) if kind_of(&status) == Kind::NotFound => return Err(no_tool(name)),
            Err(status) => return Err(Error::peer("registry", &status)),
        };
        let tool = answer.tool.unwrap_or_default();
        let definition = tool.definition.ok_or_else(|| no_tool(name))?;
        let (effect, sensitivity) = (definition.effect(), definition.sensitivity());
        Ok(Serving {
            facts: ToolFacts {
                effect: Option::from(effect).unwrap_or(types::Effect::SideEffect),
                sensitivity: Option::from(sensitivity).unwrap_or(types::Sensitivity::Internal),
                name: definition.name,
            },
            redaction: tool
                .settings
                .and_then(|settings| settings.redaction)
                .map_or_else(Default::default, |set| {
                    redact::Added::of(set.keys, set.patterns.into_iter().map(|it| (it.name, it.pattern)))
                }),
            digest: tool.digest,
            cost_micro_usd: definition.cost_micro_usd,
            input_schema_json: definition.input_schema_json,
        })
    }
}

fn no_tool(name: &str) -> Error {
    Error::NotFound { what: "tool", name: name.to_owned(), hint: "list them: toolcrib tools list" }
}
