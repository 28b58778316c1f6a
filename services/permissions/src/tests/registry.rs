//! A registry that knows every tool, but those whose name begins with "missing".

use ::rpc::{Link, Outgoing, TokenKey};
use proto::registry::v1::{
    FoundTool, GetToolRequest, GetToolResponse, SearchToolsRequest, SearchToolsResponse, Tool,
    ToolDefinition,
    get_tool_request::Key,
    registry_service_server::{RegistryService, RegistryServiceServer},
};
use secrecy::SecretString;
use tonic::{Request, Response, Status};

/// What a search finds, of which a page holds one.
const FOUND: [&str; 3] = ["data.files.read", "files.read", "files.write"];

struct Known;

fn tool(name: &str) -> Tool {
    let definition = ToolDefinition { name: name.to_owned(), ..ToolDefinition::default() };
    Tool { definition: Some(definition), digest: "d".into(), ..Tool::default() }
}

#[tonic::async_trait]
impl RegistryService for Known {
    async fn get_tool(&self, request: Request<GetToolRequest>) -> Result<Response<GetToolResponse>, Status> {
        match request.into_inner().key {
            Some(Key::Name(name)) if !name.starts_with("missing") => {
                Ok(Response::new(GetToolResponse { tool: Some(tool(&name)) }))
            }
            _ => Err(Status::not_found("no such tool")),
        }
    }

    async fn search_tools(
        &self,
        request: Request<SearchToolsRequest>,
    ) -> Result<Response<SearchToolsResponse>, Status> {
        let request = request.into_inner();
        let mut found = FOUND.iter().filter(|name| name.contains(&request.name));
        let at = request.page_token.parse().unwrap_or(0);
        let tools =
            found.by_ref().skip(at).take(1).map(|name| FoundTool { tool: Some(tool(name)), score: 0.0 });
        let tools = tools.collect();
        let next_page_token = if found.next().is_some() { (at + 1).to_string() } else { String::new() };
        Ok(Response::new(SearchToolsResponse { tools, next_page_token }))
    }
}

/// The way to it.
pub(super) fn link() -> Link {
    ::rpc::local(RegistryServiceServer::new(Known))
}

/// Makes requests to it.
pub(super) fn outgoing() -> Outgoing {
    Outgoing::new("permissions", TokenKey::new(&SecretString::from("s".repeat(32))))
}
