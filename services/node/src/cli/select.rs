//! `toolcrib select`: which tool fits a task, and why.

mod answer;
mod explained;

use clap::{Args, ValueEnum};
use proto::{
    selector::v1::{SelectToolsRequest, SelectToolsResponse},
    types::v1::{Category, Sensitivity},
};

use super::{client::Client, error::Error, human, output::Output, words::parser};

/// The task and what the tool must satisfy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib select \"sum a column of a CSV file\"
  toolcrib select \"sum a column of a CSV file\" --explain
  toolcrib select \"find recent papers on retrieval\" --capability search --max-cost 0.01

That no tool is suitable is an answer, with what came nearest: the exit code is 0. Programs read -o json and look for
\"primary\".")]
pub struct SelectArgs {
    /// The task in words
    task: String,
    /// Capability that the tool must have; several are joined by commas
    #[arg(long, value_delimiter = ',')]
    capability: Vec<String>,
    /// Category that the tool must have
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Highest cost of one call in dollars, such as 0.01
    #[arg(long, value_name = "DOLLARS", value_parser = human::parse_cost)]
    max_cost: Option<i64>,
    /// Longest average duration in milliseconds, by history
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(1..))]
    max_latency_ms: Option<i64>,
    /// Milliseconds that there are for the call: tools whose 95th percentile is longer are left out
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(i64).range(1..))]
    available_time: Option<i64>,
    /// The most sensitive data that the tool may handle
    #[arg(long, value_parser = parser::<Sensitivity>())]
    max_sensitivity: Option<Sensitivity>,
    /// Alternatives besides the best tool
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(0..=20))]
    alternatives: i32,
    /// The task's id, to link the selection to the calls that follow
    #[arg(long = "task", value_name = "TASK_ID")]
    task_id: Option<String>,
    /// Give tools with little history a chance: their success is drawn at random, as uncertain as it is
    #[arg(long)]
    explore: bool,
    /// Whether a configured model may help [default: as the server is set]
    #[arg(long, value_enum, value_name = "SWITCH")]
    model_help: Option<Switch>,
    /// Show each signal behind the scores, what was left out, and how sure the answer is
    #[arg(long)]
    explain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

impl SelectArgs {
    fn request(self) -> SelectToolsRequest {
        SelectToolsRequest {
            task: self.task,
            required_capabilities: self.capability,
            category: self.category.map_or(0, |category| category as i32),
            max_latency_ms: self.max_latency_ms.unwrap_or_default(),
            max_cost_micro_usd: self.max_cost,
            max_sensitivity: self.max_sensitivity.map_or(0, |sensitivity| sensitivity as i32),
            alternatives: Some(self.alternatives),
            task_id: self.task_id.unwrap_or_default(),
            available_time_ms: self.available_time.unwrap_or_default(),
            explore: self.explore,
            model_help: self.model_help.map(|switch| switch == Switch::On),
        }
    }
}

/// Runs the command.
pub async fn run(args: SelectArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let explain = args.explain;
    let answer: SelectToolsResponse = client.selector().select_tools(args.request()).await?.into_inner();
    output.show(&answer, |view| answer::page(&answer, explain, view))
}
