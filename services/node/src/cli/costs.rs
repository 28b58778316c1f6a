//! `toolcrib costs`: what was spent, by task, agent, tool or day, and how much of the budget is gone.

use clap::{Args, ValueEnum};
use proto::audit::v1::{BudgetState, CostGroup, GetCostsRequest, GetCostsResponse};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number},
};

/// Which costs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib costs
  toolcrib costs --by agent --from 2026-11-01
  toolcrib costs --task 7d1c --by agent")]
pub struct CostsArgs {
    /// By what
    #[arg(long, value_enum, default_value = "task")]
    by: By,
    /// First day (UTC), YYYY-MM-DD [default: 30 days ago]
    #[arg(long, value_name = "DAY")]
    from: Option<String>,
    /// Last day [default: today]
    #[arg(long, value_name = "DAY")]
    to: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "TASK_ID")]
    task: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Most rows to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Task,
    Agent,
    Tool,
    Day,
}

impl By {
    fn group(self) -> CostGroup {
        match self {
            Self::Task => CostGroup::Task,
            Self::Agent => CostGroup::Agent,
            Self::Tool => CostGroup::Tool,
            Self::Day => CostGroup::Day,
        }
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Task => "TASK",
            Self::Agent => "AGENT",
            Self::Tool => "TOOL",
            Self::Day => "DAY",
        }
    }
}

/// Runs the command.
pub async fn run(args: CostsArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let question = GetCostsRequest {
        group: args.by.group() as i32,
        start_day: args.from.unwrap_or_default(),
        end_day: args.to.unwrap_or_default(),
        task_id: args.task.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        ..GetCostsRequest::default()
    };
    let mut last = GetCostsResponse::default();
    let (rows, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = GetCostsRequest { page_size, page_token, ..question.clone() };
        last = client.audit().get_costs(request).await?.into_inner();
        Ok((std::mem::take(&mut last.rows), last.next_page_token.clone()))
    })
    .await?;
    let answer = GetCostsResponse { rows, next_page_token, ..last };
    output.show(&answer, |view| page(&answer, args.by, view))?;
    output.more(&answer.next_page_token)
}

fn page(answer: &GetCostsResponse, by: By, view: View) -> String {
    let mut parts = vec![table(answer, by, view)];
    if !answer.rows.is_empty() {
        parts.push(format!("{} in all", human::cost(answer.total_micro_usd)));
    }
    parts.extend(answer.budgets.iter().map(|budget| told(budget, view)));
    parts.join("\n\n")
}

fn table(answer: &GetCostsResponse, by: By, view: View) -> String {
    let mut table = Table::new(&[by.heading(), "COST", "CALLS", "FAILED", "FIRST", "LAST"]).whole(&[0]);
    for row in &answer.rows {
        table.row(vec![
            cell(&row.key),
            number(human::cost(row.cost_micro_usd)),
            number(row.calls.to_string()),
            number(row.failures.to_string()),
            cell(human::moment(row.first_time.as_ref(), view.now)),
            cell(human::moment(row.last_time.as_ref(), view.now)),
        ]);
    }
    table.render(view, "nothing was spent in this time")
}

fn told(budget: &BudgetState, view: View) -> String {
    let whose = if budget.agent_id.is_empty() { "the team's" } else { &budget.agent_id };
    let share = 100.0 * budget.used_micro_usd as f64 / budget.limit_micro_usd.max(1) as f64;
    let text = format!(
        "budget of today, {whose}: {} of {} used ({share:.0} %), anew {}",
        human::cost(budget.used_micro_usd),
        human::cost(budget.limit_micro_usd),
        human::moment(budget.reset_time.as_ref(), view.now),
    );
    let tone = match budget.threshold_percent {
        100.. => Tone::Bad,
        80.. => Tone::Warn,
        _ => Tone::Plain,
    };
    view.style.paint(&human::visible(&text), tone)
}

#[cfg(test)]
mod tests {
    use proto::audit::v1::CostRow;

    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn costs_end_with_their_sum_and_the_budget() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let row = CostRow { key: "task-1".into(), cost_micro_usd: 40_000, calls: 2, ..CostRow::default() };
        let budget = BudgetState {
            limit_micro_usd: 100_000,
            used_micro_usd: 81_000,
            threshold_percent: 80,
            ..BudgetState::default()
        };
        let answer = GetCostsResponse {
            rows: vec![row],
            total_micro_usd: 40_000,
            budgets: vec![budget],
            ..GetCostsResponse::default()
        };
        let text = page(&answer, By::Task, view);
        for part in ["TASK", "task-1", "$0.04 in all", "$0.081 of $0.10 used (81 %)"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
        let none = page(&GetCostsResponse::default(), By::Day, view);
        assert_eq!(none, "nothing was spent in this time");
    }
}
