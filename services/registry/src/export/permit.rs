//! Asks the permissions service which tools the caller may call now: one request, on the caller's behalf, and nothing
//! reserved. No decision means no.

use ::rpc::{Call, Link, Outgoing};
use proto::permissions::v1::{
    BatchAuthorizeRequest, ToolDecision, ToolFacts, permissions_service_client::PermissionsServiceClient,
};

use crate::{Error, store::ToolRow};

/// The permissions service.
#[derive(Debug, Clone)]
pub(crate) struct Permissions {
    client: PermissionsServiceClient<Link>,
    outgoing: Outgoing,
}

impl Permissions {
    pub(crate) fn new(link: Link, outgoing: Outgoing) -> Self {
        Self { client: PermissionsServiceClient::new(link), outgoing }
    }

    /// For each tool `None`, or the reason it may not be called.
    pub(super) async fn permit(&self, call: &Call, tools: &[ToolRow]) -> Result<Vec<Option<String>>, Error> {
        if tools.is_empty() {
            return Ok(vec![]);
        }
        let facts = tools.iter().map(facts).collect::<Result<Vec<ToolFacts>, Error>>()?;
        let ask = || {
            let (mut client, message) = (self.client.clone(), BatchAuthorizeRequest { tools: facts.clone() });
            let request = self.outgoing.request(&call.caller, call.time_left(), message);
            async move { client.batch_authorize(request).await }
        };
        let answer = self.outgoing.read(ask).await;
        let decisions = answer
            .map_err(|status| Error::Undecided(format!("{:?}: {}", status.code(), status.message())))?
            .decisions;
        if decisions.len() != tools.len() {
            return Err(Error::Undecided(format!("{} decisions for {} tools", decisions.len(), tools.len())));
        }
        Ok(decisions.into_iter().map(refusal).collect())
    }
}

fn facts(row: &ToolRow) -> Result<ToolFacts, Error> {
    let definition = row.definition()?;
    Ok(ToolFacts {
        tool_name: row.name.clone(),
        effect: proto::types::v1::Effect::from(definition.effect).into(),
        sensitivity: proto::types::v1::Sensitivity::from(definition.sensitivity).into(),
    })
}

fn refusal(decision: ToolDecision) -> Option<String> {
    match decision {
        ToolDecision { allowed: true, .. } => None,
        ToolDecision { reason, .. } if reason.is_empty() => Some("NO_GRANT".to_owned()),
        ToolDecision { reason, .. } => Some(reason),
    }
}
