//! `toolcrib access`: asks that a call be allowed.

use clap::{Args, Subcommand};
use proto::permissions::v1::{AccessRequestState, RequestAccessRequest, RequestAccessResponse};

use super::{approvals, client::Client, error::Error, human, invocation::arguments_json, output::Output};

/// What to ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask for a call that no grant allows, or that needs an approval
    #[command(after_help = "Examples:
  toolcrib access request http_request url=https://example.com/report --why 'the weekly report'
  toolcrib access request file_operations @arguments.json --why 'clean up' --waits 4h

The same call asked for again, while it is open, is the same access request.")]
    Request(RequestArgs),
}

/// The call.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Name of the tool
    tool: String,
    /// key=value typed by the tool's schema, key:=json, key=@file, or a whole object from @file or @-
    #[arg(value_name = "ARGUMENT")]
    arguments: Vec<String>,
    /// The arguments as one JSON object; key=value adds to it
    #[arg(long, value_name = "OBJECT")]
    json: Option<String>,
    /// Why it is needed, for who decides
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// How long it waits for somebody to decide, such as 4h or 7d [default: 1d]
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    waits: Option<i64>,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    let Command::Request(args) = command;
    let arguments_json = arguments_json(&args.tool, args.json.as_ref(), &args.arguments, client).await?;
    let request = RequestAccessRequest {
        tool_name: args.tool,
        arguments_json,
        justification: args.why,
        ttl_s: args.waits.unwrap_or_default(),
        ..RequestAccessRequest::default()
    };
    let answer: RequestAccessResponse = client.permissions().request_access(request).await?.into_inner();
    let Some(made) = &answer.access_request else { return Err(Error::incomplete("access request")) };
    output.show(&answer, |view| approvals::page(made, view))?;
    if output.is_json() || made.state() != AccessRequestState::Pending {
        return Ok(());
    }
    output.note(&format!("follow it with: toolcrib approvals show {}", made.id))
}
