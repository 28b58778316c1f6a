//! `toolcrib executions`: what ran, and how it ended.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use proto::executor::v1::{
    CancelExecutionRequest, CancelExecutionResponse, Execution, ExecutionStatus, GetExecutionRequest,
    ListExecutionsRequest, ListExecutionsResponse, ToolErrorCode,
};

use super::{
    client::{Client, pages},
    error::Error,
    execution::{page, took},
    human,
    output::{Output, View},
    table::{Table, cell, number, toned},
    watch,
    words::{execution_tone, parser, word},
};

/// What to do with executions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List executions, newest first
    List(ListArgs),
    /// Show one execution with arguments, result and every attempt
    Show {
        /// Its id
        id: String,
    },
    /// Tell what happens to an execution until it has ended
    Watch(watch::WatchArgs),
    /// Cancel an execution: one that waits never runs, one that runs is stopped
    Cancel {
        /// Its id
        id: String,
    },
}

/// What to list.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only of this tool
    #[arg(long)]
    tool: Option<String>,
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "TASK_ID")]
    task: Option<String>,
    /// Only with this status
    #[arg(long, value_parser = parser::<ExecutionStatus>())]
    status: Option<ExecutionStatus>,
    /// Only those that failed in this way
    #[arg(long, value_parser = parser::<ToolErrorCode>())]
    error: Option<ToolErrorCode>,
    /// Only the one that was asked for under this request id
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Only those that began since: how long ago (1h), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// Most executions to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Show { id } => show(id, client, output).await,
        Command::Watch(args) => watch::run(args, client, output).await,
        Command::Cancel { id } => cancel(id, client, output).await,
    }
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListExecutionsRequest {
        tool_name: args.tool.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        task_id: args.task.unwrap_or_default(),
        status: args.status.map_or(0, |status| status as i32),
        error_code: args.error.map_or(0, |code| code as i32),
        request_id: args.request_id.unwrap_or_default(),
        created_after: args.since.map(human::to_wire),
        ..ListExecutionsRequest::default()
    };
    let is_filtered = filter != ListExecutionsRequest::default();
    let (executions, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = ListExecutionsRequest { page_size, page_token, ..filter.clone() };
        let page = client.executor().list_executions(request).await?.into_inner();
        Ok((page.executions, page.next_page_token))
    })
    .await?;
    let empty =
        if is_filtered { "no execution fits" } else { "nothing ran yet; try: toolcrib call TOOL key=value" };
    let answer = ListExecutionsResponse { executions, next_page_token };
    output.show(&answer, |view| table(&answer.executions, view, empty))?;
    output.more(&answer.next_page_token)
}

async fn show(id: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let answer = client.executor().get_execution(GetExecutionRequest { id }).await?.into_inner();
    let execution = answer.execution.ok_or_else(|| Error::incomplete("execution"))?;
    output.show(&execution, |view| page(&execution, view))
}

async fn cancel(id: String, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = CancelExecutionRequest { id };
    let answer: CancelExecutionResponse = client.executor().cancel_execution(request).await?.into_inner();
    let execution = answer.execution.clone().unwrap_or_default();
    output.show(&answer, |view| cancelled(&execution, view))
}

fn cancelled(execution: &Execution, view: View) -> String {
    let status = word::<ExecutionStatus>(execution.status);
    let status = view.style.paint(&status, execution_tone(execution.status));
    let id = human::visible(&execution.id);
    if execution.status == ExecutionStatus::Running as i32 {
        format!(
            "{status} · {id} · the tool is being stopped; see it end with: toolcrib executions watch {id}"
        )
    } else {
        format!("{status} · {id}")
    }
}

fn table(executions: &[Execution], view: View, empty: &str) -> String {
    let mut table =
        Table::new(&["ID", "TOOL", "STATUS", "TOOK", "COST", "WHEN", "AGENT", "TASK"]).whole(&[0, 1]);
    for execution in executions {
        table.row(vec![
            cell(&execution.id),
            cell(&execution.tool_name),
            toned(word::<ExecutionStatus>(execution.status), execution_tone(execution.status)),
            number(took(execution)),
            number(human::cost(execution.cost_micro_usd)),
            cell(human::moment(execution.create_time.as_ref(), view.now)),
            cell(&execution.agent_id),
            cell(&execution.task_id),
        ]);
    }
    table.render(view, empty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: Utc::now() }
    }

    fn running() -> Execution {
        Execution { id: "e-1".into(), status: ExecutionStatus::Running as i32, ..Execution::default() }
    }

    #[test]
    fn a_list_shows_no_duration_while_a_tool_runs() {
        let text = table(&[running()], view(), "none");
        assert!(text.contains("running") && !text.contains("0ms"), "{text}");
    }

    #[test]
    fn what_still_runs_is_told_apart_from_what_is_cancelled() {
        assert!(cancelled(&running(), view()).contains("executions watch e-1"));
        let ended = Execution { status: ExecutionStatus::Cancelled as i32, ..running() };
        assert_eq!(cancelled(&ended, view()), "cancelled · e-1");
    }
}
