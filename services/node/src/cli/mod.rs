//! The command line: what can be asked of `toolcrib`, and who answers.
//!
//! Commands of the server side go to the modules of this crate; commands of the client side go over one
//! connection to the edge, through the published contracts alone, so that whatever the command line can do,
//! a program in any language can do too. No business rule belongs here.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to its terminal")]

mod access;
mod agents;
mod approvals;
mod arguments;
mod audit;
mod batch;
mod budget;
mod cache;
mod call;
mod client;
mod conditions;
mod costs;
mod credentials;
mod effectiveness;
mod error;
mod execution;
mod executions;
mod explain;
mod feedback;
mod files;
mod find;
mod grants;
mod health;
mod help;
mod hours;
mod human;
mod import;
mod invocation;
mod json;
mod keys;
mod metrics;
mod output;
mod patterns;
mod pins;
mod policies;
mod prefixed;
mod ranking;
mod recommend;
mod redact;
mod report;
mod review;
mod select;
mod selections;
mod servers;
mod setting_names;
mod settings;
mod start;
mod table;
mod tools;
mod usage;
mod watch;
mod webhooks;
mod whoami;
mod words;

#[cfg(test)]
mod tests;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, FromArgMatches, Parser, Subcommand, builder::PossibleValuesParser};

use client::{Client, ClientArgs, Target};
use error::Error;
use output::Output;

/// What one process can be, besides `all`.
const ROLES: [&str; 7] = ["all", "edge", "registry", "selector", "executor", "permissions", "audit"];

#[derive(Debug, Parser)]
#[command(
    name = "toolcrib",
    version,
    about = "Registers, selects, runs, permits and audits the tools of AI agents"
)]
struct Cli {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything on this machine, with a database of its own
    Up(UpArgs),
    /// Serve one role, several or all, with a database that is there
    Serve(ServeArgs),
    /// Bring the database's schema up to date
    Migrate(MigrateArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// The catalog: list, search, show, register, enable and disable tools
    #[command(subcommand)]
    Tools(tools::Command),
    /// MCP servers whose tools are in the catalog
    #[command(subcommand)]
    Servers(servers::Command),
    /// Keys, passwords, tokens and certificates that tools and servers are reached with
    #[command(subcommand)]
    Credentials(credentials::Command),
    /// Ask which tool fits a task
    Select(Box<select::SelectArgs>),
    /// Say how good a selected tool was for its task
    Feedback(feedback::FeedbackArgs),
    /// Tools that have done best, by category of task, and why
    Recommend(recommend::RecommendArgs),
    /// Run a tool
    Call(Box<call::CallArgs>),
    /// Hand a call over, to run later
    Start(Box<start::StartArgs>),
    /// Run many tools, one call a line of a file
    Batch(batch::BatchArgs),
    /// What ran, and how it ended; watch and cancel what runs
    #[command(subcommand)]
    Executions(executions::Command),
    /// Figures of the tools over the last 7 days
    Metrics(metrics::MetricsArgs),
    /// What was selected for which task, and what became of it
    Selections(selections::SelectionsArgs),
    /// How well tools have done, and whether they do better or worse than before
    Effectiveness(effectiveness::EffectivenessArgs),
    /// What follows what, when tools are used, how they fail, and what could be done about it
    Patterns(patterns::PatternsArgs),
    /// Tools that every answer of the selector offers
    #[command(subcommand)]
    Pins(pins::Command),
    /// The weights that rank tools: fit them to what was learned, use them, go back
    #[command(subcommand)]
    Ranking(ranking::Command),
    /// What the result cache does
    #[command(subcommand)]
    Cache(cache::Command),
    /// The trail of what was asked, decided and done
    #[command(subcommand)]
    Audit(audit::Command),
    /// How much was used, by day, tool, agent and classification
    Usage(usage::UsageArgs),
    /// What was spent, by task, agent, tool or day, and how much of the budget is left
    Costs(costs::CostsArgs),
    /// Who may call which tool
    #[command(subcommand)]
    Grants(grants::Command),
    /// Rules of the team that every call must pass beside the grants
    #[command(subcommand)]
    Policies(policies::Command),
    /// Ask to be allowed a call
    #[command(subcommand)]
    Access(access::Command),
    /// What agents ask to be allowed, for those who decide
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Addresses that are told of what agents ask
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Tell whether a call would be allowed, by what, and what would allow it
    Explain(explain::ExplainArgs),
    /// What the team's calls may cost on a day
    Budget(budget::BudgetArgs),
    /// The members of your team
    #[command(subcommand)]
    Agents(agents::Command),
    /// The API keys that agents present
    #[command(subcommand)]
    Keys(keys::Command),
    /// Who the server takes you for
    Whoami,
    /// Whether every service serves
    Health,
}

/// `toolcrib up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Folder for database, keys and workspaces [default: .data, or one that the database's user can reach]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where the edge listens [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Configuration file, over the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `toolcrib serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  toolcrib serve --config /etc/toolcrib.toml --roles all
  toolcrib serve --config /etc/toolcrib.toml --roles executor,permissions")]
pub struct ServeArgs {
    /// What this process is; joined by commas [default: the configuration's roles]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(ROLES))]
    pub roles: Vec<String>,
    /// Configuration file, over the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `toolcrib migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArgs {
    /// Configuration file, over the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Create this team too, with an admin and its first API key, unless it is there
    #[arg(long, value_name = "TEAM")]
    pub bootstrap: Option<String>,
}

#[derive(Debug, Clone, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and tell every fault at once
    Check(ConfigArgs),
}

/// `toolcrib config check`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// Configuration file, over the defaults
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Check what these roles need; joined by commas [default: the configuration's roles]
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(ROLES))]
    pub roles: Vec<String>,
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let matches = help::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    match cli.command {
        Command::Config(ConfigCommand::Check(args)) => told(crate::config::check(&args)),
        Command::Up(args) => {
            told(server_runtime().and_then(|runtime| runtime.block_on(crate::up::run(args))))
        }
        Command::Serve(args) => {
            told(server_runtime().and_then(|runtime| runtime.block_on(crate::serve::run(args))))
        }
        Command::Migrate(args) => {
            told(server_runtime().and_then(|runtime| runtime.block_on(crate::serve::migrate(args))))
        }
        asked => run_client(asked, &cli.client),
    }
}

fn server_runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// Prints a line to standard output: what was asked for.
pub fn say(line: &str) {
    println!("{line}");
}

/// Prints a line to standard error: what is told besides.
pub fn warn(line: &str) {
    eprintln!("{line}");
}

fn told(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a command of the client side and gives its exit code.
fn run_client(command: Command, args: &ClientArgs) -> ExitCode {
    let default_timeout_s = match command {
        Command::Call(_) | Command::Batch(_) => Some(call::TIMEOUT_S),
        Command::Tools(tools::Command::Import(_)) => Some(import::TIMEOUT_S),
        _ => None,
    };
    let target = Target::find(args, default_timeout_s);
    let mut output = Output::standard(args.output);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(ask(command, &target, &mut output)),
        Err(error) => Err(Error::Fault(error.into())),
    };
    let Err(error) = done.and_then(|()| output.flush()) else { return ExitCode::SUCCESS };
    if let Some(report) = error.report(&target.context()) {
        // Nobody is left to be told when this fails.
        let _ = output.report(&report);
    }
    ExitCode::from(error.exit_code())
}

async fn ask(command: Command, target: &Target, output: &mut Output) -> Result<(), Error> {
    let command = match command {
        Command::Audit(command) => match audit::run_offline(command, output)? {
            Some(command) => Command::Audit(command),
            None => return Ok(()),
        },
        command => command,
    };
    let client: &Client = &target.connect().await?;
    match command {
        Command::Tools(command) => tools::run(command, client, output).await,
        Command::Servers(command) => servers::run(command, client, output).await,
        Command::Credentials(command) => credentials::run(command, client, output).await,
        Command::Select(args) => select::run(*args, client, output).await,
        Command::Feedback(args) => feedback::run(args, client, output).await,
        Command::Recommend(args) => recommend::run(args, client, output).await,
        Command::Selections(args) => selections::run(args, client, output).await,
        Command::Effectiveness(args) => effectiveness::run(args, client, output).await,
        Command::Patterns(args) => patterns::run(args, client, output).await,
        Command::Pins(command) => pins::run(command, client, output).await,
        Command::Ranking(command) => ranking::run(command, client, output).await,
        Command::Call(args) => call::run(*args, client, output).await,
        Command::Start(args) => start::run(*args, client, output).await,
        Command::Batch(args) => batch::run(args, client, output).await,
        Command::Executions(command) => executions::run(command, client, output).await,
        Command::Metrics(args) => metrics::run(args, client, output).await,
        Command::Cache(command) => cache::run(command, client, output).await,
        Command::Audit(command) => audit::run(command, client, output).await,
        Command::Usage(args) => usage::run(args, client, output).await,
        Command::Costs(args) => costs::run(args, client, output).await,
        Command::Grants(command) => grants::run(command, client, output).await,
        Command::Policies(command) => policies::run(command, client, output).await,
        Command::Access(command) => access::run(command, client, output).await,
        Command::Approvals(command) => approvals::run(command, client, output).await,
        Command::Webhooks(command) => webhooks::run(command, client, output).await,
        Command::Explain(args) => explain::run(args, client, output).await,
        Command::Budget(args) => budget::run(args, client, output).await,
        Command::Agents(command) => agents::run(command, client, output).await,
        Command::Keys(command) => keys::run(command, client, output).await,
        Command::Whoami => whoami::run(&target.address, client, output).await,
        Command::Health => health::run(client, output).await,
        Command::Up(_) | Command::Serve(_) | Command::Migrate(_) | Command::Config(_) => {
            Err(Error::usage("this command needs no connection"))
        }
    }
}
