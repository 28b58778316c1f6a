//! Search and export: parse, call the use case, map.

use std::collections::BTreeSet;

use ::rpc::{Call, FieldViolation};
use proto::registry::v1::{
    ExportFormat, ExportToolsRequest, ExportToolsResponse, ExportedTool, FoundTool, ListToolsRequest,
    SearchToolsRequest, SearchToolsResponse, SkippedTool,
};

use super::{
    Service,
    mapping::{self, View},
};
use crate::{
    Error,
    check::is_tool_name,
    export::{self, Export, Form, MAX_NAMES, Permissions},
    search::{self, Search},
};

pub(super) async fn search(
    service: &Service,
    call: &Call,
    request: SearchToolsRequest,
) -> Result<SearchToolsResponse, Error> {
    let filter = mapping::filter(&ListToolsRequest {
        category: request.category,
        capability: request.capability,
        status: request.status,
        provider: request.provider,
        ..ListToolsRequest::default()
    })?;
    let search = Search { text: request.text, part: request.name, filter };
    let page = (request.page_size, request.page_token.as_str());
    let (found, next_page_token) =
        search::search(&service.database, &service.pages, &call.caller.team, &search, page).await?;
    let view = View::of(&call.caller);
    let tools = found.iter().map(|(row, score)| {
        Ok::<_, Error>(FoundTool { tool: Some(view.tool(row)?), score: f64::from(*score) })
    });
    Ok(SearchToolsResponse { tools: tools.collect::<Result<_, _>>()?, next_page_token })
}

pub(super) async fn export(
    service: &Service,
    call: &Call,
    request: ExportToolsRequest,
) -> Result<ExportToolsResponse, Error> {
    let page = (request.page_size, request.page_token.clone());
    let wanted = wanted(request)?;
    let permissions = Permissions::new(service.permissions.clone(), service.outgoing.clone());
    let page = (page.0, page.1.as_str());
    let page = export::export(&service.database, &service.pages, &permissions, call, wanted, page).await?;
    let texts: Vec<&str> = page.tools.iter().map(|tool| tool.json.as_str()).collect();
    Ok(ExportToolsResponse {
        tools_json: format!("[{}]", texts.join(",")),
        tools: page
            .tools
            .into_iter()
            .map(|tool| ExportedTool {
                exported_name: tool.exported_name,
                name: tool.name,
                version: tool.version,
                digest: tool.digest,
            })
            .collect(),
        skipped: page.skipped.into_iter().map(|(name, reason)| SkippedTool { name, reason }).collect(),
        next_page_token: page.next,
    })
}

fn wanted(request: ExportToolsRequest) -> Result<Export, Error> {
    let mut wrong = Vec::new();
    let mut add = |field: String, description: &str| {
        wrong.push(FieldViolation { field, description: description.to_owned() });
    };
    let form = match request.format() {
        ExportFormat::Openai => Some(Form::OpenAi),
        ExportFormat::Anthropic => Some(Form::Anthropic),
        ExportFormat::Mcp => Some(Form::Mcp),
        ExportFormat::Unspecified => None,
    };
    if form.is_none() {
        add("format".to_owned(), "must be OPENAI, ANTHROPIC or MCP");
    }
    if request.names.len() > MAX_NAMES {
        add("names".to_owned(), "has more than 1,000 names; ask for them in several requests");
    }
    for (index, _) in request.names.iter().enumerate().take(MAX_NAMES).filter(|(_, name)| !is_tool_name(name))
    {
        add(format!("names[{index}]"), "is no name of a tool: 1 to 128 characters of a-z, 0-9, _, - and .");
    }
    let is_filtered = request.category != 0 || !request.capability.is_empty() || !request.provider.is_empty();
    if is_filtered && !request.names.is_empty() {
        add("names".to_owned(), "cannot be given together with a filter: leave out one of them");
    }
    let Some(form) = form.filter(|_| wrong.is_empty()) else { return Err(Error::Invalid(wrong)) };
    let filter = mapping::filter(&ListToolsRequest {
        category: request.category,
        capability: request.capability,
        provider: request.provider,
        ..ListToolsRequest::default()
    })?;
    Ok(Export { form, names: request.names.into_iter().collect::<BTreeSet<_>>(), filter })
}
