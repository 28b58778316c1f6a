//! `toolcrib selections`: what was offered for which task, and what became of it. The tasks' words are not kept.

use chrono::{DateTime, Utc};
use clap::Args;
use proto::{
    selector::v1::{ListSelectionsRequest, ListSelectionsResponse, LoggedSelection},
    types::v1::Category,
};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::word,
};

/// Which selections.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib selections
  toolcrib selections --tool web_search --followed false --since 1d

An agent sees its own; operators and auditors see all of the team.")]
pub struct SelectionsArgs {
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only those that offered this tool, or were followed by a call of it
    #[arg(long)]
    tool: Option<String>,
    /// Only of this task
    #[arg(long, value_name = "TASK_ID")]
    task: Option<String>,
    /// Only those that a call followed (true), or none did (false)
    #[arg(long, value_name = "BOOL")]
    followed: Option<bool>,
    /// Only since: how long ago (1h), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// Only before: how long ago (1h), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    until: Option<DateTime<Utc>>,
    /// Most selections to show
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(args: SelectionsArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let filter = ListSelectionsRequest {
        agent_id: args.agent.unwrap_or_default(),
        tool_name: args.tool.unwrap_or_default(),
        task_id: args.task.unwrap_or_default(),
        followed: args.followed,
        start_time: args.since.map(human::to_wire),
        end_time: args.until.map(human::to_wire),
        ..ListSelectionsRequest::default()
    };
    let is_filtered = filter != ListSelectionsRequest::default();
    let (selections, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = ListSelectionsRequest { page_size, page_token, ..filter.clone() };
        let page = client.selector().list_selections(request).await?.into_inner();
        Ok((page.selections, page.next_page_token))
    })
    .await?;
    let empty = if is_filtered {
        "no selection fits"
    } else {
        "nothing was selected yet; try: toolcrib select \"what is to be done\""
    };
    let answer = ListSelectionsResponse { selections, next_page_token };
    output.show(&answer, |view| table(&answer.selections, view, empty))?;
    output.more(&answer.next_page_token)
}

fn table(selections: &[LoggedSelection], view: View, empty: &str) -> String {
    let headings =
        ["SELECTION", "WHEN", "AGENT", "TASK", "CATEGORY", "OFFERED", "SURE", "FOLLOWED", "", "QUALITY"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for selection in selections {
        let (followed, tone) = followed(selection);
        let offered: Vec<&str> = selection.offered.iter().map(|tool| tool.name.as_str()).collect();
        let explored = if selection.explored { " (explored)" } else { "" };
        table.row(vec![
            cell(&selection.selection_id),
            cell(human::moment(selection.create_time.as_ref(), view.now)),
            cell(&selection.agent_id),
            cell(&selection.task_id),
            cell(word::<Category>(selection.task_category)),
            cell(format!("{}{explored}", offered.join(", "))),
            number(format!("{:.0} %", selection.confidence * 100.0)),
            toned(followed, tone),
            cell(rank(selection)),
            cell(quality(selection)),
        ]);
    }
    table.render(view, empty)
}

/// The tool that was called, and how that ended.
fn followed(selection: &LoggedSelection) -> (String, Tone) {
    let tool = &selection.followed_tool;
    match selection.succeeded {
        _ if tool.is_empty() => (String::new(), Tone::Dim),
        Some(true) => (format!("\u{2713} {tool}"), Tone::Good),
        Some(false) => (format!("\u{2717} {tool}"), Tone::Bad),
        None => (tool.clone(), Tone::Plain),
    }
}

fn rank(selection: &LoggedSelection) -> String {
    match selection.followed_rank {
        _ if selection.followed_tool.is_empty() => String::new(),
        0 => "not offered".to_owned(),
        rank => format!("no. {rank}"),
    }
}

fn quality(selection: &LoggedSelection) -> String {
    let told = selection.feedback.iter().filter_map(|feedback| {
        let quality = feedback.quality?;
        let by = if feedback.by_person { "a person" } else { &feedback.agent_id };
        Some(format!("{quality:.2} by {by}"))
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use proto::selector::v1::{Feedback, RankedTool};

    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_line_tells_what_was_offered_what_was_called_and_how_good_it_was() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        let tool = |name: &str| RankedTool { name: name.into(), ..RankedTool::default() };
        let selection = LoggedSelection {
            selection_id: "s-1".into(),
            offered: vec![tool("brave"), tool("google")],
            confidence: 0.81,
            followed_tool: "google".into(),
            followed_rank: 2,
            succeeded: Some(false),
            feedback: vec![Feedback { quality: Some(0.25), agent_id: "scout".into(), ..Feedback::default() }],
            ..LoggedSelection::default()
        };
        let ignored = LoggedSelection { selection_id: "s-2".into(), ..LoggedSelection::default() };
        let text = table(&[selection, ignored], view, "none");
        let lines: Vec<_> = text.lines().collect();
        for told in ["s-1", "brave, google", "81 %", "✗ google", "no. 2", "0.25 by scout"] {
            assert!(lines[1].contains(told), "{told} is missing in\n{text}");
        }
        assert!(!lines[2].contains('✗') && !lines[2].contains("not offered"), "{text}");
    }
}
