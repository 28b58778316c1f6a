//! `toolcrib servers`: the MCP servers whose tools are in the catalog.

mod file;
mod progress;

use clap::{Args, Subcommand};
use proto::{
    registry::v1::{
        CredentialUse, GetRegistryHealthRequest, GetRegistryHealthResponse, HttpTransport,
        ListServersRequest, ListServersResponse, McpTransport, RefreshServerRequest, RegisterServerRequest,
        RegisterServerResponse, RemoveServerRequest, RemoveServerResponse, Server, ServerDefaults,
        ServerHealth, ServerState, StdioTransport, credential_use::Place, mcp_transport,
    },
    types::v1::{Category, Sensitivity},
};
use tonic::Status;

use super::{
    client::Client,
    error::Error,
    files, human,
    output::{Output, Tone, View},
    prefixed::Prefixed,
    table::{Table, cell, number, toned},
    tools,
    words::{parser, word},
};
use file::Entry;
use progress::Done;

/// What to do with MCP servers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an MCP server, or all of a file, and list their tools into the catalog
    #[command(after_help = "Examples:
  toolcrib servers add time -- mcp-server-time
  toolcrib servers add files --env LOG=info -- npx @modelcontextprotocol/server-filesystem /srv/data
  toolcrib servers add demo --url http://127.0.0.1:3001/mcp --trust-annotations
  toolcrib servers add git --credential env:GITHUB_TOKEN=github -- github-mcp-server stdio
  toolcrib servers add crm --credential 'header:x-auth=Token {crm-key}' --url https://crm.example.com/mcp
  toolcrib servers add --file ~/.config/mcp/servers.json

A file has the form of MCP clients: {\"mcpServers\": {\"NAME\": {\"command\": …, \"args\": […], \"env\": {…}}}}, or
\"url\" and \"headers\". Values there that look secret become credentials; they are not kept with the server.")]
    Add(Box<AddArgs>),
    /// List servers with state, health and latency
    List,
    /// List the tools of servers again, now
    Refresh {
        /// Names of the servers
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        names: Vec<String>,
        /// Every server
        #[arg(long)]
        all: bool,
    },
    /// How the catalog and each server are
    Health,
    /// Remove a server; its tools are disabled, their history stays
    Remove {
        /// Name of the server
        name: String,
    },
}

/// A server to add.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name, the first part of its tools' names: a-z, 0-9, _ and -
    #[arg(required_unless_present = "file")]
    name: Option<String>,
    /// Every server of this file, or of standard input for "-", in the form of MCP clients
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "url", "command", "env", "header", "credential"])]
    file: Option<String>,
    /// Where it answers over streamable HTTP
    #[arg(long, required_unless_present_any = ["command", "file"], conflicts_with_all = ["command", "env"])]
    url: Option<String>,
    /// Fixed request header, with --url only; never a secret
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "url")]
    header: Vec<(String, String)>,
    /// Variable of its environment, with a command only; never a secret
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
    /// Credential that it is reached with: NAME, env:VARIABLE=NAME, header:HEADER=NAME, query:KEY=NAME, cookie:KEY=NAME;
    /// with something before it there: 'header:HEADER=Token {NAME}'
    #[arg(long, value_name = "CREDENTIAL", value_parser = credential)]
    credential: Vec<CredentialUse>,
    /// Refuse a server that does not answer, rather than keep it and try again
    #[arg(long)]
    verify: bool,
    /// Believe what it says of its tools (read-only, idempotent); otherwise each is a side effect
    #[arg(long)]
    trust_annotations: bool,
    /// Category of its tools
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Capabilities of its tools, such as search or retrieve
    #[arg(long, value_delimiter = ',')]
    capability: Vec<String>,
    /// The most sensitive data its tools handle
    #[arg(long, value_parser = parser::<Sensitivity>())]
    sensitivity: Option<Sensitivity>,
    /// Longest run of its tools in milliseconds
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    tool_timeout_ms: i64,
    /// Program to run and its arguments, which speaks over standard input and output
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

fn credential(text: &str) -> Result<CredentialUse, String> {
    let Some((place, credential)) = text.split_once('=') else {
        let Prefixed { name, prefix } = Prefixed::parse(text)?;
        if !prefix.is_empty() {
            return Err(format!(
                "{text:?} does not say where it goes, such as 'header:authorization={text}'"
            ));
        }
        return Ok(CredentialUse { credential: name, ..CredentialUse::default() });
    };
    let place = match place.split_once(':') {
        Some(("env", name)) => Place::Env(name.to_owned()),
        Some(("header", name)) => Place::Header(name.to_owned()),
        Some(("query", name)) => Place::Query(name.to_owned()),
        Some(("cookie", name)) => Place::Cookie(name.to_owned()),
        _ => {
            return Err(format!(
                "{text:?} is neither NAME nor env:VARIABLE=NAME, header:, query: or cookie:"
            ));
        }
    };
    let Prefixed { name, prefix } = Prefixed::parse(credential)?;
    Ok(CredentialUse { credential: name, place: Some(place), prefix })
}

impl AddArgs {
    fn defaults(&self) -> ServerDefaults {
        ServerDefaults {
            category: self.category.map_or(0, |category| category as i32),
            capabilities: self.capability.clone(),
            sensitivity: self.sensitivity.map_or(0, |sensitivity| sensitivity as i32),
            timeout_ms: self.tool_timeout_ms,
            trust_annotations: self.trust_annotations,
        }
    }

    fn request(self) -> RegisterServerRequest {
        let (defaults, verify) = (Some(self.defaults()), self.verify);
        let kind = if let Some(url) = self.url {
            mcp_transport::Kind::Http(HttpTransport { url, headers: self.header.into_iter().collect() })
        } else {
            let mut words = self.command.into_iter();
            mcp_transport::Kind::Stdio(StdioTransport {
                command: words.next().unwrap_or_default(),
                args: words.collect(),
                env: self.env.into_iter().collect(),
            })
        };
        let transport = Some(McpTransport { kind: Some(kind), credentials: self.credential });
        RegisterServerRequest { name: self.name.unwrap_or_default(), transport, defaults, verify }
    }
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Add(args) => match args.file.clone() {
            Some(file) => add_file(&file, &args, client, output).await,
            None => add(*args, client, output).await,
        },
        Command::List => list(client, output).await,
        Command::Refresh { names, all } => refresh(names, all, client, output).await,
        Command::Health => health(client, output).await,
        Command::Remove { name } => remove(name, client, output).await,
    }
}

async fn add(args: AddArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = args.request();
    let (client, told) = (client.clone(), tokio::sync::oneshot::channel());
    let (tell, answer) = told;
    let name = request.name.clone();
    let work = async move {
        let answer: RegisterServerResponse = client.registry().register_server(request).await?.into_inner();
        let server = answer.server.clone().ok_or_else(|| Status::internal("the answer has no server"))?;
        // The receiver waits below.
        let _ = tell.send(answer);
        Ok(server)
    };
    let done = progress::all([(name, work)], output).await?;
    let Some(Done { outcome, .. }) = done.into_iter().next() else { return Ok(()) };
    let server = *outcome?;
    let answer = answer.await.map_err(|_| Error::incomplete("server"))?;
    output.show(&answer, |view| {
        let tools = tools::table(&answer.tools, view, "it provides no tools");
        format!("{}\n\n{tools}", table(std::slice::from_ref(&server), view))
    })?;
    remarks(&server, output)
}

async fn add_file(file: &str, args: &AddArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let text = files::read(file).map_err(Error::usage)?;
    let (entries, off) = file::parse(&text).map_err(|error| Error::usage(format!("{file} {error}")))?;
    for name in off {
        output.note(&format!("{name} is switched off in the file"))?;
    }
    let work = entries
        .into_iter()
        .map(|entry| (entry.name.clone(), add_entry(client.clone(), entry, args.defaults(), args.verify)));
    let done = progress::all(work, output).await?;
    conclude(done, output)
}

async fn add_entry(
    client: Client,
    entry: Entry,
    defaults: ServerDefaults,
    verify: bool,
) -> Result<Server, Status> {
    for credential in entry.credentials {
        client.registry().put_credential(credential).await?;
    }
    let (transport, defaults) = (Some(entry.transport), Some(defaults));
    let request = RegisterServerRequest { name: entry.name, transport, defaults, verify };
    let answer: RegisterServerResponse = client.registry().register_server(request).await?.into_inner();
    answer.server.ok_or_else(|| Status::internal("the answer has no server"))
}

async fn refresh(names: Vec<String>, all: bool, client: &Client, output: &mut Output) -> Result<(), Error> {
    let names = if all {
        let answer = client.registry().list_servers(ListServersRequest {}).await?.into_inner();
        answer.servers.into_iter().map(|server| server.name).collect()
    } else {
        names
    };
    let work = names.into_iter().map(|name| {
        let (client, request) = (client.clone(), RefreshServerRequest { name: name.clone() });
        let work = async move {
            let answer = client.registry().refresh_server(request).await?.into_inner();
            answer.server.ok_or_else(|| Status::internal("the answer has no server"))
        };
        (name, work)
    });
    let done = progress::all(work, output).await?;
    conclude(done, output)
}

/// Shows what became of several servers. What a single one was refused for is told in full.
fn conclude(mut done: Vec<Done>, output: &mut Output) -> Result<(), Error> {
    if done.len() == 1
        && let Some(Done { outcome: Err(status), .. }) = done.pop_if(|done| done.outcome.is_err())
    {
        return Err(status.into());
    }
    let is_refused = done.iter().any(|done| done.outcome.is_err());
    let servers: Vec<Server> =
        done.into_iter().filter_map(|done| done.outcome.ok().map(|server| *server)).collect();
    let answer = ListServersResponse { servers };
    output.show(&answer, |view| table(&answer.servers, view))?;
    let mut outcome = if is_refused { Err(Error::Failed) } else { Ok(()) };
    for server in &answer.servers {
        if let Err(error) = remarks(server, output) {
            outcome = Err(error);
        }
    }
    outcome
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: ListServersResponse =
        client.registry().list_servers(ListServersRequest {}).await?.into_inner();
    output.show(&answer, |view| table(&answer.servers, view))
}

async fn health(client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: GetRegistryHealthResponse =
        client.registry().get_registry_health(GetRegistryHealthRequest {}).await?.into_inner();
    output.show(&answer, |view| overview(&answer, view))
}

async fn remove(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RemoveServerRequest { name: name.clone() };
    let answer: RemoveServerResponse = client.registry().remove_server(request).await?.into_inner();
    output.show(&answer, |_| {
        human::visible(&format!("{name} is removed, {} tools disabled", answer.tools_disabled))
    })
}

/// What went wrong with it, beside the answer; a server that cannot be reached is a failure.
fn remarks(server: &Server, output: &mut Output) -> Result<(), Error> {
    for rejected in &server.rejected_tools {
        output.note(&format!("not taken: {rejected}"))?;
    }
    if server.state != ServerState::Unavailable as i32 {
        return Ok(());
    }
    output.note(&format!("{} does not answer and is tried again: {}", server.name, server.last_error))?;
    Err(Error::Failed)
}

fn tone(state: i32) -> Tone {
    match ServerState::try_from(state) {
        Ok(ServerState::Healthy) => Tone::Good,
        Ok(ServerState::Unavailable) => Tone::Bad,
        _ => Tone::Warn,
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn table(servers: &[Server], view: View) -> String {
    let headings = ["NAME", "STATE", "HEALTH", "LATENCY", "TOOLS", "SEEN", "TOOK", "VERSION", "REACHED BY"];
    let mut table = Table::new(&headings).whole(&[0]);
    for server in servers {
        let took = f64::from(i32::try_from(server.discovery_ms).unwrap_or(i32::MAX));
        table.row(vec![
            cell(&server.name),
            toned(word::<ServerState>(server.state), tone(server.state)),
            number(percent(server.health)),
            number(human::duration(server.latency_ms)),
            number(server.tool_count.to_string()),
            cell(human::moment(server.last_seen_time.as_ref(), view.now)),
            number(human::duration(took)),
            cell(&server.server_version),
            cell(if server.last_error.is_empty() {
                reached_by(server)
            } else {
                human::clip(&server.last_error, 120)
            }),
        ]);
    }
    table.render(view, "no servers yet; add one with: toolcrib servers add NAME -- COMMAND, or --url URL")
}

fn overview(health: &GetRegistryHealthResponse, view: View) -> String {
    let GetRegistryHealthResponse { active_tools, quarantined_tools, disabled_tools, pending_tools, .. } =
        health;
    let state = view.style.paint(&word::<ServerState>(health.state), tone(health.state));
    let mut text = format!(
        "The registry is {state}: {} of {} servers are healthy (threshold {}).\n\
         Tools: {active_tools} active, {quarantined_tools} quarantined, {disabled_tools} disabled; of {pending_tools} a \
         changed definition waits for approval. Revision {}.\n\n{}",
        health.servers.iter().filter(|server| server.state == ServerState::Healthy as i32).count(),
        health.servers.len(),
        percent(health.threshold),
        health.revision,
        health_table(&health.servers, view),
    );
    for warning in &health.credential_warnings {
        let warning = human::visible(&format!("credential {warning}"));
        text.extend(["\n", &view.style.paint(&warning, Tone::Warn)]);
    }
    text
}

fn health_table(servers: &[ServerHealth], view: View) -> String {
    let mut table =
        Table::new(&["NAME", "STATE", "ANSWERED", "FAILED", "LATENCY", "SEEN", "TOOLS", "WHY"]).whole(&[0]);
    for server in servers {
        table.row(vec![
            cell(&server.name),
            toned(word::<ServerState>(server.state), tone(server.state)),
            number(percent(server.health)),
            number(percent(server.error_rate)),
            number(human::duration(server.latency_ms)),
            cell(human::moment(server.last_seen_time.as_ref(), view.now)),
            number(server.tool_count.to_string()),
            cell(human::clip(&server.last_error, 120)),
        ]);
    }
    table.render(view, "no MCP servers")
}

fn reached_by(server: &Server) -> String {
    match server.transport.as_ref().and_then(|transport| transport.kind.as_ref()) {
        Some(mcp_transport::Kind::Http(http)) => http.url.clone(),
        Some(mcp_transport::Kind::Stdio(stdio)) => {
            human::clip(&[&stdio.command[..], &stdio.args.join(" ")].join(" "), 60)
        }
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    fn added(words: &[&str]) -> Result<RegisterServerRequest, clap::Error> {
        let words = ["servers", "add"].iter().chain(words);
        match Probe::try_parse_from(words)?.command {
            Command::Add(args) => Ok(args.request()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_server_is_a_command_or_an_address_and_never_both() {
        let stdio = added(&["time", "--env", "TZ=UTC", "--", "mcp-server-time", "--local", "x"]).unwrap();
        let expected = StdioTransport {
            command: "mcp-server-time".into(),
            args: vec!["--local".into(), "x".into()],
            env: [("TZ".to_owned(), "UTC".to_owned())].into(),
        };
        assert_eq!(stdio.transport.unwrap().kind, Some(mcp_transport::Kind::Stdio(expected)));
        let http = added(&["demo", "--url", "http://127.0.0.1:1/mcp", "--trust-annotations"]).unwrap();
        assert!(http.defaults.unwrap().trust_annotations);
        assert!(added(&["x"]).is_err());
        assert!(added(&["x", "--url", "http://a", "--", "b"]).is_err());
        assert!(added(&["x", "--env", "novalue", "--", "b"]).is_err());
        assert!(
            added(&["x", "--file", "f"]).is_err() && added(&["--file", "f", "--url", "http://a"]).is_err()
        );
        assert!(added(&["--file", "f", "--verify"]).is_ok());
    }

    #[test]
    fn a_credential_goes_by_itself_or_to_a_place() {
        let uses = |text: &str| {
            let request = added(&["x", "--credential", text, "--verify", "--", "b"]).ok()?;
            assert!(request.verify);
            request.transport?.credentials.pop()
        };
        assert_eq!(uses("github").unwrap().place, None);
        let env = uses("env:GITHUB_TOKEN=github").unwrap();
        assert_eq!((env.credential.as_str(), env.place), ("github", Some(Place::Env("GITHUB_TOKEN".into()))));
        assert_eq!(uses("header:x-key=k").unwrap().place, Some(Place::Header("x-key".into())));
        assert!(uses("nowhere:x=y").is_none() && uses("x=y").is_none());
        let token = uses("header:x-auth=Token {k}").unwrap();
        assert_eq!((token.credential.as_str(), token.prefix.as_str()), ("k", "Token "));
        assert_eq!(uses("env:A=key={k}").unwrap().prefix, "key=");
        assert!(uses("header:x-auth=Token k").is_none() && uses("Token {k}").is_none());
    }
}
