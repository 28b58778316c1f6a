//! `toolcrib audit holds`: what must be kept while a dispute or an inquiry lasts.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use proto::audit::v1::{Hold, ListHoldsRequest, ListHoldsResponse, PlaceHoldRequest, ReleaseHoldRequest};

use crate::cli::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, toned},
};

/// What to do with holds.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep records: those that fit all that is said, or, where nothing is, the whole trail of the team
    #[command(after_help = "Examples:
  toolcrib audit holds place case-7 --user ada@example.com --reason 'Case 7, Court of Appeal'
  toolcrib audit holds place inquiry --agent researcher --since 2026-11-01T00:00:00Z --reason 'Inquiry 12'")]
    Place(PlaceArgs),
    /// End a hold
    Release {
        /// Its name
        name: String,
        /// Why, for the trail
        #[arg(long)]
        reason: String,
    },
    /// Show holds, newest first
    List {
        /// Also those that were released
        #[arg(long)]
        all: bool,
    },
}

/// What to keep.
#[derive(Debug, Args)]
pub struct PlaceArgs {
    /// Its name: 1 to 64 letters, digits, - and _
    name: String,
    /// Why, for the trail
    #[arg(long)]
    reason: String,
    /// Only records for this end user
    #[arg(long)]
    user: Option<String>,
    /// Only records of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only of what happened since: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    since: Option<DateTime<Utc>>,
    /// Only of what happened before: how long ago, or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past)]
    until: Option<DateTime<Utc>>,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(command: Command, client: &Client, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Place(args) => {
            let request = PlaceHoldRequest {
                name: args.name,
                reason: args.reason,
                user: args.user.unwrap_or_default(),
                agent_id: args.agent.unwrap_or_default(),
                start_time: args.since.map(human::to_wire),
                end_time: args.until.map(human::to_wire),
            };
            let answer = client.audit().place_hold(request).await?.into_inner();
            output.show(&answer, |view| page(&answer.hold.clone().unwrap_or_default(), view))
        }
        Command::Release { name, reason } => {
            let answer = client.audit().release_hold(ReleaseHoldRequest { name, reason }).await?.into_inner();
            output.show(&answer, |view| page(&answer.hold.clone().unwrap_or_default(), view))
        }
        Command::List { all } => {
            let request = ListHoldsRequest { show_released: all };
            let answer: ListHoldsResponse = client.audit().list_holds(request).await?.into_inner();
            output.show(&answer, |view| table(&answer.holds, view))
        }
    }
}

fn page(hold: &Hold, view: View) -> String {
    let rows = [
        ("hold", hold.name.clone()),
        ("keeps", about(hold)),
        ("why", hold.reason.clone()),
        (
            "placed",
            format!("{} by {}", human::moment(hold.place_time.as_ref(), view.now), hold.place_agent_id),
        ),
        ("released", released(hold, view)),
    ];
    details(&rows, view)
}

fn table(holds: &[Hold], view: View) -> String {
    let mut table = Table::new(&["HOLD", "KEEPS", "WHY", "PLACED", "BY", "RELEASED"]).whole(&[0]);
    for hold in holds {
        table.row(vec![
            cell(&hold.name),
            cell(about(hold)),
            cell(human::clip(&hold.reason, 60)),
            cell(human::moment(hold.place_time.as_ref(), view.now)),
            cell(&hold.place_agent_id),
            toned(released(hold, view), Tone::Dim),
        ]);
    }
    table.render(view, "no holds")
}

fn released(hold: &Hold, view: View) -> String {
    hold.release_time.as_ref().map(|at| human::moment(Some(at), view.now)).unwrap_or_default()
}

/// Which records it keeps.
fn about(hold: &Hold) -> String {
    let day = |time: &prost_types::Timestamp| {
        human::from_wire(time)
            .map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
            .unwrap_or_default()
    };
    let parts = [
        (!hold.user.is_empty()).then(|| format!("user {}", hold.user)),
        (!hold.agent_id.is_empty()).then(|| format!("agent {}", hold.agent_id)),
        hold.start_time.as_ref().map(|time| format!("since {}", day(time))),
        hold.end_time.as_ref().map(|time| format!("before {}", day(time))),
    ];
    let said: Vec<String> = parts.into_iter().flatten().collect();
    if said.is_empty() { "everything".into() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn a_hold_says_what_it_keeps() {
        let view = View { style: Style { colour: false }, width: None, now: Utc::now() };
        assert_eq!(about(&Hold::default()), "everything");
        let hold =
            Hold { name: "case-7".into(), user: "ada".into(), agent_id: "scout".into(), ..Hold::default() };
        assert_eq!(about(&hold), "user ada, agent scout");
        assert!(
            table(std::slice::from_ref(&hold), view).contains("case-7")
                && page(&hold, view).contains("user ada")
        );
        assert!(!page(&hold, view).contains("released"));
    }
}
