//! `toolcrib agents`: the members of the team.

use clap::{Args, Subcommand};
use proto::permissions::v1::{
    Agent, CreateAgentRequest, CreateAgentResponse, ListAgentsRequest, ListAgentsResponse, Role,
    UpdateAgentRequest, UpdateAgentResponse,
};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, toned},
    words::{parser, word},
};

/// What to do with agents.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the agents of your team
    List(ListArgs),
    /// Add an agent to your team
    #[command(
        alias = "add",
        after_help = "Example:
  toolcrib agents create researcher --specialization Researcher
  toolcrib keys issue researcher > researcher.key"
    )]
    Create(CreateArgs),
    /// Change an agent's specialization or role
    #[command(after_help = "Example:
  toolcrib agents update researcher --role operator")]
    Update(UpdateArgs),
    /// Let an agent do nothing any more, by any key or token, within a second
    Disable {
        /// Its name
        name: String,
    },
    /// Let a disabled agent in again
    Enable {
        /// Its name
        name: String,
    },
}

/// Which agents to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those with this specialization
    #[arg(long)]
    specialization: Option<String>,
}

/// An agent to add.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Its name: a-z, 0-9, '_', '-' and '.'
    name: String,
    /// What it does, such as Researcher; grants may be given to it
    #[arg(long)]
    specialization: String,
    /// What it may do with toolcrib itself
    #[arg(long, value_parser = parser::<Role>(), default_value = "agent")]
    role: Role,
}

/// What to change of an agent.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Its name
    name: String,
    /// What it does from now on; "" for nothing in particular
    #[arg(long, required_unless_present = "role")]
    specialization: Option<String>,
    /// What it may do with toolcrib itself from now on
    #[arg(long, value_parser = parser::<Role>())]
    role: Option<Role>,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Create(args) => {
            let answer = create(args.name, args.specialization, args.role, client).await?;
            let agent = answer.agent.clone().ok_or_else(|| Error::incomplete("agent"))?;
            let next = format!("toolcrib keys issue {} > {}.key", agent.id, agent.id);
            output.show(&answer, |view| render(&agent, &next, view))
        }
        Command::Update(args) => {
            let request = UpdateAgentRequest {
                agent_id: args.name,
                specialization: args.specialization,
                role: args.role.map_or(0, |role| role as i32),
                disabled: None,
            };
            update(request, client, output).await
        }
        Command::Disable { name } => update(switched(name, true), client, output).await,
        Command::Enable { name } => update(switched(name, false), client, output).await,
    }
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

fn switched(agent_id: String, disabled: bool) -> UpdateAgentRequest {
    UpdateAgentRequest { agent_id, disabled: Some(disabled), ..UpdateAgentRequest::default() }
}

async fn update(request: UpdateAgentRequest, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer: UpdateAgentResponse = client.permissions().update_agent(request).await?.into_inner();
    let agent = answer.agent.clone().ok_or_else(|| Error::incomplete("agent"))?;
    output.show(&answer, |view| render(&agent, "", view))
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let specialization = args.specialization.unwrap_or_default();
    let (agents, next_page_token) = pages(usize::MAX, async |page_size, page_token| {
        let request = ListAgentsRequest { specialization: specialization.clone(), page_size, page_token };
        let page = client.permissions().list_agents(request).await?.into_inner();
        Ok((page.agents, page.next_page_token))
    })
    .await?;
    let answer = ListAgentsResponse { agents, next_page_token };
    output.show(&answer, |view| table(&answer.agents, view))
}

fn render(agent: &Agent, next: &str, view: View) -> String {
    let rows = [
        ("agent", agent.id.clone()),
        ("specialization", agent.specialization.clone()),
        ("role", word::<Role>(agent.role)),
        ("state", if agent.disabled { "disabled: it may do nothing".into() } else { String::new() }),
        ("made", human::moment(agent.create_time.as_ref(), view.now)),
        ("next", next.to_owned()),
    ];
    details(&rows, view)
}

fn table(agents: &[Agent], view: View) -> String {
    let mut table = Table::new(&["AGENT", "SPECIALIZATION", "ROLE", "STATE", "MADE"]).whole(&[0]);
    for agent in agents {
        table.row(vec![
            cell(&agent.id),
            cell(&agent.specialization),
            cell(word::<Role>(agent.role)),
            if agent.disabled { toned("disabled", Tone::Bad) } else { toned("enabled", Tone::Good) },
            cell(human::moment(agent.create_time.as_ref(), view.now)),
        ]);
    }
    table.render(view, "no such agents; add one with: toolcrib agents create NAME --specialization WHAT")
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use clap::Parser;

    use super::*;
    use crate::cli::output::Style;

    #[derive(Parser)]
    struct Probe {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn an_update_changes_something_and_the_old_word_still_works() {
        let parsed =
            |words: &[&str]| Probe::try_parse_from(["agents"].iter().chain(words)).map(|probe| probe.command);
        assert!(parsed(&["update", "scout"]).is_err());
        assert!(parsed(&["update", "scout", "--role", "boss"]).is_err());
        assert!(parsed(&["update", "scout", "--specialization", "", "--role", "auditor"]).is_ok());
        for word in ["add", "create"] {
            assert!(
                matches!(parsed(&[word, "x", "--specialization", "Y"]), Ok(Command::Create(_))),
                "{word}"
            );
        }
    }

    #[test]
    fn the_table_tells_who_is_disabled() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let agent = |id: &str, disabled| Agent { id: id.into(), disabled, ..Agent::default() };
        let text = table(&[agent("scout", false), agent("gone", true)], view);
        assert!(text.contains("enabled") && text.contains("disabled"), "{text}");
        assert!(table(&[], view).contains("toolcrib agents create"));
        assert!(render(&agent("gone", true), "", view).contains("it may do nothing"));
    }
}
