//! `toolcrib tools`: the catalog.

use clap::{Args, Subcommand};
use comfy_table::Cell;
use proto::{
    registry::v1::{
        GetToolRequest, ListToolVersionsRequest, ListToolVersionsResponse, ListToolsRequest,
        ListToolsResponse, RegisterToolRequest, RegisterToolResponse, SetToolStatusRequest,
        SetToolStatusResponse, Tool, ToolDefinition, ToolStatus, binding, get_tool_request, mcp_transport,
    },
    types::v1::{Category, Effect, Sensitivity},
};
use serde_json::Value;

use super::{
    arguments,
    client::{Client, pages},
    error::Error,
    files, find, human, import, json,
    output::{Output, Tone, View},
    review, settings,
    table::{Table, cell, details, number, toned},
    words::{contract_name, parser, tool_tone, word},
};

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List tools, the newest version of each
    List(ListArgs),
    /// Find tools by words, best match first
    Search(find::SearchArgs),
    /// Give tools that you may call to a model API, in its form
    #[command(after_help = find::EXPORT_HELP)]
    Export(find::ExportArgs),
    /// Show one tool: what it does, what it takes, how it is run
    Show {
        /// Name of the tool, or id of one version
        name: String,
        /// Version, instead of the newest
        #[arg(long)]
        version: Option<String>,
    },
    /// List every version of a tool
    Versions {
        /// Name of the tool
        name: String,
    },
    /// Register tools from a JSON file
    #[command(after_help = REGISTER_HELP)]
    Register {
        /// File with one definition or a list of them; "-" reads standard input
        file: String,
    },
    /// Make tools of an OpenAPI document, or of a pack that ships with toolcrib
    #[command(after_help = import::HELP)]
    Import(Box<import::ImportArgs>),
    /// Show how a tool is run: timeouts, retries, breaker, cache and more, and what differs from the defaults
    Settings {
        /// Name of the tool
        name: String,
    },
    /// Show how a definition that waits for approval differs from the one that serves
    Diff {
        /// Name of the tool
        name: String,
    },
    /// Approve or reject a definition that waits, by its digest, or all that wait of an MCP server
    #[command(after_help = review::HELP)]
    Approve(review::ApproveArgs),
    /// Change how a tool is run; its definition stays
    #[command(after_help = settings::SET_HELP)]
    Set(settings::SetArgs),
    /// Show or change which tools stand in for a tool that fails
    #[command(after_help = settings::FALLBACKS_HELP)]
    Fallbacks(settings::FallbacksArgs),
    /// Let tools be called again
    Enable(Names),
    /// Let tools be called, but prefer others
    Deprecate(Names),
    /// Let tools be called no more
    Disable(Names),
}

const REGISTER_HELP: &str = r#"Example:
  toolcrib tools register - <<'JSON'
  { "name": "user_by_id", "description": "Reads one user of the directory.",
    "category": "api_integration", "capabilities": ["retrieve"], "effect": "read_only",
    "input_schema": { "type": "object", "required": ["id"],
                      "properties": { "id": { "type": "integer" } } },
    "binding": { "http": { "method": "GET", "url": "https://api.example.com/users/{id}" } } }
  JSON

The fields are those of toolcrib.registry.v1.ToolDefinition; input_schema and output_schema may be
plain objects."#;

/// Names of tools.
#[derive(Debug, Args)]
pub struct Names {
    /// Names of the tools
    #[arg(required = true)]
    names: Vec<String>,
}

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
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
    /// Only those of which a definition waits for approval, a new or a changed one
    #[arg(long)]
    pending: bool,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Search(args) => find::search(args, client, output).await,
        Command::Export(args) => find::export(args, client, output).await,
        Command::Show { name, version } => show(name, version, client, output).await,
        Command::Versions { name } => versions(name, client, output).await,
        Command::Register { file } => register(&file, client, output).await,
        Command::Import(args) => import::run(*args, client, output).await,
        Command::Settings { name } => settings::show(&name, client, output).await,
        Command::Diff { name } => review::diff(name, client, output).await,
        Command::Approve(args) => review::approve(args, client, output).await,
        Command::Set(args) => settings::set(args, client, output).await,
        Command::Fallbacks(args) => settings::fallbacks(args, client, output).await,
        Command::Enable(Names { names }) => set_status(names, ToolStatus::Active, client, output).await,
        Command::Deprecate(Names { names }) => {
            set_status(names, ToolStatus::Deprecated, client, output).await
        }
        Command::Disable(Names { names }) => set_status(names, ToolStatus::Disabled, client, output).await,
    }
}

/// Reads one tool by name or id.
pub async fn get(name: &str, version: Option<String>, client: &Client) -> Result<Tool, Error> {
    let key = match uuid::Uuid::parse_str(name) {
        Ok(_) => get_tool_request::Key::Id(name.to_owned()),
        Err(_) => get_tool_request::Key::Name(name.to_owned()),
    };
    let request = GetToolRequest { key: Some(key), version: version.unwrap_or_default() };
    let answer = client.registry().get_tool(request).await?.into_inner();
    answer.tool.ok_or_else(|| Error::incomplete("tool"))
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListToolsRequest {
        category: args.category.map_or(0, |category| category as i32),
        capability: args.capability.unwrap_or_default(),
        status: args.status.map_or(0, |status| status as i32),
        provider: args.provider.unwrap_or_default(),
        pending: args.pending,
        ..ListToolsRequest::default()
    };
    let is_filtered = filter != ListToolsRequest::default();
    let (tools, next_page_token) = pages(usize::MAX, async |page_size, page_token| {
        let request = ListToolsRequest { page_size, page_token, ..filter.clone() };
        let page = client.registry().list_tools(request).await?.into_inner();
        Ok((page.tools, page.next_page_token))
    })
    .await?;
    let empty = if is_filtered {
        "no tool fits; see all with: toolcrib tools list"
    } else {
        "no tools yet; add some with: toolcrib tools register FILE, or toolcrib servers add NAME …"
    };
    let answer = ListToolsResponse { tools, next_page_token };
    output.show(&answer, |view| table(&answer.tools, view, empty))
}

async fn show(
    name: String,
    version: Option<String>,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let tool = get(&name, version, client).await?;
    output.show(&tool, |view| page(&tool, view))
}

async fn versions(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: ListToolVersionsResponse =
        client.registry().list_tool_versions(ListToolVersionsRequest { name }).await?.into_inner();
    output.show(&answer, |view| {
        let mut table = Table::new(&["VERSION", "STATUS", "REGISTERED", "DIGEST", "ID"]).whole(&[0, 4]);
        for tool in &answer.tools {
            let version = tool.definition.as_ref().map(|definition| definition.version.as_str());
            table.row(vec![
                cell(version.unwrap_or_default()),
                toned(word::<ToolStatus>(tool.status), tool_tone(tool.status)),
                cell(human::moment(tool.create_time.as_ref(), view.now)),
                cell(human::clip(&tool.digest, 13)),
                toned(&tool.id, Tone::Dim),
            ]);
        }
        table.render(view, "no versions")
    })
}

async fn register(file: &str, client: &Client, output: &mut Output) -> Result<(), Error> {
    let text = files::read(file).map_err(Error::Usage)?;
    let value: Value =
        serde_json::from_str(&text).map_err(|error| Error::usage(format!("{file} is not JSON: {error}")))?;
    let (values, is_list) = match value {
        Value::Array(values) => (values, true),
        one => (vec![one], false),
    };
    // All are read before the first is sent.
    let definitions: Vec<_> = values.into_iter().map(definition).collect::<Result<_, _>>()?;
    let mut answers = Vec::new();
    for definition in definitions {
        let request = RegisterToolRequest { definition: Some(definition), ..RegisterToolRequest::default() };
        let answer: RegisterToolResponse = client.registry().register_tool(request).await?.into_inner();
        if output.is_json() {
            answers.push(json::of(&answer)?);
        } else {
            output.untrusted(&registered(&answer))?;
        }
    }
    match (output.is_json(), is_list) {
        (true, true) => output.json(&Value::Array(answers)),
        (true, false) => answers.first().map_or(Ok(()), |answer| output.json(answer)),
        (false, _) => Ok(()),
    }
}

fn registered(answer: &RegisterToolResponse) -> String {
    let definition = answer.tool.as_ref().and_then(|tool| tool.definition.clone()).unwrap_or_default();
    let what = if answer.created { "registered" } else { "is there already, unchanged" };
    format!("{} {} {what}", definition.name, definition.version)
}

/// A definition from proto JSON in which schemas may be plain objects and enums plain words.
fn definition(mut value: Value) -> Result<ToolDefinition, Error> {
    let Some(fields) = value.as_object_mut() else {
        return Err(Error::usage("a definition is a JSON object"));
    };
    for (plain, text) in [
        ("input_schema", "input_schema_json"),
        ("inputSchema", "input_schema_json"),
        ("output_schema", "output_schema_json"),
        ("outputSchema", "output_schema_json"),
    ] {
        if let Some(schema) = fields.remove(plain).filter(|schema| !schema.is_null()) {
            fields.insert(text.into(), schema.to_string().into());
        }
    }
    plain_word::<Category>(fields.get_mut("category"));
    plain_word::<Effect>(fields.get_mut("effect"));
    plain_word::<Sensitivity>(fields.get_mut("sensitivity"));
    let name = value["name"].as_str().unwrap_or("the definition").to_owned();
    json::read(value).map_err(|error| Error::usage(format!("{name}: {error:#}")))
}

fn plain_word<E: super::words::Word>(field: Option<&mut Value>) {
    if let Some(field) = field
        && let Some(name) = field.as_str().and_then(contract_name::<E>)
    {
        *field = name.into();
    }
}

async fn set_status(
    names: Vec<String>,
    status: ToolStatus,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    for name in names {
        let request = SetToolStatusRequest { name: name.clone(), status: status as i32 };
        let answer: SetToolStatusResponse = client.registry().set_tool_status(request).await?.into_inner();
        let status = answer.tool.as_ref().map_or(status as i32, |tool| tool.status);
        output.show(&answer, |_| human::visible(&format!("{name} is {}", word::<ToolStatus>(status))))?;
    }
    Ok(())
}

/// Tools as a table.
pub fn table(tools: &[Tool], view: View, empty: &str) -> String {
    let mut table =
        Table::new(&["NAME", "VERSION", "STATUS", "CATEGORY", "EFFECT", "COST", "WHAT IT DOES"]).whole(&[0]);
    for tool in tools {
        let definition = tool.definition.clone().unwrap_or_default();
        table.row(vec![
            cell(&definition.name),
            cell(&definition.version),
            status(tool),
            cell(word::<Category>(definition.category)),
            cell(word::<Effect>(definition.effect)),
            number(human::cost(definition.cost_micro_usd)),
            cell(human::brief(&definition.description, 72)),
        ]);
    }
    table.render(view, empty)
}

fn status(tool: &Tool) -> Cell {
    match &tool.pending {
        Some(pending) => {
            toned(format!("{}, {} waits", word::<ToolStatus>(tool.status), pending.version), Tone::Warn)
        }
        None => toned(word::<ToolStatus>(tool.status), tool_tone(tool.status)),
    }
}

/// One tool in full.
pub fn page(tool: &Tool, view: View) -> String {
    let definition = tool.definition.clone().unwrap_or_default();
    let title = if definition.title.is_empty() { definition.name.clone() } else { definition.title.clone() };
    let rows = [
        ("name", definition.name.clone()),
        ("version", definition.version.clone()),
        ("status", word::<ToolStatus>(tool.status)),
        ("category", word::<Category>(definition.category)),
        ("capabilities", definition.capabilities.join(", ")),
        ("effect", word::<Effect>(definition.effect)),
        ("sensitivity", word::<Sensitivity>(definition.sensitivity)),
        ("provider", definition.provider.clone()),
        ("run by", run_by(&definition)),
        ("timeout", human::duration(f64::from(i32::try_from(definition.timeout_ms).unwrap_or(i32::MAX)))),
        ("rate limit", format!("{} calls a minute", definition.rate_limit_per_minute)),
        ("cost", human::cost(definition.cost_micro_usd)),
        ("registered", human::moment_in_full(tool.create_time.as_ref(), view.now)),
        ("id", tool.id.clone()),
        ("digest", tool.digest.clone()),
    ];
    let mut parts = vec![
        view.style.paint(&human::visible(&title), Tone::Bold),
        human::visible(definition.description.trim()),
        details(&rows, view),
        parameters(&definition, view),
    ];
    parts.push(view.style.paint(&format!("try: toolcrib call {}", example(&definition)), Tone::Dim));
    parts.join("\n\n")
}

fn parameters(definition: &ToolDefinition, view: View) -> String {
    let schema: Value = serde_json::from_str(&definition.input_schema_json).unwrap_or_default();
    let mut table = Table::new(&["ARGUMENT", "TYPE", "", "WHAT IT IS"]).whole(&[0]);
    for (name, kind, is_required, told) in arguments::parameters(&schema) {
        let required = if is_required { toned("required", Tone::Warn) } else { toned("optional", Tone::Dim) };
        table.row(vec![cell(name), cell(kind), required, cell(told)]);
    }
    table.render(view, "it takes no arguments")
}

fn example(definition: &ToolDefinition) -> String {
    let schema: Value = serde_json::from_str(&definition.input_schema_json).unwrap_or_default();
    let required = arguments::parameters(&schema).into_iter().filter(|(_, _, is_required, _)| *is_required);
    let mut words = vec![human::visible(&definition.name)];
    words.extend(required.map(|(name, ..)| format!("{}=…", human::visible(&name))));
    words.join(" ")
}

fn run_by(definition: &ToolDefinition) -> String {
    match definition.binding.as_ref().and_then(|binding| binding.kind.as_ref()) {
        None => String::new(),
        Some(binding::Kind::Builtin(builtin)) => format!("toolcrib itself ({})", builtin.name),
        Some(binding::Kind::Http(http)) => format!("HTTP {} {}", http.method, http.url),
        Some(binding::Kind::Grpc(grpc)) => format!("gRPC {} {}/{}", grpc.endpoint, grpc.service, grpc.method),
        Some(binding::Kind::Mcp(mcp)) => {
            let transport = mcp.transport.as_ref().and_then(|transport| transport.kind.as_ref());
            let over = match transport {
                Some(mcp_transport::Kind::Stdio(_)) => ", a child process",
                Some(mcp_transport::Kind::Http(_)) => ", over HTTP",
                None => "",
            };
            format!("MCP server {} as {}{over}", mcp.server, mcp.tool)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    fn user_by_id() -> ToolDefinition {
        definition(json!({
            "name": "user_by_id", "description": "Reads one user. Nothing else.", "effect": "read_only",
            "category": "CATEGORY_API_INTEGRATION", "timeout_ms": 5000, "cost_micro_usd": "500",
            "input_schema": { "type": "object", "required": ["id"], "properties": {
                "id": { "type": "integer", "description": "Whose.", "maximum": 9_007_199_254_740_993_u64 },
                "full": { "type": "boolean" } } },
            "binding": { "http": { "method": "GET", "url": "https://api.example.com/users/{id}" } },
        }))
        .unwrap()
    }

    #[test]
    fn a_definition_is_read_with_plain_words_and_plain_schemas() {
        let read = user_by_id();
        assert_eq!((read.effect, read.category), (Effect::ReadOnly as i32, Category::ApiIntegration as i32));
        assert_eq!((read.timeout_ms, read.cost_micro_usd), (5_000, 500));
        assert!(read.input_schema_json.contains("9007199254740993"), "{}", read.input_schema_json);
        let wrong = definition(json!({ "name": "x", "descripton": "typo" })).unwrap_err();
        assert!(
            matches!(&wrong, Error::Usage(text) if text.contains("x:") && text.contains("descripton")),
            "{wrong:?}"
        );
    }

    #[test]
    fn the_page_of_a_tool_tells_what_it_takes_and_how_to_call_it() {
        let tool = Tool { definition: Some(user_by_id()), status: 1, ..Tool::default() };
        let page = page(&tool, view());
        for part in [
            "HTTP GET https://api.example.com",
            "required",
            "Whose.",
            "$0.0005",
            "toolcrib call user_by_id id=…",
        ] {
            assert!(page.contains(part), "{part} is missing in\n{page}");
        }
        let table = table(&[tool], view(), "none");
        assert!(
            table.contains("active") && table.contains("Reads one user\n")
                || table.ends_with("Reads one user")
        );
        assert_eq!(super::table(&[], view(), "none"), "none");
    }
}
