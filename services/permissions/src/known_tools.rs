//! Whether the tools that a grant names are there, as the registry says to its caller. Never takes "I cannot say" for
//! an answer.

use std::time::Duration;

use ::rpc::kind_of;
use proto::registry::v1::{
    GetToolRequest, SearchToolsRequest, get_tool_request::Key, registry_service_client::RegistryServiceClient,
};
use types::{Caller, Kind};

use crate::{Error, access_requests::Registry, pattern};

/// How long the registry may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Tools looked at in one page, and pages, until one is found that a pattern means.
const PAGE: i32 = 200;
const MAX_PAGES: usize = 50;

impl Registry<'_> {
    /// Succeeds when there is a tool of this name, or one that this pattern means.
    pub(crate) async fn knows(&self, caller: &Caller, tool: &str) -> Result<(), Error> {
        let is_known = match pattern::prefix(tool) {
            Some(prefix) => self.knows_below(caller, prefix).await?,
            None => self.knows_one(caller, tool).await?,
        };
        let hint = "register it first, or see what there is: toolcrib tools list";
        let missing = || Error::NotFound { what: "tool", name: tool.to_owned(), hint };
        if is_known { Ok(()) } else { Err(missing()) }
    }

    async fn knows_one(&self, caller: &Caller, tool: &str) -> Result<bool, Error> {
        let request = GetToolRequest { key: Some(Key::Name(tool.to_owned())), version: String::new() };
        let ask = || {
            let (mut client, request) = (RegistryServiceClient::new(self.link.clone()), request.clone());
            async move { client.get_tool(self.outgoing.request(caller, TIMEOUT, request)).await }
        };
        match self.outgoing.read(ask).await {
            Ok(_) => Ok(true),
            Err(status) if kind_of(&status) == Kind::NotFound => Ok(false),
            Err(status) => Err(Error::peer("registry", &status)),
        }
    }

    async fn knows_below(&self, caller: &Caller, prefix: &str) -> Result<bool, Error> {
        let mut request =
            SearchToolsRequest { name: prefix.to_owned(), page_size: PAGE, ..SearchToolsRequest::default() };
        for _ in 0..MAX_PAGES {
            let ask = || {
                let (mut client, request) = (RegistryServiceClient::new(self.link.clone()), request.clone());
                async move { client.search_tools(self.outgoing.request(caller, TIMEOUT, request)).await }
            };
            let page = self.outgoing.read(ask).await.map_err(|status| Error::peer("registry", &status))?;
            let names =
                page.tools.iter().filter_map(|found| Some(&found.tool.as_ref()?.definition.as_ref()?.name));
            if names.into_iter().any(|name| name.starts_with(prefix)) {
                return Ok(true);
            }
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        Ok(false)
    }
}
