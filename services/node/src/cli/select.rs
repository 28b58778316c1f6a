//! `toolcrib select`: which tool fits a task, and why.

use clap::Args;
use proto::{
    selector::v1::{RankedTool, SelectToolsRequest, SelectToolsResponse},
    types::v1::{Category, Sensitivity},
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::parser,
};

/// The task and what the tool must satisfy.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib select \"sum a column of a CSV file\"
  toolcrib select \"find recent papers on retrieval\" --capability search --max-cost 0.01")]
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
    /// The most sensitive data that the tool may handle
    #[arg(long, value_parser = parser::<Sensitivity>())]
    max_sensitivity: Option<Sensitivity>,
    /// Alternatives besides the best tool
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(i32).range(0..=20))]
    alternatives: i32,
    /// The task's id, to link the selection to the calls that follow
    #[arg(long = "task", value_name = "TASK_ID")]
    task_id: Option<String>,
}

/// Runs the command.
pub async fn run(args: SelectArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = SelectToolsRequest {
        task: args.task,
        required_capabilities: args.capability,
        category: args.category.map_or(0, |category| category as i32),
        max_latency_ms: args.max_latency_ms.unwrap_or_default(),
        max_cost_micro_usd: args.max_cost,
        max_sensitivity: args.max_sensitivity.map_or(0, |sensitivity| sensitivity as i32),
        alternatives: args.alternatives,
        task_id: args.task_id.unwrap_or_default(),
    };
    let answer: SelectToolsResponse = client.selector().select_tools(request).await?.into_inner();
    output.show(&answer, |view| render(&answer, view))
}

fn render(answer: &SelectToolsResponse, view: View) -> String {
    let headings = ["", "TOOL", "SCORE", "", "FIT", "", "HISTORY", "", "RUNS", "WHY"];
    let mut table = Table::new(&headings).whole(&[1, 2, 4, 6]);
    for (nth, tool) in answer.primary.iter().chain(&answer.alternatives).enumerate() {
        let tone = if nth == 0 { Tone::Good } else { Tone::Plain };
        let mut cells = vec![toned((nth + 1).to_string(), Tone::Dim), toned(&tool.name, tone)];
        for (score, cells_wide) in
            [(tool.combined_score, 10), (tool.match_score, 6), (tool.suitability_score, 6)]
        {
            cells.push(toned(human::bar(score, cells_wide), tone));
            cells.push(number(format!("{score:.2}")));
        }
        cells.push(number(tool.executions.to_string()));
        cells.push(cell(why(tool)));
        table.row(cells);
    }
    let mut parts = vec![table.render(view, "no tool fits")];
    parts.push(view.style.paint(&considered(answer), Tone::Dim));
    if let Some(best) = &answer.primary {
        let next = format!(
            "next: toolcrib call {} --selection {} …",
            human::visible(&best.name),
            answer.selection_id
        );
        parts.push(view.style.paint(&next, Tone::Dim));
    }
    parts.join("\n")
}

fn why(tool: &RankedTool) -> String {
    if tool.reason.is_empty() { human::brief(&tool.description, 60) } else { tool.reason.clone() }
}

fn considered(answer: &SelectToolsResponse) -> String {
    let mut excluded: Vec<_> =
        answer.excluded.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    excluded.sort();
    let left_out =
        if excluded.is_empty() { String::new() } else { format!("; left out: {}", excluded.join(", ")) };
    human::visible(&format!("{} considered{left_out}", answer.candidate_count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn the_ranking_shows_scores_as_bars_and_what_was_left_out() {
        let tool = |name: &str, score: f64| RankedTool {
            name: name.into(),
            combined_score: score,
            match_score: score,
            suitability_score: 0.5,
            reason: "fits".into(),
            ..RankedTool::default()
        };
        let answer = SelectToolsResponse {
            selection_id: "s-1".into(),
            primary: Some(tool("adder", 0.8)),
            alternatives: vec![tool("reader", 0.2)],
            candidate_count: 7,
            excluded: [("NO_GRANT".to_owned(), 3)].into(),
        };
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let text = render(&answer, view);
        let row = text.lines().find(|line| line.contains("adder")).unwrap();
        assert!(row.contains("████████··") && row.contains("0.80") && row.contains("███···"), "{text}");
        assert!(text.contains("7 considered; left out: 3 NO_GRANT"), "{text}");
        assert!(text.contains("toolcrib call adder --selection s-1"), "{text}");
    }
}
