//! `toolcrib feedback`: says how good a selected tool was for its task.

use clap::Args;
use proto::selector::v1::{RecordFeedbackRequest, RecordFeedbackResponse};

use super::{client::Client, error::Error, human, output::Output};

/// What is thought of a tool.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib feedback 0199f1c2-77aa-7cc3-8d19-2f5b3a1c9e10 --quality 0.8
  toolcrib feedback 0199f1c2-77aa-7cc3-8d19-2f5b3a1c9e10 --tool web_search --quality 0.1 --comment 'old results'

Feedback again on the same tool of the same selection takes the place of what you said before.")]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub struct FeedbackArgs {
    /// The selection's id
    selection: String,
    /// How good the tool was, from 0 to 1
    #[arg(long, group = "what", value_parser = quality)]
    quality: Option<f64>,
    /// A tool of that selection [default: the one that was called, or the first]
    #[arg(long)]
    tool: Option<String>,
    /// Words for people; secrets in it are redacted
    #[arg(long, group = "what")]
    comment: Option<String>,
    /// Whether the tool was used [default: as the calls say]
    #[arg(long, group = "what", value_name = "BOOL")]
    followed: Option<bool>,
    /// Id of this request: the same one again is the same feedback [default: a new one]
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
}

fn quality(text: &str) -> Result<f64, String> {
    let quality: Option<f64> = text.parse().ok();
    quality
        .filter(|quality| (0.0..=1.0).contains(quality))
        .ok_or_else(|| format!("{text:?} is no number from 0 to 1"))
}

/// Runs the command.
pub async fn run(args: FeedbackArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = RecordFeedbackRequest {
        selection_id: args.selection,
        tool_name: args.tool.unwrap_or_default(),
        quality: args.quality,
        comment: args.comment.unwrap_or_default(),
        followed: args.followed,
        request_id: args.request_id.unwrap_or_else(|| types::new_id().to_string()),
    };
    let answer: RecordFeedbackResponse = client.selector().record_feedback(request).await?.into_inner();
    let told = if answer.replaced { "kept in place of the one before" } else { "kept" };
    output.show(&answer, |_| human::visible(&format!("feedback {} is {told}", answer.feedback_id)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quality_is_a_number_from_0_to_1() {
        for (text, number) in [("0", 0.0), ("1", 1.0), ("0.85", 0.85)] {
            assert_eq!(quality(text), Ok(number));
        }
        for wrong in ["1.01", "-0.1", "NaN", "inf", "good", ""] {
            assert!(quality(wrong).is_err(), "{wrong}");
        }
    }
}
