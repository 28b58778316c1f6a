//! `toolcrib audit`: the trail of what was asked, decided and done.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use proto::audit::v1::{Action, Event, QueryTrailRequest, QueryTrailResponse, Result as AuditResult};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::{parser, result_tone, word},
};

/// What to do with the trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the trail, newest first
    #[command(after_help = "Examples:
  toolcrib audit trail --since 1h --result denied
  toolcrib audit trail --agent researcher --tool file_operations --limit 200
  toolcrib -o json audit trail --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --limit 100000")]
    Trail(Box<TrailArgs>),
}

/// What to read.
#[derive(Debug, Args)]
pub struct TrailArgs {
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only of this tool
    #[arg(long)]
    tool: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "TASK_ID")]
    task: Option<String>,
    /// Only of this execution
    #[arg(long, value_name = "ID")]
    execution: Option<String>,
    /// Only this action
    #[arg(long, value_parser = parser::<Action>())]
    action: Option<Action>,
    /// Only with this result
    #[arg(long, value_parser = parser::<AuditResult>())]
    result: Option<AuditResult>,
    /// Not before: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// Before: how long ago, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    until: Option<DateTime<Utc>>,
    /// Most events to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    let Command::Trail(args) = command;
    let filter = QueryTrailRequest {
        agent_id: args.agent.unwrap_or_default(),
        tool_name: args.tool.unwrap_or_default(),
        task_id: args.task.unwrap_or_default(),
        execution_id: args.execution.unwrap_or_default(),
        action: args.action.map_or(0, |action| action as i32),
        result: args.result.map_or(0, |result| result as i32),
        start_time: args.since.map(human::to_wire),
        end_time: args.until.map(human::to_wire),
        ..QueryTrailRequest::default()
    };
    let is_filtered = filter != QueryTrailRequest::default();
    let (events, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = QueryTrailRequest { page_size, page_token, ..filter.clone() };
        let page = client.audit().query_trail(request).await?.into_inner();
        Ok((page.events, page.next_page_token))
    })
    .await?;
    let empty = if is_filtered {
        "no event fits; widen --since, or leave a filter out"
    } else {
        "the trail is empty; it begins with the first call: toolcrib call TOOL"
    };
    let answer = QueryTrailResponse { events, next_page_token };
    output.show(&answer, |view| table(&answer.events, view, empty))?;
    output.more(&answer.next_page_token)
}

fn table(events: &[Event], view: View, empty: &str) -> String {
    let headings = ["NO", "WHEN", "ACTION", "RESULT", "AGENT", "TOOL", "TOOK", "WHY", "EXECUTION"];
    let mut table = Table::new(&headings).whole(&[0, 5, 8]);
    for event in events {
        table.row(vec![
            number(event.sequence.to_string()),
            cell(human::moment(event.time.as_ref(), view.now)),
            cell(word::<Action>(event.action)),
            toned(word::<AuditResult>(event.result), result_tone(event.result)),
            cell(&event.agent_id),
            cell(&event.tool_name),
            number(human::duration(event.duration_ms)),
            cell(why(event)),
            toned(&event.execution_id, Tone::Dim),
        ]);
    }
    table.render(view, empty)
}

fn why(event: &Event) -> String {
    match (event.reason.is_empty(), event.message.is_empty()) {
        (false, false) => human::clip(&format!("{}: {}", event.reason, event.message), 80),
        (false, true) => event.reason.clone(),
        (true, _) => human::clip(&event.message, 80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn the_trail_tells_who_did_what_and_why_it_was_refused() {
        let event = Event {
            sequence: 7,
            action: Action::PermissionChecked as i32,
            result: AuditResult::Denied as i32,
            agent_id: "dev".into(),
            tool_name: "shell".into(),
            reason: "NO_GRANT".into(),
            ..Event::default()
        };
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let text = table(&[event], view, "none");
        let row = text.lines().nth(1).unwrap();
        for part in ["7", "permission_checked", "denied", "dev", "shell", "NO_GRANT"] {
            assert!(row.contains(part), "{part} is missing in\n{text}");
        }
    }
}
