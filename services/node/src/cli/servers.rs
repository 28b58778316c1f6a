//! `toolcrib servers`: the MCP servers whose tools are in the catalog.

use clap::{Args, Subcommand};
use proto::{
    registry::v1::{
        HttpTransport, ListServersRequest, ListServersResponse, McpTransport, RefreshServerRequest,
        RefreshServerResponse, RegisterServerRequest, RegisterServerResponse, RemoveServerRequest,
        RemoveServerResponse, Server, ServerDefaults, ServerState, StdioTransport, mcp_transport,
    },
    types::v1::{Category, Sensitivity},
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    tools,
    words::{parser, word},
};

/// What to do with MCP servers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an MCP server and list its tools into the catalog
    #[command(after_help = "Examples:
  toolcrib servers add time -- mcp-server-time
  toolcrib servers add files --env ROOT=/srv/data -- npx @modelcontextprotocol/server-filesystem /srv/data
  toolcrib servers add demo --url http://127.0.0.1:3001/mcp --trust-annotations")]
    Add(Box<AddArgs>),
    /// List servers with their state
    List,
    /// List a server's tools again, now
    Refresh {
        /// Name of the server
        name: String,
    },
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
    name: String,
    /// Where it answers over streamable HTTP
    #[arg(long, required_unless_present = "command", conflicts_with_all = ["command", "env"])]
    url: Option<String>,
    /// Fixed request header, with --url only; never a secret
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair, requires = "url")]
    header: Vec<(String, String)>,
    /// Variable of its environment, with a command only; never a secret
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    env: Vec<(String, String)>,
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

impl AddArgs {
    fn request(self) -> RegisterServerRequest {
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
        let defaults = ServerDefaults {
            category: self.category.map_or(0, |category| category as i32),
            capabilities: self.capability,
            sensitivity: self.sensitivity.map_or(0, |sensitivity| sensitivity as i32),
            timeout_ms: self.tool_timeout_ms,
            trust_annotations: self.trust_annotations,
        };
        RegisterServerRequest {
            name: self.name,
            transport: Some(McpTransport { kind: Some(kind), credentials: vec![] }),
            defaults: Some(defaults),
            verify: false,
        }
    }
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Add(args) => add(*args, client, output).await,
        Command::List => list(client, output).await,
        Command::Refresh { name } => refresh(name, client, output).await,
        Command::Remove { name } => remove(name, client, output).await,
    }
}

async fn add(args: AddArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: RegisterServerResponse =
        client.registry().register_server(args.request()).await?.into_inner();
    let Some(server) = answer.server.clone() else { return Err(Error::incomplete("server")) };
    output.show(&answer, |view| {
        let tools = tools::table(&answer.tools, view, "it provides no tools");
        format!("{}\n\n{tools}", table(std::slice::from_ref(&server), view))
    })?;
    remarks(&server, output)
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: ListServersResponse =
        client.registry().list_servers(ListServersRequest {}).await?.into_inner();
    output.show(&answer, |view| table(&answer.servers, view))
}

async fn refresh(name: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RefreshServerRequest { name };
    let answer: RefreshServerResponse = client.registry().refresh_server(request).await?.into_inner();
    let Some(server) = answer.server.clone() else { return Err(Error::incomplete("server")) };
    output.show(&answer, |view| table(std::slice::from_ref(&server), view))?;
    remarks(&server, output)
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

fn table(servers: &[Server], view: View) -> String {
    let headings = ["NAME", "STATE", "TOOLS", "SEEN", "TOOK", "VERSION", "REACHED BY"];
    let mut table = Table::new(&headings).whole(&[0]);
    for server in servers {
        let tone = match ServerState::try_from(server.state) {
            Ok(ServerState::Healthy) => Tone::Good,
            Ok(ServerState::Unavailable) => Tone::Bad,
            _ => Tone::Warn,
        };
        let took = f64::from(i32::try_from(server.discovery_ms).unwrap_or(i32::MAX));
        table.row(vec![
            cell(&server.name),
            toned(word::<ServerState>(server.state), tone),
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
    }
}
