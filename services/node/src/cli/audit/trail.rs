//! `toolcrib audit trail`: the events of the team, page by page, or as they arrive.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use clap::Args;
use proto::{
    audit::v1::{
        Action, Event, PayloadState, QueryTrailRequest, QueryTrailResponse, Result as AuditResult,
        WatchTrailRequest,
    },
    types::v1::Sensitivity,
};
use tonic::Code;

use crate::cli::{
    client::{Client, pages},
    error::Error,
    human, json,
    output::{Output, Style, Tone, View},
    table::{Table, cell, number, toned},
    words::{parser, result_tone, word},
};

/// How long a trail that cannot be reached is tried again.
const PATIENCE: Duration = Duration::from_mins(1);
/// Pause before it is.
const PAUSE: Duration = Duration::from_secs(1);

/// What to read.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit trail --since 1h --result denied
  toolcrib audit trail --agent researcher --tool file_operations --limit 200
  toolcrib audit trail --follow --sensitivity restricted
  toolcrib -o json audit trail --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z --limit 100000")]
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
    /// Only for this end user
    #[arg(long)]
    user: Option<String>,
    /// Only of this pseudonym of an end user, erased or not
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Only this action
    #[arg(long, value_parser = parser::<Action>())]
    action: Option<Action>,
    /// Only with this result
    #[arg(long, value_parser = parser::<AuditResult>())]
    result: Option<AuditResult>,
    /// Only of tools whose most sensitive data is this
    #[arg(long, value_parser = parser::<Sensitivity>())]
    sensitivity: Option<Sensitivity>,
    /// Not before: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past, conflicts_with = "follow")]
    since: Option<DateTime<Utc>>,
    /// Before: how long ago, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past, conflicts_with = "follow")]
    until: Option<DateTime<Utc>>,
    /// Most events to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "follow")]
    limit: u32,
    /// Tell events as they arrive, until interrupted
    #[arg(long, short)]
    follow: bool,
    /// With --follow: tell also what came after this position
    #[arg(long, value_name = "N", requires = "follow", default_value_t, hide_default_value = true,
        value_parser = clap::value_parser!(i64).range(0..))]
    after: i64,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

impl TrailArgs {
    fn filter(&self) -> QueryTrailRequest {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        QueryTrailRequest {
            agent_id: text(&self.agent),
            tool_name: text(&self.tool),
            task_id: text(&self.task),
            execution_id: text(&self.execution),
            user: text(&self.user),
            subject_id: text(&self.subject),
            action: self.action.map_or(0, |action| action as i32),
            result: self.result.map_or(0, |result| result as i32),
            sensitivity: self.sensitivity.map_or(0, |sensitivity| sensitivity as i32),
            start_time: self.since.map(human::to_wire),
            end_time: self.until.map(human::to_wire),
            ..QueryTrailRequest::default()
        }
    }
}

/// Runs the command.
pub async fn run(args: TrailArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = args.filter();
    if args.follow {
        return follow(filter, args.after, client, output).await;
    }
    let is_filtered = filter != QueryTrailRequest::default();
    let mut available_start_time = None;
    let (events, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = QueryTrailRequest { page_size, page_token, ..filter.clone() };
        let page = client.audit().query_trail(request).await?.into_inner();
        available_start_time = page.available_start_time;
        Ok((page.events, page.next_page_token))
    })
    .await?;
    let empty = if is_filtered {
        "no event fits; widen --since, or leave a filter out"
    } else {
        "the trail is empty; it begins with the first call: toolcrib call TOOL"
    };
    let answer = QueryTrailResponse { events, next_page_token, available_start_time };
    output.show(&answer, |view| table(&answer.events, view, empty))?;
    if let (Some(start), false) = (&answer.available_start_time, output.is_json()) {
        let start =
            human::from_wire(start).map(|start| start.format("%Y-%m-%d").to_string()).unwrap_or_default();
        output
            .note(&format!("events before {start} are not all there any more: their retention has ended"))?;
    }
    output.more(&answer.next_page_token)
}

/// Tells events as they arrive. A stream lasts so long and no longer, and is taken up again where it ended.
async fn follow(
    filter: QueryTrailRequest,
    after: i64,
    client: &Client,
    output: &mut Output,
) -> Result<(), Error> {
    let (mut last, mut heard, mut was_heard) = (after, Instant::now(), false);
    loop {
        let request = WatchTrailRequest { filter: Some(filter.clone()), after_sequence: last };
        let broken = match client.audit().watch_trail(request).await {
            Err(status) => status,
            Ok(stream) => {
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(step)) => {
                            (last, heard, was_heard) = (last.max(step.sequence), Instant::now(), true);
                            for event in &step.events {
                                tell(event, output)?;
                            }
                        }
                        Ok(None) => break tonic::Status::unavailable("the stream has ended"),
                        Err(status) => break status,
                    }
                }
            }
        };
        match broken.code() {
            Code::DeadlineExceeded if was_heard => {}
            Code::Unavailable if was_heard && heard.elapsed() < PATIENCE => tokio::time::sleep(PAUSE).await,
            _ => {
                output.note(&format!("go on with: toolcrib audit trail --follow --after {last}"))?;
                return Err(broken.into());
            }
        }
    }
}

fn tell(event: &Event, output: &mut Output) -> Result<(), Error> {
    if output.is_json() {
        output.text(&json::of(event)?.to_string())?;
    } else {
        output.view(|view| line(event, view.style))?;
    }
    output.flush()
}

fn line(event: &Event, style: Style) -> String {
    let time = event.time.as_ref().and_then(human::from_wire).map_or_else(String::new, |time| {
        time.with_timezone(&chrono::Local).format("%H:%M:%S%.3f").to_string()
    });
    let result = style.paint(&format!("{:<8}", word::<AuditResult>(event.result)), result_tone(event.result));
    let action = word::<Action>(event.action);
    let who = human::visible(&format!("{:<16}  {:<20}", event.agent_id, event.tool_name));
    let why = human::visible(&why(event)).replace('\n', " ");
    format!("{}  {:>6}  {action:<20}  {result}  {who}  {why}", style.paint(&time, Tone::Dim), event.sequence)
        .trim_end()
        .to_owned()
}

fn table(events: &[Event], view: View, empty: &str) -> String {
    let headings = ["NO", "WHEN", "ACTION", "RESULT", "AGENT", "USER", "TOOL", "TOOK", "WHY", "EXECUTION"];
    let mut table = Table::new(&headings).whole(&[0, 6, 9]);
    for event in events {
        table.row(vec![
            number(event.sequence.to_string()),
            cell(human::moment(event.time.as_ref(), view.now)),
            cell(word::<Action>(event.action)),
            toned(word::<AuditResult>(event.result), result_tone(event.result)),
            cell(&event.agent_id),
            user(event),
            cell(&event.tool_name),
            number(human::duration(event.duration_ms)),
            cell(why(event)),
            toned(&event.execution_id, Tone::Dim),
        ]);
    }
    table.render(view, empty)
}

fn user(event: &Event) -> comfy_table::Cell {
    if event.payload_state == PayloadState::Erased as i32 {
        toned("erased", Tone::Dim)
    } else {
        cell(human::clip(&event.user, 24))
    }
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

    fn event() -> Event {
        Event {
            sequence: 7,
            action: Action::PermissionChecked as i32,
            result: AuditResult::Denied as i32,
            agent_id: "dev".into(),
            user: "ada".into(),
            tool_name: "shell".into(),
            reason: "NO_GRANT".into(),
            ..Event::default()
        }
    }

    #[test]
    fn the_trail_tells_who_did_what_for_whom_and_why_it_was_refused() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let text = table(&[event()], view, "none");
        let row = text.lines().nth(1).unwrap();
        for part in ["7", "permission_checked", "denied", "dev", "ada", "shell", "NO_GRANT"] {
            assert!(row.contains(part), "{part} is missing in\n{text}");
        }
        let erased = Event { user: String::new(), payload_state: PayloadState::Erased as i32, ..event() };
        assert!(table(&[erased], view, "none").contains("erased"));
    }

    #[test]
    fn a_followed_event_is_one_line_that_steers_no_terminal() {
        let line = line(&Event { message: "a\nb\x1b[2J".into(), ..event() }, Style { colour: false });
        assert!(line.contains("NO_GRANT: a b") && !line.contains('\n') && !line.contains('\x1b'), "{line:?}");
    }
}
