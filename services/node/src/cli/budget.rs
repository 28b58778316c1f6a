//! `toolcrib budget`: what the team's calls may cost on a day, and what they did.

use clap::{Args, Subcommand};
use proto::permissions::v1::{
    Budget, GetBudgetRequest, GetBudgetResponse, SetBudgetRequest, SetBudgetResponse,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, View},
    table::details,
};

/// What to do with the budget.
#[derive(Debug, Args)]
pub struct BudgetArgs {
    /// Shows it unless told otherwise.
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set what the team's calls may cost on a day (UTC)
    #[command(after_help = "Examples:
  toolcrib budget set 12.50
  toolcrib budget set 0      # no budget")]
    Set {
        /// Dollars a day, such as 12.50; 0: no budget
        #[arg(value_name = "DOLLARS", value_parser = human::parse_cost)]
        dollars: i64,
    },
}

/// Runs the command.
pub async fn run(args: BudgetArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.command {
        None => {
            let answer: GetBudgetResponse =
                client.permissions().get_budget(GetBudgetRequest {}).await?.into_inner();
            output.show(&answer, |view| page(answer.budget.unwrap_or_default(), view))
        }
        Some(Command::Set { dollars }) => {
            let request = SetBudgetRequest { daily_micro_usd: dollars };
            let answer: SetBudgetResponse = client.permissions().set_budget(request).await?.into_inner();
            output.show(&answer, |view| page(answer.budget.unwrap_or_default(), view))
        }
    }
}

fn page(budget: Budget, view: View) -> String {
    if budget.daily_micro_usd == 0 {
        return "no budget; an admin sets one with: toolcrib budget set DOLLARS".into();
    }
    let used = budget.spent_micro_usd + budget.reserved_micro_usd;
    let rows = [
        ("a day", human::cost(budget.daily_micro_usd)),
        ("spent", human::cost(budget.spent_micro_usd)),
        ("under way", human::cost(budget.reserved_micro_usd)),
        ("left", human::cost((budget.daily_micro_usd - used).max(0))),
        (
            "told",
            if budget.threshold_percent == 0 {
                String::new()
            } else {
                format!("{} % was passed", budget.threshold_percent)
            },
        ),
        ("anew", human::moment_in_full(budget.reset_time.as_ref(), view.now)),
    ];
    details(&rows, view)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn what_is_left_takes_in_what_is_under_way() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let budget = Budget {
            daily_micro_usd: 12_500_000,
            spent_micro_usd: 2_000_000,
            reserved_micro_usd: 500_000,
            reset_time: None,
            threshold_percent: 50,
        };
        assert!(page(budget, view).contains("left       $10.00"), "{}", page(budget, view));
        assert!(page(Budget::default(), view).starts_with("no budget"));
    }
}
