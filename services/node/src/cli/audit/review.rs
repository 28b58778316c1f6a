//! `toolcrib audit review`: puts on record that somebody looked at events, and what they found.

use chrono::{DateTime, Utc};
use clap::Args;
use proto::audit::v1::{RecordReviewRequest, RecordReviewResponse};

use crate::cli::{
    client::Client,
    error::Error,
    human,
    output::{Output, View},
    table::details,
};

/// What was looked at, and what was found.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib audit review --from 7d --conclusion 'Weekly review: denials explained, nothing open'
  toolcrib audit review 019a9e1c-8f3e-7cc0-8000-000000000001 --conclusion 'Key was shared; rotate it' --follow-up")]
pub struct ReviewArgs {
    /// Events that were looked at, by id
    #[arg(value_name = "EVENT")]
    events: Vec<String>,
    /// Begin of the time that was looked at: how long ago (1h, 7d), or an RFC 3339 time
    #[arg(long, value_name = "WHEN", value_parser = past, conflicts_with = "events")]
    from: Option<DateTime<Utc>>,
    /// End of it [default, with --from: now]
    #[arg(long, value_name = "WHEN", value_parser = past, requires = "from")]
    to: Option<DateTime<Utc>>,
    /// What was looked for and found
    #[arg(long)]
    conclusion: String,
    /// Something needs to be done
    #[arg(long)]
    follow_up: bool,
    /// The same id is the same review, however often it is sent
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

fn past(text: &str) -> Result<DateTime<Utc>, String> {
    human::parse_past(text, Utc::now())
}

/// Runs the command.
pub async fn run(args: ReviewArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let end = args.from.map(|_| args.to.unwrap_or_else(Utc::now));
    let request = RecordReviewRequest {
        event_ids: args.events,
        start_time: args.from.map(human::to_wire),
        end_time: end.map(human::to_wire),
        conclusion: args.conclusion,
        follow_up: args.follow_up,
        request_id: args.request_id.unwrap_or_else(|| types::new_id().to_string()),
    };
    let answer = client.audit().record_review(request).await?.into_inner();
    output.show(&answer, |view| recorded(&answer, view))
}

fn recorded(answer: &RecordReviewResponse, view: View) -> String {
    let time = human::moment_in_full(answer.time.as_ref(), view.now);
    details(&[("review", answer.event_id.clone()), ("on record", time)], view)
}
