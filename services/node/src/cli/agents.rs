//! `toolcrib agents`: the members of the team.

use clap::{Args, Subcommand};
use proto::permissions::v1::{Agent, CreateAgentRequest, CreateAgentResponse, Role};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, View},
    table::details,
    words::{parser, word},
};

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Add an agent to your team
    #[command(after_help = "Example:
  toolcrib agents add researcher --specialization Researcher
  toolcrib keys issue researcher > researcher.key")]
    Add(AddArgs),
}

/// An agent to add.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Its name: a-z, 0-9, '_', '-' and '.'
    name: String,
    /// What it does, such as Researcher; grants may be given to it
    #[arg(long)]
    specialization: String,
    /// What it may do with toolcrib itself
    #[arg(long, value_parser = parser::<Role>(), default_value = "agent")]
    role: Role,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    let Command::Add(args) = command;
    let answer = create(args.name, args.specialization, args.role, client).await?;
    let agent = answer.agent.clone().unwrap_or_default();
    output.show(&answer, |view| render(&agent, view))
}

/// Creates an agent; the same one may be there already.
pub async fn create(
    name: String,
    specialization: String,
    role: Role,
    client: &Client,
) -> Result<CreateAgentResponse, Error> {
    let agent = Agent { id: name, specialization, role: role as i32, ..Agent::default() };
    let request = CreateAgentRequest { agent: Some(agent) };
    Ok(client.permissions().create_agent(request).await?.into_inner())
}

fn render(agent: &Agent, view: View) -> String {
    let rows = [
        ("agent", agent.id.clone()),
        ("specialization", agent.specialization.clone()),
        ("role", word::<Role>(agent.role)),
        ("made", human::moment(agent.create_time.as_ref(), view.now)),
        ("next", format!("toolcrib keys issue {} > {}.key", agent.id, agent.id)),
    ];
    details(&rows, view)
}
