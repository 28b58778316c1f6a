//! `toolcrib tools search` and `toolcrib tools export`: finds tools by words, and gives them to model APIs.

use clap::{Args, ValueEnum};
use proto::{
    registry::v1::{
        ExportFormat, ExportToolsRequest, ExportToolsResponse, SearchToolsRequest, SearchToolsResponse,
        ToolStatus,
    },
    types::v1::{Category, Effect},
};
use serde_json::Value;

use super::{
    client::{Client, pages},
    error::Error,
    human, json,
    output::{Output, View},
    table::{Table, cell, number, toned},
    words::{parser, tool_tone, word},
};

/// What to find.
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Words of name, title, description, capabilities and parameters; the last may be the start of one
    #[arg(required_unless_present_any = ["name", "category", "capability", "status", "provider"])]
    words: Vec<String>,
    /// Only where the name has this part
    #[arg(long)]
    name: Option<String>,
    /// Only of this category
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Only with this capability, such as search, analyze or execute
    #[arg(long)]
    capability: Option<String>,
    /// Only with this status
    #[arg(long, value_parser = parser::<ToolStatus>())]
    status: Option<ToolStatus>,
    /// Only of this provider: toolcrib, a server's name, or a word of your own
    #[arg(long)]
    provider: Option<String>,
    /// Most tools to show
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

/// The form of a model API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// OpenAI functions: `tools` of the chat completions API
    #[value(name = "openai")]
    OpenAi,
    /// Anthropic tools: `tools` of the messages API
    Anthropic,
    /// MCP tools: `tools` of the result of tools/list
    Mcp,
}

/// What to export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Names of the tools; none: every tool that you may call
    #[arg(conflicts_with_all = ["category", "capability", "provider"])]
    names: Vec<String>,
    /// The form
    #[arg(long, value_enum)]
    format: Form,
    /// File to write to, instead of standard output
    #[arg(long, value_name = "FILE")]
    file: Option<std::path::PathBuf>,
    /// Only of this category
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Only with this capability
    #[arg(long)]
    capability: Option<String>,
    /// Only of this provider
    #[arg(long)]
    provider: Option<String>,
}

/// Examples of `tools export`.
pub const EXPORT_HELP: &str = "Examples:
  toolcrib tools export --format openai > tools.json
  toolcrib tools export --format anthropic --capability search --file tools.json
  toolcrib tools export --format mcp http_request time.convert_time

A name that the form does not take becomes another, always the same. `-o json` tells which tool stands behind each.";

/// Finds tools.
pub async fn search(args: SearchArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = SearchToolsRequest {
        text: args.words.join(" "),
        name: args.name.unwrap_or_default(),
        category: args.category.map_or(0, |category| category as i32),
        capability: args.capability.unwrap_or_default(),
        status: args.status.map_or(0, |status| status as i32),
        provider: args.provider.unwrap_or_default(),
        ..SearchToolsRequest::default()
    };
    let (tools, next_page_token) = pages(args.limit, async |page_size, page_token| {
        let request = SearchToolsRequest { page_size, page_token, ..filter.clone() };
        let page = client.registry().search_tools(request).await?.into_inner();
        Ok((page.tools, page.next_page_token))
    })
    .await?;
    let answer = SearchToolsResponse { tools, next_page_token };
    output.show(&answer, |view| table(&answer, view))?;
    output.more(&answer.next_page_token)
}

fn table(answer: &SearchToolsResponse, view: View) -> String {
    let mut table =
        Table::new(&["NAME", "STATUS", "CATEGORY", "EFFECT", "SCORE", "WHAT IT DOES"]).whole(&[0]);
    for found in &answer.tools {
        let tool = found.tool.clone().unwrap_or_default();
        let definition = tool.definition.unwrap_or_default();
        let score = if found.score > 0.0 { format!("{:.2}", found.score) } else { String::new() };
        table.row(vec![
            cell(&definition.name),
            toned(word::<ToolStatus>(tool.status), tool_tone(tool.status)),
            cell(word::<Category>(definition.category)),
            cell(word::<Effect>(definition.effect)),
            number(score),
            cell(human::brief(&definition.description, 72)),
        ]);
    }
    table.render(view, "nothing found; try other words, or see all with: toolcrib tools list")
}

/// Exports tools.
pub async fn export(args: ExportArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer = exported(&args, client).await?;
    let tools: Vec<Value> =
        serde_json::from_str(&answer.tools_json).map_err(|error| Error::Fault(error.into()))?;
    let count = tools.len();
    let value = if output.is_json() { json::of(&answer)? } else { Value::Array(tools) };
    match &args.file {
        Some(file) => {
            std::fs::write(file, format!("{value:#}\n"))
                .map_err(|error| Error::usage(format!("cannot write {}: {error}", file.display())))?;
            output.note(&format!("{count} tools written to {}", file.display()))?;
        }
        None => output.json(&value)?,
    }
    for skipped in &answer.skipped {
        output.note(&human::visible(&format!("without {}: {}", skipped.name, skipped.reason)))?;
    }
    if count == 0 && answer.skipped.is_empty() {
        output.note("you may call none of these tools; an operator lets you with: toolcrib grants add")?;
    }
    Ok(())
}

/// Every page, as one.
async fn exported(args: &ExportArgs, client: &Client) -> Result<ExportToolsResponse, Error> {
    let format = match args.format {
        Form::OpenAi => ExportFormat::Openai,
        Form::Anthropic => ExportFormat::Anthropic,
        Form::Mcp => ExportFormat::Mcp,
    };
    let request = ExportToolsRequest {
        format: format.into(),
        names: args.names.clone(),
        category: args.category.map_or(0, |category| category as i32),
        capability: args.capability.clone().unwrap_or_default(),
        provider: args.provider.clone().unwrap_or_default(),
        ..ExportToolsRequest::default()
    };
    let mut whole = ExportToolsResponse::default();
    let (texts, _) = pages(usize::MAX, async |page_size, page_token| {
        let request = ExportToolsRequest { page_size, page_token, ..request.clone() };
        let page = client.registry().export_tools(request).await?.into_inner();
        whole.tools.extend(page.tools);
        whole.skipped.extend(page.skipped);
        Ok((vec![page.tools_json], page.next_page_token))
    })
    .await?;
    let lists = texts.iter().map(|text| text.trim().trim_start_matches('[').trim_end_matches(']'));
    let lists: Vec<&str> = lists.filter(|list| !list.is_empty()).collect();
    whole.tools_json = format!("[{}]", lists.join(","));
    Ok(whole)
}
