//! `toolcrib keys`: the API keys that agents present.
//!
//! A new key goes to standard output alone and is written nowhere else.

use clap::{Args, Subcommand};
use proto::permissions::v1::{IssueApiKeyRequest, IssueApiKeyResponse, RevokeApiKeyRequest, Role};

use super::{agents, client::Client, error::Error, human, output::Output, words::parser};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Issue a key for an agent; the only time that it is shown
    #[command(after_help = "Examples:
  toolcrib keys issue researcher > researcher.key
  toolcrib keys issue researcher --specialization Researcher --ttl 30d | kubectl create secret generic …")]
    Issue(IssueArgs),
    /// Revoke a key
    Revoke {
        /// Its id
        key_id: String,
    },
}

/// The key to issue.
#[derive(Debug, Args)]
pub struct IssueArgs {
    /// Name of the agent
    agent: String,
    /// Create the agent first, with this specialization
    #[arg(long)]
    specialization: Option<String>,
    /// Create it with this role [default: agent]
    #[arg(long, value_parser = parser::<Role>(), requires = "specialization")]
    role: Option<Role>,
    /// How long the key is valid, such as 30d; until it is revoked when not said
    #[arg(long, value_name = "LENGTH", value_parser = human::parse_seconds)]
    ttl: Option<i64>,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Issue(args) => issue(args, client, output).await,
        Command::Revoke { key_id } => {
            let request = RevokeApiKeyRequest { key_id: key_id.clone() };
            let answer = client.permissions().revoke_api_key(request).await?.into_inner();
            output.show(&answer, |_| human::visible(&format!("key {key_id} is revoked")))
        }
    }
}

async fn issue(args: IssueArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    if let Some(specialization) = args.specialization {
        let role = args.role.unwrap_or(Role::Agent);
        agents::create(args.agent.clone(), specialization, role, client).await?;
    }
    let request = IssueApiKeyRequest {
        agent_id: args.agent.clone(),
        ttl_s: args.ttl.unwrap_or_default(),
        ..IssueApiKeyRequest::default()
    };
    let answer: IssueApiKeyResponse = client.permissions().issue_api_key(request).await?.into_inner();
    output.show(&answer, |_| answer.api_key.clone())?;
    output.flush()?;
    if output.is_json() {
        return Ok(());
    }
    let ends = answer.expire_time.as_ref().and_then(human::from_wire);
    let ends =
        ends.map_or("valid until it is revoked".into(), |time| format!("valid until {}", time.to_rfc3339()));
    output.note(&format!("key {} of {}, {ends}; it is shown only now", answer.key_id, args.agent))?;
    output.note(&format!("revoke it with: toolcrib keys revoke {}", answer.key_id))
}
