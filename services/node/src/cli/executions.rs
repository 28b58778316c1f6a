//! `toolcrib executions`: what ran, and how it ended.

use clap::{Args, Subcommand};
use proto::{
    executor::v1::{
        Execution, ExecutionStatus, GetExecutionRequest, ListExecutionsRequest, ListExecutionsResponse,
        ToolError, ToolErrorCode,
    },
    types::v1::Effect,
};

use super::{
    client::{Client, pages},
    error::Error,
    human, json,
    output::{Output, Style, Tone, View},
    table::{Table, cell, details, number, toned},
    words::{execution_tone, parser, word},
};

/// What to do with executions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List executions, newest first
    List(ListArgs),
    /// Show one execution with arguments and result
    Show {
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
    /// Most executions to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::List(args) => list(args, client, output).await,
        Command::Show { id } => show(id, client, output).await,
    }
}

async fn list(args: ListArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListExecutionsRequest {
        tool_name: args.tool.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        task_id: args.task.unwrap_or_default(),
        status: args.status.map_or(0, |status| status as i32),
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

fn took(execution: &Execution) -> String {
    if execution.end_time.is_none() { String::new() } else { human::duration(execution.duration_ms) }
}

fn page(execution: &Execution, view: View) -> String {
    let rows = [
        ("id", execution.id.clone()),
        ("tool", format!("{} {}", execution.tool_name, execution.tool_version)),
        ("status", word::<ExecutionStatus>(execution.status)),
        ("began", human::moment_in_full(execution.create_time.as_ref(), view.now)),
        ("took", took(execution)),
        ("cost", human::cost(execution.cost_micro_usd)),
        ("effect", word::<Effect>(execution.effect)),
        ("agent", execution.agent_id.clone()),
        ("task", execution.task_id.clone()),
        ("request", execution.request_id.clone()),
        ("selection", execution.selection_id.clone()),
        ("decision", execution.decision_id.clone()),
        ("trace", execution.trace_id.clone()),
        ("tool digest", execution.tool_digest.clone()),
        ("arguments", json::pretty(&execution.arguments_json)),
        ("result", json::pretty(&execution.result_json)),
    ];
    let mut parts = vec![details(&rows, view)];
    if let Some(error) = &execution.error {
        parts.push(human::visible_but_colours(&error_text(error, view.style)));
    }
    parts.join("\n")
}

/// A tool's failure with every violation.
pub fn error_text(error: &ToolError, style: Style) -> String {
    let head = style.paint(&format!("{}:", word::<ToolErrorCode>(error.code)), Tone::Bad);
    let mut lines = vec![format!("{head} {}", error.message)];
    for violation in &error.violations {
        let place = if violation.pointer.is_empty() { "the whole" } else { &violation.pointer };
        let rule = style.paint(&format!("({})", violation.schema_pointer), Tone::Dim);
        lines.push(format!("  {place}: {} {rule}", violation.message));
    }
    if error.retryable {
        let after = f64::from(i32::try_from(error.retry_after_ms).unwrap_or(i32::MAX));
        let when = if error.retry_after_ms > 0 { human::duration(after) } else { "a while".into() };
        lines.push(style.paint(&format!("  trying again after {when} may help"), Tone::Dim));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use proto::executor::v1::SchemaViolation;

    use super::*;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    fn failed() -> Execution {
        let violation = SchemaViolation {
            pointer: "/rows/0".into(),
            message: "is no number".into(),
            schema_pointer: "/properties/rows/items/type".into(),
        };
        let error = ToolError {
            code: ToolErrorCode::InvalidResult as i32,
            message: "the result breaks the schema".into(),
            violations: vec![violation],
            retryable: true,
            retry_after_ms: 1_500,
        };
        Execution {
            id: "e-1".into(),
            tool_name: "adder".into(),
            status: ExecutionStatus::Failed as i32,
            arguments_json: "{\"id\":9007199254740993}".into(),
            error: Some(error),
            ..Execution::default()
        }
    }

    #[test]
    fn a_failure_tells_code_message_violations_and_when_to_retry() {
        let text = page(&failed(), view());
        for part in [
            "invalid_result: the result breaks the schema",
            "/rows/0: is no number (/properties/rows/items/type)",
            "after 1.5s may help",
            "\"id\": 9007199254740993",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn a_list_shows_no_duration_while_a_tool_runs() {
        let running = Execution { status: ExecutionStatus::Running as i32, ..failed() };
        let text = table(&[running], view(), "none");
        assert!(text.contains("running") && !text.contains("0ms"), "{text}");
    }
}
