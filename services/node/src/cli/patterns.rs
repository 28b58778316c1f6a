//! `toolcrib patterns`: which tools follow which, when they are used, how they fail, and what could be done about it.

use clap::Args;
use proto::selector::v1::{
    FailureCluster, GetUsagePatternsRequest, GetUsagePatternsResponse, HourlyUse, Suggestion, Transition,
    suggestion,
};

use super::{
    client::Client,
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, number, toned},
    words::word,
};

const DAY_S: i64 = 86_400;

/// Which patterns.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib patterns
  toolcrib patterns web_search --days 30")]
pub struct PatternsArgs {
    /// One tool [default: all]
    tool: Option<String>,
    /// How many days back
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(i64).range(1..=30))]
    days: i64,
    /// Most entries of each list
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(1..=200))]
    limit: i32,
}

/// Runs the command.
pub async fn run(args: PatternsArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GetUsagePatternsRequest {
        tool_name: args.tool.unwrap_or_default(),
        period: Some(prost_types::Duration { seconds: args.days * DAY_S, nanos: 0 }),
        limit: args.limit,
    };
    let answer: GetUsagePatternsResponse = client.selector().get_usage_patterns(request).await?.into_inner();
    output.show(&answer, |view| page(&answer, view))
}

/// The parts that there are.
fn page(answer: &GetUsagePatternsResponse, view: View) -> String {
    let heading = |text: &str, body: String| format!("{}\n{body}", view.style.paint(text, Tone::Bold));
    let mut parts = Vec::new();
    if !answer.transitions.is_empty() {
        parts.push(heading("What follows what", tree(&answer.transitions, view)));
    }
    if !answer.hourly.is_empty() {
        parts.push(heading("When (hours of the day, UTC)", hours(&answer.hourly, view)));
    }
    if !answer.failures.is_empty() {
        parts.push(heading("What fails together", failures(&answer.failures, view)));
    }
    if !answer.suggestions.is_empty() {
        parts.push(heading("What could be done", suggestions(&answer.suggestions, view)));
    }
    if parts.is_empty() {
        return view.style.paint("nothing was used in this time", Tone::Dim);
    }
    parts.join("\n\n")
}

/// Each tool with those that follow it, in the order in which the server tells them.
fn tree(transitions: &[Transition], view: View) -> String {
    let mut lines = Vec::new();
    let mut told: Vec<&str> = Vec::new();
    for first in transitions {
        if told.contains(&first.from_tool.as_str()) {
            continue;
        }
        told.push(&first.from_tool);
        lines.push(human::visible(&first.from_tool));
        let followers: Vec<_> = transitions.iter().filter(|each| each.from_tool == first.from_tool).collect();
        let widest = followers.iter().map(|each| each.to_tool.chars().count()).max().unwrap_or_default();
        for (nth, each) in followers.iter().enumerate() {
            let branch = if nth + 1 == followers.len() { "\u{2514}\u{2500}" } else { "\u{251c}\u{2500}" };
            let figures =
                format!("{:>4.0} %  {}\u{d7}  lift {:.1}", each.probability * 100.0, each.count, each.lift);
            lines.push(format!(
                "{branch} {:widest$}  {} {}",
                human::visible(&each.to_tool),
                human::bar(each.probability, 6),
                view.style.paint(&figures, Tone::Dim)
            ));
        }
    }
    lines.join("\n")
}

fn hours(uses: &[HourlyUse], view: View) -> String {
    let mut table = Table::new(&["TOOL", "0     6     12    18", "CALLS", "FAILED"]).whole(&[0, 1]);
    for each in uses {
        table.row(vec![
            cell(&each.tool_name),
            cell(sparkline(&each.calls)),
            number(each.calls.iter().sum::<i64>().to_string()),
            number(each.failures.iter().sum::<i64>().to_string()),
        ]);
    }
    table.render(view, "")
}

/// One character a number, as high as it is beside the largest; nothing is a dot.
fn sparkline(numbers: &[i64]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or_default().max(1);
    let step = |number: i64| {
        let place = usize::try_from((i128::from(number) * 8 - 1) / i128::from(most)).unwrap_or_default();
        STEPS[place.min(STEPS.len() - 1)]
    };
    numbers.iter().map(|&number| if number <= 0 { '·' } else { step(number) }).collect()
}

fn failures(clusters: &[FailureCluster], view: View) -> String {
    let headings = ["TOOL", "REASON", "FAILURES", "OF CALLS", "AGENTS", "FROM", "TO"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for each in clusters {
        table.row(vec![
            cell(&each.tool_name),
            toned(&each.failure_reason, Tone::Bad),
            number(each.count.to_string()),
            number(format!("{:.0} %", each.share * 100.0)),
            number(each.agents.to_string()),
            cell(human::moment(each.start_time.as_ref(), view.now)),
            cell(human::moment(each.end_time.as_ref(), view.now)),
        ]);
    }
    table.render(view, "")
}

fn suggestions(suggestions: &[Suggestion], view: View) -> String {
    let mut table = Table::new(&["TOOL", "WHAT", "CALLS", "WHY"]).whole(&[0, 1]);
    for each in suggestions {
        table.row(vec![
            cell(&each.tool_name),
            toned(word::<suggestion::Kind>(each.kind).replace('_', " "), Tone::Warn),
            number(each.calls.to_string()),
            cell(&each.text),
        ]);
    }
    table.render(view, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    #[test]
    fn what_follows_is_a_tree() {
        let after = |from: &str, to: &str, probability| Transition {
            from_tool: from.into(),
            to_tool: to.into(),
            count: 6,
            probability,
            lift: 2.04,
        };
        let answer = GetUsagePatternsResponse {
            transitions: vec![
                after("search", "read\u{1b}", 0.75),
                after("read", "mail", 1.0),
                after("search", "mail", 0.25),
            ],
            ..GetUsagePatternsResponse::default()
        };
        let text = page(&answer, view());
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "What follows what");
        assert_eq!(lines[1], "search");
        assert_eq!(lines[2], "├─ read\u{fffd}  ████▌·   75 %  6×  lift 2.0");
        assert_eq!(lines[3], "└─ mail   █▌····   25 %  6×  lift 2.0");
        assert_eq!(lines[4..6], ["read", "└─ mail  ██████  100 %  6×  lift 2.0"]);
    }

    #[test]
    fn hours_are_a_sparkline() {
        assert_eq!(sparkline(&[0, 1, 4, 8, -1]), "·▁▄█·");
        assert_eq!(sparkline(&[1, 1]), "██");
        assert_eq!(sparkline(&[i64::MAX, 1, 0]), "█▁·");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn suggestions_are_told_with_their_words_and_nothing_is_said_so() {
        let suggestion = Suggestion {
            kind: suggestion::Kind::CacheThis.into(),
            tool_name: "weather".into(),
            text: "40 of 60 calls asked the same again: toolcrib tools set weather cache=…".into(),
            calls: 40,
            ..Suggestion::default()
        };
        let hourly = HourlyUse { tool_name: "weather".into(), calls: vec![2; 24], failures: vec![0; 24] };
        let failure = FailureCluster {
            tool_name: "weather".into(),
            failure_reason: "TIMED_OUT".into(),
            count: 7,
            share: 0.35,
            ..FailureCluster::default()
        };
        let answer = GetUsagePatternsResponse {
            suggestions: vec![suggestion],
            hourly: vec![hourly],
            failures: vec![failure],
            ..GetUsagePatternsResponse::default()
        };
        let text = page(&answer, view());
        for told in ["cache this", "40 of 60 calls", "TIMED_OUT", "35 %", "48", &"█".repeat(24)] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
        assert_eq!(page(&GetUsagePatternsResponse::default(), view()), "nothing was used in this time");
    }
}
