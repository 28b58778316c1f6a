//! `toolcrib start`: hands one call over, to run when its time has come, and does not wait for it.

use chrono::{DateTime, Utc};
use clap::Args;
use proto::executor::v1::{ExecutionStatus, StartExecutionRequest, StartExecutionResponse};

use super::{
    client::Client,
    error::Error,
    human,
    invocation::Invocation,
    output::Output,
    words::{execution_tone, word},
};

/// The call and its turn.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib start python_sandbox code=@report.py --task report
  toolcrib start user_by_id id:=7 --not-before +10m --request-id nightly-7
  toolcrib executions watch $(toolcrib start python_sandbox code=@report.py)

Prints the id of the execution. Exit code: 0 accepted, 2 refused, 3 toolcrib cannot be reached.")]
pub struct StartArgs {
    /// Higher ones begin first, -100 to 100
    #[arg(long, value_name = "N", default_value_t, allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-100..=100))]
    priority: i32,
    /// Not before: how long from now (+10m), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = future)]
    not_before: Option<DateTime<Utc>>,
    /// How often a process may take it up, when processes die while they run it [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..=20))]
    max_deliveries: Option<i32>,
    /// Where the call needs an approval, wait for it as long as it may take
    #[arg(long)]
    wait_for_approval: bool,
    // Last, or its heading would be that of the options above, too.
    #[command(flatten)]
    call: Invocation,
}

fn future(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_future(text.strip_prefix('+').unwrap_or(text), Utc::now())
}

/// Runs the command.
pub async fn run(args: StartArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = StartExecutionRequest {
        call: Some(args.call.request(client).await?),
        priority: args.priority,
        not_before: args.not_before.map(human::to_wire),
        max_deliveries: args.max_deliveries.unwrap_or_default(),
        wait_for_approval: args.wait_for_approval,
    };
    let answer: StartExecutionResponse = client.executor().start_execution(request).await?.into_inner();
    let Some(execution) = &answer.execution else { return Err(Error::incomplete("execution")) };
    output.show(&answer, |_| human::visible(&execution.id))?;
    if output.is_json() {
        return Ok(());
    }
    output.aside(|style| {
        let status = word::<ExecutionStatus>(execution.status);
        let before = if answer.replayed { ", accepted before under this request id" } else { "" };
        let id = &execution.id;
        let status = style.paint(&status, execution_tone(execution.status));
        let asked = match execution.access_request_id.as_str() {
            "" => String::new(),
            request => format!(", access request {request}"),
        };
        format!("{status}{asked}{before}; follow it with: toolcrib executions watch {id}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ahead_is_written_in_either_way() {
        let away = future("+10m").unwrap() - Utc::now();
        assert!((590..=600).contains(&away.num_seconds()), "{away}");
        assert_eq!(future("2027-01-31T09:00:00Z").unwrap().timestamp(), 1_801_386_000);
        assert!(future("soon").is_err());
    }
}
