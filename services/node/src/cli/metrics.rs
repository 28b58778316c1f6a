//! `toolcrib metrics`: the figures of the tools over the last seven days.

use clap::Args;
use proto::executor::v1::{
    GetToolMetricsRequest, GetToolMetricsResponse, ListToolMetricsRequest, ListToolMetricsResponse,
    ToolMetrics,
};

use super::{
    client::{Client, pages},
    error::Error,
    human,
    output::{Output, Tone, View},
    table::{Table, cell, details, number, toned},
};

/// Whose figures.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  toolcrib metrics
  toolcrib metrics python_sandbox --refresh")]
pub struct MetricsArgs {
    /// Only of this tool, in full
    tool: Option<String>,
    /// Make them anew first; they are every five minutes
    #[arg(long)]
    refresh: bool,
}

/// Runs the command.
pub async fn run(args: MetricsArgs, client: &Client, output: &mut Output) -> Result<(), Error> {
    match args.tool {
        Some(tool) => one(tool, args.refresh, client, output).await,
        None => all(args.refresh, client, output).await,
    }
}

async fn one(tool_name: String, refresh: bool, client: &Client, output: &mut Output) -> Result<(), Error> {
    let request = GetToolMetricsRequest { tool_name, refresh };
    let answer: GetToolMetricsResponse = client.executor().get_tool_metrics(request).await?.into_inner();
    let metrics = answer.metrics.clone().ok_or_else(|| Error::incomplete("figures"))?;
    output.show(&answer, |view| {
        format!("{}\n{}", details(&rows(&metrics, view), view), as_of(answer.as_of.as_ref(), view))
    })
}

async fn all(refresh: bool, client: &Client, output: &mut Output) -> Result<(), Error> {
    let mut as_of_last = None;
    let (metrics, next_page_token) = pages(usize::MAX, async |page_size, page_token| {
        // Once is enough: the pages are of the same figures.
        let refresh = refresh && page_token.is_empty();
        let request = ListToolMetricsRequest { refresh, page_size, page_token };
        let page = client.executor().list_tool_metrics(request).await?.into_inner();
        as_of_last = page.as_of;
        Ok((page.metrics, page.next_page_token))
    })
    .await?;
    let answer = ListToolMetricsResponse { metrics, as_of: as_of_last, next_page_token };
    output.show(&answer, |view| {
        format!("{}\n\n{}", table(&answer.metrics, view), as_of(answer.as_of.as_ref(), view))
    })
}

fn as_of(time: Option<&prost_types::Timestamp>, view: View) -> String {
    let text = format!("over 7 days, as of {}", human::moment(time, view.now));
    view.style.paint(&text, Tone::Dim)
}

fn share(metrics: &ToolMetrics) -> String {
    if metrics.executions == 0 { String::new() } else { format!("{:.1} %", metrics.success_rate * 100.0) }
}

/// A mean as a cost: parts of a millionth are not told.
fn mean_cost(micro_usd: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "rounded, and no mean cost is near 2^63")]
    let micro_usd = micro_usd.round() as i64;
    human::cost(micro_usd)
}

fn table(metrics: &[ToolMetrics], view: View) -> String {
    let headings = [
        "TOOL",
        "RUNS",
        "SUCCESS",
        "FAILED",
        "TIMED OUT",
        "MEAN",
        "P50",
        "P95",
        "P99",
        "COST",
        "CACHED",
        "LAST",
    ];
    let mut table = Table::new(&headings).whole(&[0]);
    for each in metrics {
        let tone = match each.success_rate {
            _ if each.executions == 0 => Tone::Dim,
            rate if rate >= 0.95 => Tone::Good,
            rate if rate >= 0.8 => Tone::Warn,
            _ => Tone::Bad,
        };
        let mut cells = vec![
            cell(&each.tool_name),
            number(each.executions.to_string()),
            toned(share(each), tone),
            number(each.failures.to_string()),
            number(each.timeouts.to_string()),
        ];
        cells.extend(
            [each.average_ms, each.p50_ms, each.p95_ms, each.p99_ms].map(human::duration).map(number),
        );
        cells.push(number(human::cost(each.cost_micro_usd)));
        cells.push(number(each.cache_hits.to_string()));
        cells.push(cell(human::moment(each.last_use.as_ref(), view.now)));
        table.row(cells);
    }
    table.render(view, "no tool ran in the last 7 days")
}

fn rows(metrics: &ToolMetrics, view: View) -> Vec<(&'static str, String)> {
    let tokens = metrics.tokens.unwrap_or_default();
    vec![
        ("tool", metrics.tool_name.clone()),
        ("runs", metrics.executions.to_string()),
        ("succeeded", metrics.successes.to_string()),
        ("failed", metrics.failures.to_string()),
        ("timed out", metrics.timeouts.to_string()),
        ("success rate", share(metrics)),
        ("mean", human::duration(metrics.average_ms)),
        ("p50", human::duration(metrics.p50_ms)),
        ("p95", human::duration(metrics.p95_ms)),
        ("p99", human::duration(metrics.p99_ms)),
        ("cost", human::cost(metrics.cost_micro_usd)),
        ("mean cost", mean_cost(metrics.average_cost_micro_usd)),
        ("tokens", format!("{} in, {} out", tokens.input_tokens, tokens.output_tokens)),
        ("retries", metrics.retries.to_string()),
        ("fallbacks", metrics.fallbacks.to_string()),
        ("from the cache", metrics.cache_hits.to_string()),
        ("last use", human::moment_in_full(metrics.last_use.as_ref(), view.now)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Style;

    #[test]
    fn figures_are_told_as_people_read_them() {
        let view = View { style: Style { colour: false }, width: None, now: chrono::Utc::now() };
        let metrics = ToolMetrics {
            tool_name: "adder".into(),
            executions: 8,
            successes: 7,
            success_rate: 0.875,
            p99_ms: 1_240.0,
            average_cost_micro_usd: 499.6,
            ..ToolMetrics::default()
        };
        let table = table(std::slice::from_ref(&metrics), view);
        assert!(table.contains("87.5 %") && table.contains("1.2s"), "{table}");
        let text = details(&rows(&metrics, view), view);
        assert!(text.contains("mean cost       $0.0005"), "{text}");
        let idle = ToolMetrics { tool_name: "idle".into(), ..ToolMetrics::default() };
        assert!(!details(&rows(&idle, view), view).contains('%'));
    }
}
