//! Asks the permissions service which of some tools the caller may call now: one request, on the caller's
//! behalf. No decision means no: a tool is never offered on a guess.

use ::rpc::{Call, Link, Outgoing};
use proto::permissions::v1::{
    BatchAuthorizeRequest, ToolDecision, ToolFacts, permissions_service_client::PermissionsServiceClient,
};

use crate::{Error, entry::Entry};

/// Most tools of one request.
pub(crate) const MAX_TOOLS: usize = 10_000;

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
    pub(crate) async fn permit(
        &self,
        call: &Call,
        tools: impl Iterator<Item = &Entry>,
    ) -> Result<Vec<Option<String>>, Error> {
        let tools: Vec<&Entry> = tools.collect();
        let asked = tools.len();
        let ask = || {
            let message = BatchAuthorizeRequest { tools: tools.iter().map(|entry| facts(entry)).collect() };
            let mut client = self.client.clone();
            let request = self.outgoing.request(&call.caller, call.time_left(), message);
            async move { client.batch_authorize(request).await }
        };
        let answer = self.outgoing.read(ask).await;
        let decisions = answer
            .map_err(|status| Error::Undecided(format!("{:?}: {}", status.code(), status.message())))?
            .decisions;
        if decisions.len() != asked {
            return Err(Error::Undecided(format!("{} decisions for {asked} tools", decisions.len())));
        }
        Ok(decisions.into_iter().map(refusal).collect())
    }
}

fn facts(entry: &Entry) -> ToolFacts {
    let effect = entry.tool.definition.as_ref().map_or(0, |definition| definition.effect);
    let sensitivity = proto::types::v1::Sensitivity::from(entry.sensitivity).into();
    ToolFacts { tool_name: entry.name.clone(), effect, sensitivity }
}

fn refusal(decision: ToolDecision) -> Option<String> {
    match decision {
        ToolDecision { allowed: true, .. } => None,
        ToolDecision { reason, .. } if reason.is_empty() => Some("NO_GRANT".to_owned()),
        ToolDecision { reason, .. } => Some(reason),
    }
}
