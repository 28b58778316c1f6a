//! `toolcrib usage`: how much was used, by day, tool, agent and classification.

use clap::{Args, ValueEnum};
use prost_types::FieldMask;
use proto::{
    audit::v1::{GetUsageRequest, GetUsageResponse, UsageRow},
    types::v1::Sensitivity,
};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::word,
};

/// Which use.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib usage
  toolcrib usage --by tool --from 2026-11-01 --to 2026-11-30
  toolcrib usage --by day,agent --tool http_request")]
pub struct UsageArgs {
    /// What tells rows apart: day, tool, agent, sensitivity, or team for one row of all
    #[arg(long, value_enum, value_delimiter = ',', default_value = "day")]
    by: Vec<By>,
    /// First day (UTC), YYYY-MM-DD [default: 30 days ago]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day [default: today]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Only of this tool
    #[arg(long)]
    tool: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Most rows to show
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Day,
    Tool,
    Agent,
    Sensitivity,
    Team,
}

impl By {
    fn path(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Tool => "tool_name",
            Self::Agent => "agent_id",
            Self::Sensitivity => "sensitivity",
            Self::Team => "team",
        }
    }
}

/// Runs the command.
pub async fn run(args: UsageArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let question = GetUsageRequest {
        start_day: args.from.unwrap_or_default(),
        end_day: args.to.unwrap_or_default(),
        tool_name: args.tool.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        group_by: Some(FieldMask { paths: args.by.iter().map(|by| by.path().to_owned()).collect() }),
        ..GetUsageRequest::default()
    };
    let mut total = None;
    let (rows, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = GetUsageRequest { page_size, page_token, ..question.clone() };
        let page = client.audit().get_usage(request).await?.into_inner();
        total = page.total;
        Ok((page.rows, page.next_page_token))
    })
    .await?;
    let answer = GetUsageResponse { rows, next_page_token, total };
    output.show(&answer, |view| table(&answer, &args.by, view))?;
    output.more(&answer.next_page_token)
}

fn table(answer: &GetUsageResponse, by: &[By], view: View) -> String {
    let has = |one: By| by.contains(&one);
    let keys = [(By::Day, "DAY"), (By::Tool, "TOOL"), (By::Agent, "AGENT"), (By::Sensitivity, "SENSITIVITY")];
    let mut headings: Vec<&str> =
        keys.iter().filter(|(by, _)| has(*by)).map(|(_, heading)| *heading).collect();
    headings.extend(["CALLS", "OK", "FAILED", "UNKNOWN", "DENIED", "MEAN", "CACHED", "HIT RATE", "COST"]);
    let mut table = Table::new(&headings);
    let total = answer.total.iter().filter(|_| answer.rows.len() > 1);
    for (index, row) in answer.rows.iter().chain(total).enumerate() {
        let is_total = index == answer.rows.len();
        let mut cells = Vec::new();
        for (by, _) in keys.iter().filter(|(by, _)| has(*by)) {
            let key = match by {
                _ if is_total => {
                    if cells.is_empty() {
                        "total".to_owned()
                    } else {
                        String::from(" ")
                    }
                }
                By::Day => row.day.clone(),
                By::Tool => row.tool_name.clone(),
                By::Agent => row.agent_id.clone(),
                By::Sensitivity | By::Team => word::<Sensitivity>(row.sensitivity),
            };
            cells.push(if is_total { toned(key, Tone::Bold) } else { cell(key) });
        }
        cells.extend(figures(row));
        table.row(cells);
    }
    table.render(view, "nothing was used in this time")
}

fn figures(row: &UsageRow) -> Vec<comfy_table::Cell> {
    let looked_up = row.cache_hits + row.cache_misses;
    let rate = if looked_up == 0 { String::new() } else { format!("{:.1} %", row.cache_hit_rate * 100.0) };
    vec![
        number(row.calls.to_string()),
        number(row.successes.to_string()),
        number(row.failures.to_string()),
        number(row.unknown.to_string()),
        number(row.denials.to_string()),
        number(human::duration(row.avg_duration_ms)),
        number(row.cache_hits.to_string()),
        number(rate),
        number(human::cost(row.cost_micro_usd)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn rows_have_the_keys_asked_for_and_a_total_when_there_are_several() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let row = |tool: &str, calls| UsageRow { tool_name: tool.into(), calls, ..UsageRow::default() };
        let answer = GetUsageResponse {
            rows: vec![row("echo", 3), row("shell", 4)],
            total: Some(row("", 7)),
            ..GetUsageResponse::default()
        };
        let text = table(&answer, &[By::Tool], view);
        let lines: Vec<_> = text.lines().collect();
        assert!(
            lines[0].starts_with("TOOL") && lines[1].starts_with("echo") && lines[3].starts_with("total"),
            "{text}"
        );
        assert!(lines[3].contains('7') && !text.contains("DAY"), "{text}");
        let one = GetUsageResponse { rows: vec![row("", 7)], ..answer };
        assert_eq!(table(&one, &[By::Team], view).lines().count(), 2);
    }
}
