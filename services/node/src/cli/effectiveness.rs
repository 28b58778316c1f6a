//! `toolcrib effectiveness`: how well tools have done, and whether they do better or worse than before.

use clap::Args;
use comfy_table::Cell;
use proto::{
    selector::v1::{Effectiveness, GetEffectivenessRequest, GetEffectivenessResponse, Trend},
    types::v1::Category,
};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, number, toned},
    words::{parser, word},
};

/// Which tools.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib effectiveness
  toolcrib effectiveness web_search
  toolcrib effectiveness --agent researcher --category data_analysis")]
pub struct EffectivenessArgs {
    /// One tool, with its categories of task [default: every tool with history]
    tool: Option<String>,
    /// Only calls of this agent; of another than the caller for auditors alone
    #[arg(long)]
    agent: Option<String>,
    /// Only tasks of this category
    #[arg(long, value_parser = parser::<Category>())]
    category: Option<Category>,
    /// Most tools to show
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
}

/// Runs the command.
pub async fn run(args: EffectivenessArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    let question = GetEffectivenessRequest {
        tool_name: args.tool.unwrap_or_default(),
        agent_id: args.agent.unwrap_or_default(),
        category: args.category.map_or(0, |category| category as i32),
        ..GetEffectivenessRequest::default()
    };
    let (tools, next_page_token) = pages(args.limit as usize, async |page_size, page_token| {
        let request = GetEffectivenessRequest { page_size, page_token, ..question.clone() };
        let page = client.selector().get_effectiveness(request).await?.into_inner();
        Ok((page.tools, page.next_page_token))
    })
    .await?;
    let answer = GetEffectivenessResponse { tools, next_page_token };
    let is_one = !question.tool_name.is_empty();
    output.show(&answer, |view| match (&answer.tools[..], is_one) {
        ([tool], true) => page(tool, view),
        (tools, _) => table(tools, view),
    })?;
    output.more(&answer.next_page_token)
}

fn table(tools: &[Effectiveness], view: View) -> String {
    let headings =
        ["TOOL", "SUITABILITY", "", "RUNS", "SUCCESS", "MEAN", "P95", "COST", "QUALITY", "TREND", "ALARM"];
    let mut table = Table::new(&headings).whole(&[0, 1]);
    for tool in tools {
        table.row(vec![
            cell(&tool.tool_name),
            cell(human::bar(tool.suitability_score, 8)),
            number(format!("{:.2}", tool.suitability_score)),
            number(tool.executions.to_string()),
            number(rate(tool)),
            number(human::duration(tool.average_ms)),
            number(human::duration(tool.p95_ms)),
            number(cost(tool.average_cost_micro_usd)),
            number(quality(tool)),
            trend(tool.trend),
            alarm(tool, view),
        ]);
    }
    table.render(view, "no tool has history yet")
}

/// One tool in full.
fn page(tool: &Effectiveness, view: View) -> String {
    let interval = format!(
        "{} ({} to {} with 95 %)",
        percent(tool.success_rate),
        percent(tool.success_rate_low),
        percent(tool.success_rate_high)
    );
    let bar = human::bar(tool.suitability_score, 10);
    let rows = [
        ("tool", tool.tool_name.clone()),
        ("suitability", format!("{bar} {:.2}", tool.suitability_score)),
        (
            "runs",
            format!("{} of {} succeeded; {:.1} still count", tool.successes, tool.executions, tool.weight),
        ),
        ("success", interval),
        ("mean", human::duration(tool.average_ms)),
        ("p95", human::duration(tool.p95_ms)),
        ("cost", cost(tool.average_cost_micro_usd)),
        ("quality", quality(tool)),
        ("trend", told_trend(tool)),
        ("alarm", told_alarm(tool, view)),
    ];
    let mut parts = vec![details(&rows, view)];
    if !tool.categories.is_empty() {
        let mut table = Table::new(&["CATEGORY", "SUITABILITY", "", "RUNS", "SUCCESS"]).whole(&[0, 1]);
        for each in &tool.categories {
            table.row(vec![
                cell(word::<Category>(each.category)),
                cell(human::bar(each.suitability_score, 8)),
                number(format!("{:.2}", each.suitability_score)),
                number(each.executions.to_string()),
                number(percent(each.success_rate)),
            ]);
        }
        parts.push(table.render(view, ""));
    }
    parts.join("\n\n")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// Half the interval's width beside the rate: how far it may be off.
fn rate(tool: &Effectiveness) -> String {
    let off = (tool.success_rate_high - tool.success_rate_low) / 2.0;
    format!("{:.0} % \u{b1}{:.0}", tool.success_rate * 100.0, off * 100.0)
}

#[expect(clippy::cast_possible_truncation, reason = "an average of whole numbers of that size")]
fn cost(micro_usd: f64) -> String {
    human::cost(micro_usd.round() as i64)
}

fn quality(tool: &Effectiveness) -> String {
    tool.quality.map(|quality| format!("{quality:.2} ({})", tool.feedbacks)).unwrap_or_default()
}

/// The trend as an arrow in its colour.
pub(super) fn trend(number: i32) -> Cell {
    match Trend::try_from(number) {
        Ok(Trend::Improving) => toned("\u{2197} improving", Tone::Good),
        Ok(Trend::Stable) => toned("\u{2192} stable", Tone::Plain),
        Ok(Trend::Degrading) => toned("\u{2198} degrading", Tone::Bad),
        Ok(Trend::Unspecified) => cell(""),
        Err(_) => cell(number.to_string()),
    }
}

fn told_trend(tool: &Effectiveness) -> String {
    let trend = word::<Trend>(tool.trend);
    if tool.trend_of.is_empty() {
        return trend;
    }
    format!("{trend} in {} (p = {:.3})", tool.trend_of, tool.trend_p_value)
}

fn alarm(tool: &Effectiveness, view: View) -> Cell {
    match &tool.alarm {
        Some(alarm) => toned(human::moment(alarm.start_time.as_ref(), view.now), Tone::Bad),
        None => cell(""),
    }
}

fn told_alarm(tool: &Effectiveness, view: View) -> String {
    let Some(alarm) = &tool.alarm else { return String::new() };
    let cause = if alarm.failure_reason.is_empty() { "" } else { ", mostly " };
    format!(
        "since {}: {} of calls succeed, {} before{cause}{}",
        human::moment(alarm.start_time.as_ref(), view.now),
        percent(alarm.rate_since),
        percent(alarm.rate_before),
        alarm.failure_reason
    )
}

#[cfg(test)]
mod tests {
    use proto::selector::v1::{CategoryEffectiveness, DegradationAlarm};

    use super::*;
    use crate::cli::output::Style;

    fn view() -> View {
        View { style: Style { colour: false }, width: None, now: chrono::Utc::now() }
    }

    fn tool() -> Effectiveness {
        Effectiveness {
            tool_name: "web_search".into(),
            executions: 40,
            successes: 30,
            weight: 21.5,
            success_rate: 0.75,
            success_rate_low: 0.6,
            success_rate_high: 0.86,
            average_ms: 120.0,
            p95_ms: 480.0,
            average_cost_micro_usd: 499.6,
            quality: Some(0.8),
            feedbacks: 3,
            suitability_score: 0.5,
            trend: Trend::Degrading.into(),
            trend_p_value: 0.012,
            trend_of: "success".into(),
            alarm: Some(DegradationAlarm {
                start_time: Some(human::to_wire(chrono::Utc::now() - chrono::TimeDelta::minutes(5))),
                rate_before: 0.95,
                rate_since: 0.2,
                failure_reason: "TIMED_OUT".into(),
            }),
            categories: vec![CategoryEffectiveness {
                category: Category::WebSearch.into(),
                executions: 40,
                success_rate: 0.75,
                suitability_score: 0.25,
            }],
        }
    }

    #[test]
    fn a_list_has_a_line_a_tool_with_rate_trend_and_alarm() {
        let text = table(&[tool()], view());
        for told in ["████····", "0.50", "75 % ±13", "120ms", "$0.0005", "0.80 (3)", "↘ degrading", "5m ago"]
        {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
    }

    #[test]
    fn one_tool_is_told_in_full_with_its_categories() {
        let text = page(&tool(), view());
        for told in [
            "30 of 40 succeeded; 21.5 still count",
            "75.0 % (60.0 % to 86.0 % with 95 %)",
            "degrading in success (p = 0.012)",
            "since 5m ago: 20.0 % of calls succeed, 95.0 % before, mostly TIMED_OUT",
            "web_search  ██",
        ] {
            assert!(text.contains(told), "{told} is missing in\n{text}");
        }
    }
}
